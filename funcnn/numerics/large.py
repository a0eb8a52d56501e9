"""Large products, which several threads share, or a compiled kernel takes."""

from __future__ import annotations

import numpy as np

from funcnn.machine.threads import share
from funcnn.numerics.modes import arithmetic
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
LARGE = 1 << 21  # multiplications of a product that a compiled one is faster than
MANY = 1 << 14  # and numbers of a sum
_SHARED = 1 << 24  # and of one that is done sooner with another thread's help


@compiled_in("funcnn.numerics.fast_compiled", "funcnn.numerics._compiled")
def large_matmul(a: Array, b: Array, out: Array | None = None, plus: Array | None = None) -> Array:
    """`matmul` in 2, 4 or 8 parts of the rows, by its size, on the team's threads.

    What is added to the product, if anything, has its columns, or one for all, or its rows.
    """
    product = _shared(a, b) if out is None else arithmetic().matmul(a, b, out)
    if plus is not None:
        product += plus
    return product


def _shared(a: Array, b: Array) -> Array:
    multiply, size = arithmetic().matmul, a.size * b.shape[-1]
    if size < _SHARED or not a.ndim == b.ndim == 2 or len(a) < 8:
        return multiply(a, b)
    count = 2 if size < 8 * _SHARED else 4 if size < 32 * _SHARED else 8
    product = np.empty((len(a), b.shape[1]), np.result_type(a, b))

    def multiply_some(i: int) -> None:
        part = slice(len(a) * i // count, len(a) * (i + 1) // count)
        multiply(a[part], b, product[part])

    share(multiply_some, count)
    return product


@compiled_in("funcnn.numerics.fast_compiled")
def added_rows(x: Array) -> Array:
    """The sum of the rows of a large matrix."""
    return arithmetic().sum(x, 0)
