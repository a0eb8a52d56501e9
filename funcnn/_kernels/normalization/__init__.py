"""Mean 0 and variance 1 over some axes, its pullback, and the size of what stands side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, reduce
from math import prod
from operator import add
from typing import Any, NamedTuple

import numpy as np

from funcnn import numerics
from funcnn._kernels.broadcasting import stretched
from funcnn.machine.lockstep import Shard
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_FOLDER = "funcnn._kernels.normalization"
_compiled = compiled_in(f"{_FOLDER}.compiled")
_portable = compiled_in(portable=f"{_FOLDER}.portable_compiled")
_always_compiled = compiled_in(f"{_FOLDER}.compiled", f"{_FOLDER}.portable_compiled")
FLAT = 2.0**-10  # a deviation below so much of the mean is dominated by the mean's rounding


class Centred(NamedTuple):
    """What `centre` gives; all but the offsets with size 1 along the axes that it averaged over.

    Where squares would overflow or vanish, offsets and rstd are those of ``shrink * x``; elsewhere
    `shrink` is 1, or None if it is everywhere.
    """

    offset: Array
    rstd: Array
    mean: Array
    variance: Array
    shrink: Array | None


def centre(
    x: Array, axes: tuple[int, ...], epsilon: float, centred: bool = True, shard: Shard | None = None
) -> Centred:
    """``x - mean`` and ``1 / sqrt(variance + epsilon)``; if not `centred`, the mean counts as 0.

    Of a shard of a batch, mean and variance are those of the batch.
    """
    offset, mean, variance = deviations(x, axes, centred, shard)
    rstd = plain_roots(mean, variance, epsilon)
    if rstd is None and not x.size:
        rstd = numerics.rsqrt(variance + epsilon)
    if rstd is not None:
        return Centred(offset, rstd, mean, variance, None)
    large, small, flat = _odd(mean, variance, epsilon)
    # Groups that are almost constant are centred once more, from their first element on: then what is
    # constant is exactly 0. Groups of huge or tiny numbers are multiplied by a power of 2, which is
    # exact. The bits of all other groups stay.
    again = x * np.where(large, x.dtype.type(0.5), 1)
    offset = offset if centred else x.copy(order="K")  # in the same order, which chooses the kernels
    first = x[tuple(slice(1) if k in axes else slice(None) for k in range(x.ndim))]
    first = _everyones(first, shard)[0]
    again = again - first * np.where(large, x.dtype.type(0.5), 1) if centred else again
    tops = _everyones(np.maximum.reduce(np.abs(again), axes, keepdims=True), shard)
    top, lowest = np.maximum.reduce(tops), np.finfo(x.dtype).minexp
    size = np.where(top > 0, np.frexp(top)[1], lowest)
    root = math.frexp(math.sqrt(epsilon))[1] if epsilon else lowest
    power = np.where(large, np.maximum(size, 0), np.where(small, np.maximum(size, root), 0))
    shrink = np.ldexp(x.dtype.type(1), -np.maximum(power, lowest))
    again *= shrink
    shrink *= np.where(large, x.dtype.type(0.5), 1)
    if centred:
        rest = mean_over(again, axes, shard)
        again -= rest
        mean = np.where(flat, first + rest / shrink, mean)
    np.copyto(offset, again, where=flat)
    variance = np.where(flat, mean_over(offset * offset, axes, shard), variance)
    total = variance + (epsilon * shrink.astype(np.float64) * shrink).astype(x.dtype)
    rstd = np.where(total == 0, x.dtype.type(0), numerics.rsqrt(total))
    rescaled = (large | small).any()
    return Centred(offset, rstd, mean, variance / shrink / shrink, shrink if rescaled else None)


def normalized(
    x: Array,
    axes: tuple[int, ...],
    epsilon: float,
    scale: Array | None,
    bias: Array | None,
    centred: bool = True,
    shard: Shard | None = None,
) -> tuple[Centred, Array]:
    """What `centre` gives, and `scaled` makes of it."""
    if centred and shard is None and (found := at_once(x, axes, epsilon, scale, bias)) is not None:
        return found
    at = centre(x, axes, epsilon, centred, shard)
    return at, scaled(at.offset, at.rstd, scale, bias)


@_compiled
def at_once(
    x: Array, axes: tuple[int, ...], epsilon: float, scale: Array | None, bias: Array | None
) -> tuple[Centred, Array] | None:
    """The same, if a compiled kernel has it, and no group is almost constant, huge or tiny."""
    return None


@_compiled
def plain_roots(mean: Array, variance: Array, epsilon: float) -> Array | None:
    """``1 / sqrt(variance + epsilon)``, if no group is almost constant, huge or tiny."""
    flat = _odd(mean, variance, epsilon)[2]
    return None if flat.any() else numerics.rsqrt(variance + epsilon)


def _odd(mean: Array, variance: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """Which groups are huge, which are tiny, and which are one of these, or almost constant."""
    large, small = ~(variance < np.inf), variance < smallest(variance.dtype, epsilon)
    return large, small, large | small | (np.sqrt(variance) < FLAT * np.abs(mean))


@cache
def smallest(dtype: np.dtype[Any], epsilon: float) -> float:
    """The least variance whose digits count beside epsilon."""
    least = _least(dtype)
    return least if epsilon < least else 0.0


@_always_compiled
def deviations(
    x: Array, axes: tuple[int, ...], centred: bool, shard: Shard | None
) -> tuple[Array, Array, Array]:
    """``x - mean``, the mean, and the mean of the squares; axes kept."""
    mean = mean_over(x, axes, shard) if centred else np.zeros((1,) * x.ndim, x.dtype)
    offset = x - stretched(mean, x) if centred else x
    return offset, mean, mean_over(offset * offset, axes, shard)


def mean_over(x: Array, axes: tuple[int, ...], shard: Shard | None) -> Array:
    """The mean over some axes, which are kept, and over all shards of the batch."""
    if shard is None:
        return numerics.mean(x, axes, keepdims=True)
    total, count = _added(shard, numerics.sum(x, axes, keepdims=True), count_of(x, axes))
    return np.asarray(total / x.dtype.type(count))


def count_of(x: Array, axes: tuple[int, ...], shard: Shard | None = None) -> int:
    """How many numbers lie along some axes, in all shards of the batch."""
    count = prod(map(x.shape.__getitem__, axes))
    return count if shard is None else int(_added(shard, count)[0])


def _everyones(value: Array, shard: Shard | None) -> list[Array]:
    return [value] if shard is None else shard.everyones(value)


def _added(shard: Shard, *values: Any) -> list[Any]:
    """Sums over all shards of the batch, first to last."""
    return [reduce(add, several) for several in zip(*shard.everyones(values), strict=True)]


def inverse_root(variance: Array, epsilon: float) -> Array:
    """``1 / sqrt(variance + epsilon)`` of given variances, and 0 where both are 0."""
    if epsilon >= _least(variance.dtype):
        return numerics.rsqrt(variance + epsilon)
    total = variance.astype(np.float64) + epsilon  # float32 may not hold it
    return np.where(total == 0, 0, numerics.rsqrt(total)).astype(variance.dtype)


def _least(dtype: np.dtype[Any]) -> float:
    """The root of the smallest normal number: what is smaller loses digits when it is squared."""
    return float(np.sqrt(np.finfo(dtype).tiny))


@_always_compiled
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
    far = ~(np.abs(mean) * rstd <= 1 / FLAT)
    if far.any():
        np.copyto(out, scaled(offset, rstd, scale, bias), where=far)
    return out, offset


def scale_gradients(dout: Array, values: Array, scale: Array) -> tuple[Array, Array]:
    """``dscale = sum(dout * values)`` and ``dbias = sum(dout)``, where a scale has only size 1."""
    others = tuple(axis for axis, size in enumerate(scale.shape) if size == 1)
    return _sums(dout * values, others), _sums(dout, others)


@_compiled
def centre_gradients(
    dout: Array,
    offset: Array,
    rstd: Array,
    scale: Array,
    shrink: Array | None,
    axes: tuple[int, ...],
    centred: bool = True,
    shard: Shard | None = None,
) -> tuple[Array, Array, Array]:
    """``dx``, ``dscale`` and ``dbias`` of ``scale * values + bias``; the scale broadcasts.

    With ``values = offset * rstd`` and ``dvalues = scale * dout``,
    ``dx = rstd * (dvalues - mean(dvalues) - values * mean(dvalues * values))``, times `shrink`.
    Of a shard of a batch, means are those of the batch, and dscale and dbias are its own part.
    """
    # Where one scale serves several elements it comes out of their sum, which is small.
    alike = tuple(axis for axis in axes if scale.shape[axis] == 1)
    weighted, total = _sums_of_products(dout, offset, alike), _sums(dout, alike)
    if dout.size:  # over nothing the rstd is NaN, but the sums are 0
        weighted *= stretched(rstd, weighted)
    others = tuple(axis for axis, size in enumerate(scale.shape) if size == 1)
    dscale, dbias = _sums(weighted, others), _sums(total, others)
    count = count_of(dout, axes)
    if shard is not None:
        weighted, total, count = _added(shard, weighted, total, count)
    factor = rstd / rstd.dtype.type(count)
    share = _scaled_sums(weighted, scale, axes) * (factor * rstd)
    middle = _scaled_sums(total, scale, axes) * factor if centred else None
    dx = combined(dout, scale, rstd, offset, share, middle, shrink)
    return dx, dscale, dbias


@_portable
def combined(
    dout: Array, scale: Array, rstd: Array, offset: Array, share: Array,
    middle: Array | None, shrink: Array | None,
) -> Array:  # fmt: skip
    """``(dout * (scale * rstd) - offset * share - middle) * shrink``."""
    dx: Array = dout * stretched(scale * rstd, dout)
    dx -= offset * stretched(share, offset)
    if middle is not None:
        dx -= stretched(middle, dx)
    if shrink is not None:
        dx *= shrink
    return dx


def _sums_of_products(x: Array, y: Array, axes: tuple[int, ...]) -> Array:
    return products_over(x, y, axes) if axes else x * y


@_portable
def products_over(x: Array, y: Array, axes: tuple[int, ...]) -> Array:
    """``sum(x * y)``; axes kept."""
    return numerics.sum(x * y, axes, keepdims=True)


def _sums(x: Array, axes: tuple[int, ...]) -> Array:
    return numerics.sum(x, axes, keepdims=True) if axes else x


def _scaled_sums(x: Array, scale: Array, axes: tuple[int, ...]) -> Array:
    """``sum(x * scale)``, along the last axis as a product of matrices: in one go."""
    if axes == (x.ndim - 1,) and x.shape[-1] == scale.size:
        return numerics.matmul(x, scale.reshape(-1, 1))
    return numerics.sum(x * scale, axes, keepdims=True)


# A window's root mean square as a chain of hypotenuses: nothing is squared that could overflow.


def window_roots(x: Array, weight: float, least: float, before: int, after: int, axis: int) -> Array:
    """``sqrt(least^2 + sum (weight x)^2)`` over each element and its neighbours along an axis."""
    x = np.moveaxis(x, axis, 0) * x.dtype.type(weight)
    roots = _hypotenuse(x, x.dtype.type(max(least, float(np.finfo(x.dtype).tiny))))
    for here, there in _neighbours(len(x), before, after):
        roots[here] = _hypotenuse(roots[here], x[there])
    return np.moveaxis(roots, 0, axis)


def window_shares(
    slope: Array, x: Array, roots: Array, weight: float, before: int, after: int, axis: int
) -> Array:
    """``sum_i slope_i (weight x_j / r_i)`` over the windows ``i`` that see ``j``."""
    slope, x, roots = (np.moveaxis(each, axis, 0) for each in (slope, x, roots))
    x = x * x.dtype.type(weight)
    shares = slope * (x / roots)
    for here, there in _neighbours(len(x), before, after):
        shares[there] += slope[here] * (x[there] / roots[here])
    return np.moveaxis(shares, 0, axis)


def _neighbours(count: int, before: int, after: int) -> Iterator[tuple[slice, slice]]:
    """The elements that have a neighbour so many steps away, and these neighbours."""
    for step in range(1, min(before, count - 1) + 1):
        yield slice(step, None), slice(None, -step)
    for step in range(1, min(after, count - 1) + 1):
        yield slice(None, -step), slice(step, None)


def _hypotenuse(a: Array, b: Array) -> Array:
    """``sqrt(a^2 + b^2)``, in portable operations."""
    a, b = np.abs(a), np.abs(b)
    large, small = np.maximum(a, b), np.minimum(a, b)
    info = np.finfo(large.dtype)
    ratio = small / large.clip(info.smallest_subnormal, info.max)  # 0 of 0, infinity of infinity
    return np.asarray(large * np.sqrt(1 + ratio * ratio))
