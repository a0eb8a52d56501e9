"""Memory that is used again instead of given back.

A training step makes and drops the same large arrays again and again. glibc returns the memory of
each to the system, and fetches it back page by page: measured, that cost more than the arithmetic
of a small network (0.5 to 4.5 microseconds for each 4 KiB page, by machine). Keeping up to a
gigabyte of freed memory in the process avoids it. Where the C library is another, nothing is done.
"""

from __future__ import annotations

import os
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # the numbers of glibc's malloc.h


@cache
def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed, once; the environment's ``FUNCNN_KEEP_MEMORY=0`` forbids it."""
    if os.environ.get("FUNCNN_KEEP_MEMORY") == "0" or not hasattr(os, "confstr"):
        return
    try:
        glibc = os.confstr("CS_GNU_LIBC_VERSION")
    except ValueError:
        return
    if glibc:
        import ctypes  # deferred: NumPy does not need it to start

        process = ctypes.CDLL(None)
        process.mallopt(_MMAP_THRESHOLD, 1 << 25)  # the largest that glibc takes
        process.mallopt(_TRIM_THRESHOLD, 1 << 30)
