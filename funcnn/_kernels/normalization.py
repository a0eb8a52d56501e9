"""Mean 0 and variance 1 over some axes, its pullback, and sums over windows of neighbours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from funcnn import numerics
from funcnn.types import Array


class Normalized(NamedTuple):
    """What `normalize` gives; all but the values with size 1 along the axes that it averaged over."""

    values: Array
    rstd: Array
    mean: Array
    variance: Array


def normalize(x: Array, axes: tuple[int, ...], epsilon: float, centred: bool = True) -> Normalized:
    """``(x - mean) / sqrt(variance + epsilon)``; if not `centred`, the mean counts as 0."""
    mean = numerics.mean(x, axes, keepdims=True) if centred else np.zeros((1,) * x.ndim, x.dtype)
    offset = x - mean if centred else x
    square = offset * offset
    variance = numerics.mean(square, axes, keepdims=True)
    rstd = numerics.rsqrt(variance + epsilon)
    return Normalized(np.multiply(offset, rstd, out=square), rstd, mean, variance)


def normalize_gradient(
    dvalues: Array, values: Array, rstd: Array, axes: tuple[int, ...], centred: bool = True
) -> Array:
    """``dx = rstd * (dvalues - mean(dvalues) - values * mean(dvalues * values))``."""
    dx = dvalues * values
    share = numerics.mean(dx, axes, keepdims=True)
    np.multiply(values, share, out=dx)
    np.subtract(dvalues, dx, out=dx)
    if centred:
        dx -= numerics.mean(dvalues, axes, keepdims=True)
    dx *= rstd
    return dx


def window_sums(x: Array, before: int, after: int, axis: int) -> Array:
    """Sums of each element with its neighbours along an axis; there is nothing beyond the ends."""
    x = np.moveaxis(x, axis, 0)
    sums = x.copy(order="K")
    for step in range(1, min(before, len(x) - 1) + 1):
        sums[step:] += x[:-step]
    for step in range(1, min(after, len(x) - 1) + 1):
        sums[:-step] += x[step:]
    return np.moveaxis(sums, 0, axis)
