"""Arithmetic on many short runs of memory.

NumPy copies runs that are shorter than its buffer, 8192 numbers, into it before it works on them. The
copies of two operands and of the result do not fit into the first-level cache together; those of a
buffer of 1024 numbers do, and a run that is longer needs none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate

import numpy as np

from funcnn.types import Array, P, R

# Measured in November 2026, on the machines that `convolution.plans` names.
_BUFFER = 1024  # numbers
_SMALL = 1 << 13  # numbers of an array for which changing the buffer is not worth its cost


def short_runs(kernel: Callable[Concatenate[Array, P], R]) -> Callable[Concatenate[Array, P], R]:
    """Let a kernel run with the small buffer where its first argument, an array, is large."""

    @wraps(kernel)
    def run(array: Array, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if array.size <= _SMALL:
            return kernel(array, *args, **kwargs)
        before = np.setbufsize(_BUFFER)
        try:
            return kernel(array, *args, **kwargs)
        finally:
            np.setbufsize(before)

    return run
