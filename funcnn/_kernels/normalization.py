"""Mean 0 and variance 1 over some axes, its pullback, and sums over windows of neighbours."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from funcnn import numerics
from funcnn._kernels.broadcasting import stretched
from funcnn.types import Array

_FLAT = 2.0**-10  # a deviation below so much of the mean is dominated by the mean's rounding


class Centred(NamedTuple):
    """What `centre` gives; all but the offsets with size 1 along the axes that it averaged over.

    Where squares would overflow, offsets and rstd are those of ``shrink * x``; elsewhere `shrink` is
    1, or None if it is everywhere.
    """

    offset: Array
    rstd: Array
    mean: Array
    variance: Array
    shrink: Array | None


def centre(x: Array, axes: tuple[int, ...], epsilon: float, centred: bool = True) -> Centred:
    """``x - mean`` and ``1 / sqrt(variance + epsilon)``; if not `centred`, the mean counts as 0."""
    mean = numerics.mean(x, axes, keepdims=True) if centred else np.zeros((1,) * x.ndim, x.dtype)
    offset = x - stretched(mean, x) if centred else x
    variance = numerics.mean(offset * offset, axes, keepdims=True)
    large = ~(variance < np.inf)
    flat = large | (np.sqrt(variance) < _FLAT * np.abs(mean))
    if not (x.size and flat.any()):
        return Centred(offset, numerics.rsqrt(variance + epsilon), mean, variance, None)
    # Groups that are almost constant are centred once more, from their first element on: then what is
    # constant is exactly 0. Groups of huge numbers are divided by a power of 2, which is exact. The
    # bits of all other groups stay.
    again, offset = x * np.where(large, x.dtype.type(0.5), 1), offset.copy(order="K")
    first = tuple(slice(1) if k in axes else slice(None) for k in range(x.ndim))
    again = again - again[first] if centred else again
    size = np.frexp(np.maximum.reduce(np.abs(again), axes, keepdims=True))[1]
    shrink = np.ldexp(x.dtype.type(1), np.where(large, -np.maximum(size, 0), 0))
    again *= shrink
    shrink *= np.where(large, x.dtype.type(0.5), 1)
    if centred:
        rest = numerics.mean(again, axes, keepdims=True)
        again -= rest
        mean = np.where(flat, x[first] + rest / shrink, mean)
    np.copyto(offset, again, where=flat)
    variance = numerics.mean(offset * offset, axes, keepdims=True)
    rstd = numerics.rsqrt(variance + epsilon * (shrink * shrink))
    return Centred(offset, rstd, mean, variance / (shrink * shrink), shrink if large.any() else None)


def scaled(offset: Array, rstd: Array, scale: Array | None, bias: Array | None) -> Array:
    """``scale * offset * rstd + bias``, in one pass less where scale and rstd are both small."""
    if scale is None:
        out: Array = offset * stretched(rstd, offset)
    elif rstd.size * scale.size < offset.size:
        out = offset * stretched(rstd * scale, offset)
    else:
        out = offset * stretched(rstd, offset)
        out *= scale
    if bias is not None:
        out += bias
    return out


def standardized(
    x: Array, mean: Array, rstd: Array, scale: Array, bias: Array | None
) -> tuple[Array, Array]:
    """``scale * (x - mean) * rstd + bias`` for given statistics, and the offsets ``x - mean``.

    The mean is subtracted last, in one pass over `x`, but where it is so many deviations that its
    rounding would show.
    """
    offset, factor = x - mean, scale * rstd
    out = x * factor
    out += (0 if bias is None else bias) - mean * factor
    far = ~(np.abs(mean) * rstd <= 1 / _FLAT)
    if far.any():
        np.copyto(out, scaled(offset, rstd, scale, bias), where=far)
    return out, offset


def scale_gradients(dout: Array, values: Array, scale: Array) -> tuple[Array, Array]:
    """``dscale = sum(dout * values)`` and ``dbias = sum(dout)``, where a scale has only size 1."""
    others = tuple(axis for axis, size in enumerate(scale.shape) if size == 1)
    return _sums(dout * values, others), _sums(dout, others)


def centre_gradients(
    dout: Array,
    offset: Array,
    rstd: Array,
    scale: Array,
    shrink: Array | None,
    axes: tuple[int, ...],
    centred: bool = True,
) -> tuple[Array, Array, Array]:
    """``dx``, ``dscale`` and ``dbias`` of ``scale * values + bias``; the scale broadcasts.

    With ``values = offset * rstd`` and ``dvalues = scale * dout``,
    ``dx = rstd * (dvalues - mean(dvalues) - values * mean(dvalues * values))``, times `shrink`.
    """
    product = dout * offset
    # Where one scale serves several elements it comes out of their sum, which is small.
    alike = tuple(axis for axis in axes if scale.shape[axis] == 1)
    weighted, total = _sums(product, alike), _sums(dout, alike)
    if dout.size:  # over nothing the rstd is NaN, but the sums are 0
        weighted *= stretched(rstd, weighted)
    others = tuple(axis for axis, size in enumerate(scale.shape) if size == 1)
    dscale, dbias = _sums(weighted, others), _sums(total, others)
    factor = rstd / rstd.dtype.type(prod(dout.shape[axis] for axis in axes))
    share = _scaled_sums(weighted, scale, axes) * (factor * rstd)
    dx = dout * stretched(scale * rstd, dout)
    np.multiply(offset, stretched(share, offset), out=product)
    dx -= product
    if centred:
        dx -= stretched(_scaled_sums(total, scale, axes) * factor, dx)
    if shrink is not None:
        dx *= shrink
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
