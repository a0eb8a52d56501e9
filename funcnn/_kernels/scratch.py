"""Memory that a kernel borrows for the length of one call.

Fresh memory is slow: the first touch of every page costs more than the arithmetic on it. So each
thread keeps a few buffers and lends them out by name. A result never lies in one of them.

Results are fresh memory each time, but need not be fresh pages: see `funcnn.numerics._memory`.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from funcnn.types import Array

_LINE = 64  # bytes of a cache line, and of the widest load
_KEPT = 1 << 23  # bytes; what is larger goes back to the system


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_name: dict[str, Array] = {}


_buffers = _Buffers()


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised array, overwritten by this thread's next call with the same name."""
    size = math.prod(shape) * dtype.itemsize
    buffer = _buffers.by_name.get(name)
    if buffer is None or buffer.size < size:
        raw = np.empty(size + _LINE, np.uint8)
        start = -raw.ctypes.data % _LINE
        buffer = raw[start : start + size]
        if size <= _KEPT:
            _buffers.by_name[name] = buffer
    return np.ndarray(shape, dtype, buffer)
