"""Memory that is used again instead of given back.

Fresh memory is slow: the first touch of every page costs more than the arithmetic on it. So each
thread keeps a few buffers, which `scratch` lends by name while somebody holds what it gave; a result
never lies in one of them. Results are fresh memory each time, but need not be fresh pages.

A training step makes and drops the same large arrays again and again. glibc returns the memory of
each to the system, and fetches it back page by page: measured, that cost more than the arithmetic
of a small network (0.5 to 4.5 microseconds for each 4 KiB page, by machine). Keeping up to a
gigabyte of freed memory in the process avoids it. Where the C library is another, nothing is done.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import threading
from functools import cache
from typing import Any

import numpy as np

from funcnn.types import Array

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
        process = ctypes.CDLL(None)
        process.mallopt(_MMAP_THRESHOLD, 1 << 25)  # the largest that glibc takes
        process.mallopt(_TRIM_THRESHOLD, 1 << 30)


_LINE = 64  # bytes of a cache line, and of the widest load
_SMALL = 1 << 14  # bytes that are worth less than the search for a line
_KEPT = 1 << 23  # bytes, a bound on memory: a block of columns; what is larger goes back to the system


def fresh(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """`numpy.empty`; if large, it begins at a cache line: a wide load from the middle takes two."""
    size = math.prod(shape) * dtype.itemsize
    if size < _SMALL:
        return np.empty(shape, dtype)
    raw = np.empty(size + _LINE, np.uint8)
    return np.ndarray(shape, dtype, raw, -address(raw) % _LINE)


_field = ctypes.c_void_p.from_address


def address(x: Array) -> int:
    """Where an array begins, whatever its strides: what PyArrayObject adds to an object first.

    `x.__array_interface__` says the same, in nine times the time.
    """
    return _field(id(x) + object.__basicsize__).value or 0


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_name: dict[str, tuple[Array, int]] = {}  # each with the place of its first line


_buffers = _Buffers()
_NOTHING = np.empty(0, np.uint8), 0


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised array, in memory that this thread uses again once nobody holds the array.

    Whoever interrupts the holder, such as the handler of a signal, is lent other memory.
    """
    size = math.prod(shape) * dtype.itemsize
    raw, line = _buffers.by_name.get(name, _NOTHING)
    if raw.size < size + _LINE or sys.getrefcount(raw) > _UNUSED:
        raw = np.empty(max(size, _SMALL) + _LINE, np.uint8)
        line = -address(raw) % _LINE
        if size <= _KEPT:
            _buffers.by_name[name] = raw, line
    return np.ndarray(shape, dtype, raw, line)


def _references() -> int:
    """How many `scratch` counts where nobody holds an array: the count depends on the interpreter."""
    by_name = {"": (np.empty(0, np.uint8), 0)}
    raw, _ = by_name.get("", _NOTHING)
    return sys.getrefcount(raw)


_UNUSED = _references()
