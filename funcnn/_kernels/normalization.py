"""Mean 0 and variance 1 over some axes, its pullback, and sums over windows of neighbours."""

from __future__ import annotations

from math import prod
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


def scale_gradients(dout: Array, values: Array, scale: Array) -> tuple[Array, Array]:
    """``dscale = sum(dout * values)`` and ``dbias = sum(dout)``, where a scale has only size 1."""
    others = tuple(axis for axis, size in enumerate(scale.shape) if size == 1)
    return _sums(dout * values, others), _sums(dout, others)


def normalize_gradients(
    dout: Array,
    values: Array,
    rstd: Array,
    scale: Array,
    axes: tuple[int, ...],
    centred: bool = True,
) -> tuple[Array, Array, Array]:
    """``dx``, ``dscale`` and ``dbias`` of ``scale * values + bias``; the scale broadcasts.

    With ``dvalues = scale * dout``,
    ``dx = rstd * (dvalues - mean(dvalues) - values * mean(dvalues * values))``.
    """
    product = dout * values
    # Where one scale serves several elements it comes out of their sum, which is small.
    alike = tuple(axis for axis in axes if scale.shape[axis] == 1)
    weighted, total = _sums(product, alike), _sums(dout, alike)
    others = tuple(axis for axis, size in enumerate(scale.shape) if size == 1)
    dscale, dbias = _sums(weighted, others), _sums(total, others)
    factor = rstd / rstd.dtype.type(prod(dout.shape[axis] for axis in axes))
    share = _scaled_sums(weighted, scale, axes) * factor
    dx = dout * (scale * rstd)
    dx -= np.multiply(values, share, out=product)
    if centred:
        dx -= _scaled_sums(total, scale, axes) * factor
    return dx, dscale, dbias


def _sums(x: Array, axes: tuple[int, ...]) -> Array:
    return numerics.sum(x, axes, keepdims=True) if axes else x


def _scaled_sums(x: Array, scale: Array, axes: tuple[int, ...]) -> Array:
    """``sum(x * scale)``, along the last axis as a product of matrices: in one go."""
    if axes == (x.ndim - 1,) and x.shape[-1] == scale.size:
        return numerics.matmul(x, scale.reshape(-1, 1))
    return numerics.sum(x * scale, axes, keepdims=True)


def window_sums(x: Array, before: int, after: int, axis: int) -> Array:
    """Sums of each element with its neighbours along an axis; there is nothing beyond the ends."""
    x = np.moveaxis(x, axis, 0)
    sums = x.copy(order="K")
    for step in range(1, min(before, len(x) - 1) + 1):
        sums[step:] += x[:-step]
    for step in range(1, min(after, len(x) - 1) + 1):
        sums[:-step] += x[step:]
    return np.moveaxis(sums, 0, axis)
