"""Pooling into a given number of places: bins that differ in size by one at most, and may overlap.

Place ``i`` of ``o`` along an axis of ``n`` elements sees those from ``floor(i n / o)`` up to, but not
with, ``ceil((i + 1) n / o)``. Where all bins are equal and small, they are an ordinary window.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn._kernels.elementwise import chosen, without_overflow
from funcnn._kernels.images import batch_first, batch_last
from funcnn._kernels.pooling import separable as pooling
from funcnn._kernels.runs import short_runs
from funcnn._kernels.windows import Window, window
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_compiled = compiled_in("funcnn._kernels.pooling.compiled")

# Measured in November 2026 on an AMD EPYC (two cores, AVX-512, 1 MiB of second-level cache):
# bins of 6 slices take a fifth less time if they are added one by one.
_FEW = 8  # slices


def average(x: Array, places: tuple[int, ...]) -> tuple[Array, None]:
    """The mean of each bin: ``(N, C, *spatial) -> (N, C, *places)``; no record, see `maximum`."""
    terms, out = math.prod(x.shape[2:]), _average(x, places)
    return without_overflow(out, lambda shrink: _average(shrink * x, places), terms), None


def _average(x: Array, places: tuple[int, ...]) -> Array:
    at = _window(x.shape[2:], places)
    return means(x, places) if at is None else pooling.average_pool(x, at)


@_compiled
def means(x: Array, places: tuple[int, ...]) -> Array:
    """`average`, for bins that are no window; sums may overflow."""
    mean = batch_last(x)
    if math.prod(places) == 1:  # everything: in one go
        spatial = tuple(range(1, x.ndim - 1))
        total = numerics.sum(mean, spatial, keepdims=True)
        total = total / x.dtype.type(math.prod(x.shape[2:]))
        return batch_first(total)
    for axis, o in _last_first(places):
        parts = [_mean(mean[_along(axis, seen)], axis) for seen in intervals(mean.shape[axis], o)]
        mean = np.concatenate(parts, axis)
    return batch_first(mean)


def _mean(part: Array, axis: int) -> Array:
    """The mean along an axis, which stays; of a few slices as their sum one by one."""
    count = part.shape[axis]
    if not 1 <= count <= _FEW:
        return np.asarray(numerics.sum(part, axis, keepdims=True) / part.dtype.type(count))
    total: Array = part[_along(axis, slice(0, 1))].copy(order="K")
    for tap in range(1, count):
        total += part[_along(axis, slice(tap, tap + 1))]
    total /= total.dtype.type(count)
    return total


def average_gradient(dout: Array, record: None, x_shape: tuple[int, ...]) -> Array:
    """Each output's gradient, shared equally by its bin."""
    terms = math.prod(dout.shape[2:])
    dx = _average_gradient(dout, x_shape)
    return without_overflow(dx, lambda shrink: _average_gradient(shrink * dout, x_shape), terms)


def _average_gradient(dout: Array, x_shape: tuple[int, ...]) -> Array:
    at = _window(x_shape[2:], dout.shape[2:])
    if at is not None:
        return pooling.average_pool_gradient(dout, x_shape, at)
    return means_gradient(dout, x_shape)


@_compiled
@short_runs
def means_gradient(dout: Array, x_shape: tuple[int, ...]) -> Array:
    """`average_gradient`, for bins that are no window."""
    slope = batch_last(dout)
    for axis, o in reversed(_last_first(dout.shape[2:])):
        n = x_shape[axis + 1]
        dx = np.zeros((*slope.shape[:axis], n, *slope.shape[axis + 1 :]), dout.dtype)
        for i, seen in enumerate(intervals(n, o)):
            share = slope[_along(axis, slice(i, i + 1))] / dout.dtype.type(seen.stop - seen.start)
            dx[_along(axis, seen)] += share
        slope = dx
    return batch_first(slope)


def maximum(x: Array, places: tuple[int, ...]) -> tuple[Array, Any]:
    """The largest element of each bin, and which it was; the first of equals, or the last NaN."""
    at = _window(x.shape[2:], places)
    return largest_of_bins(x, places) if at is None else pooling.max_pool(x, at)


@_compiled
def largest_of_bins(x: Array, places: tuple[int, ...]) -> tuple[Array, Any]:
    """`maximum`, for bins that are no window."""
    largest, winners = batch_last(x), []
    if math.prod(places) == 1:  # everything: in one go
        flat = largest.reshape(x.shape[1], math.prod(x.shape[2:]), x.shape[0])
        taps = _winners(flat, 1).astype(np.int32)
        largest = _settled(np.take_along_axis(flat, taps, 1)[:, 0])
        return largest.T.reshape(*x.shape[:2], *places), (taps,)
    for axis, o in _last_first(places):
        bins = intervals(largest.shape[axis], o)
        found = [_first_largest(largest[_along(axis, seen)], axis) for seen in bins]
        largest = np.concatenate([values for values, _ in found], axis)
        winners.append(np.concatenate([taps for _, taps in found], axis))
    return batch_first(_settled(largest)), tuple(winners)


def _settled(largest: Array) -> Array:
    """The same numbers with one pattern of bits for zeros and one for NaNs, as `pooling.max_pool`."""
    return np.where(largest == largest, largest + 0, largest.dtype.type(np.nan))


def _winners(x: Array, axis: int) -> Array:
    """Where the largest element along an axis first is, or the last NaN, as in `pooling.max_pool`."""
    taps: Array = np.argmax(x, axis, keepdims=True)
    odd = np.isnan(np.take_along_axis(x, taps, axis))
    if not odd.any():
        return taps
    from_end = np.argmax(np.isnan(np.flip(x, axis)), axis, keepdims=True)
    return np.asarray(np.where(odd, x.shape[axis] - 1 - from_end, taps))


def _first_largest(part: Array, axis: int) -> tuple[Array, Array]:
    """The largest element along an axis and the first place where it is, or the last NaN's."""
    largest, *others = slices = [
        part[_along(axis, slice(tap, tap + 1))] for tap in range(part.shape[axis])
    ]
    for other in others:
        largest = np.maximum(largest, other)
    if np.isnan(largest).any():
        taps = _winners(part, axis)
        return np.take_along_axis(part, taps, axis), taps
    taps = np.zeros(largest.shape, np.min_scalar_type(len(slices)))
    undecided = np.ones(largest.shape, np.bool_)
    for each in slices[:-1]:
        undecided &= each != largest
        taps += undecided
    return largest, taps


def maximum_gradient(dout: Array, winners: Any, x_shape: tuple[int, ...]) -> Array:
    """Each output's gradient goes to the element that won."""
    at = _window(x_shape[2:], dout.shape[2:])
    if at is not None:
        return pooling.max_pool_gradient(dout, winners, x_shape, at)
    return largest_of_bins_gradient(dout, winners, x_shape)


@_compiled
@short_runs
def largest_of_bins_gradient(dout: Array, winners: Any, x_shape: tuple[int, ...]) -> Array:
    """`maximum_gradient`, for bins that are no window."""
    places, slope = dout.shape[2:], batch_last(dout)
    if math.prod(places) == 1:
        every = np.arange(math.prod(x_shape[2:]), dtype=np.int32)[:, None]
        flat = slope.reshape(x_shape[1], 1, x_shape[0])
        dx = np.empty((*x_shape[1:], x_shape[0]), dout.dtype)
        wins = winners[0].reshape(flat.shape) == every
        chosen(flat, wins, dx.reshape(len(dx), len(every), len(dout)))
        return batch_first(dx)
    if len(winners) < len(places):
        return _to_members(slope, winners[0], x_shape)
    for (axis, o), taps in zip(reversed(_last_first(places)), reversed(winners), strict=True):
        n = x_shape[axis + 1]
        dx = np.zeros((*slope.shape[:axis], n, *slope.shape[axis + 1 :]), dout.dtype)
        for i, seen in enumerate(intervals(n, o)):
            place = _along(axis, slice(i, i + 1))
            for tap in range(seen.stop - seen.start):
                here = _along(axis, slice(seen.start + tap, seen.start + tap + 1))
                part = slope[place]
                dx[here] += chosen(part, taps[place] == tap, np.empty_like(part))
        slope = dx
    return batch_first(slope)


def _to_members(slope: Array, winners: Array, x_shape: tuple[int, ...]) -> Array:
    """To winners that are counted over all axes, in ``(C, *places, N)``."""
    dx = np.zeros((*x_shape[1:], x_shape[0]), slope.dtype)
    places, spread = slope.shape[1:-1], (slice(None), *(None,) * (slope.ndim - 2))
    each = [intervals(n, o) for n, o in zip(x_shape[2:], places, strict=True)]
    for place in np.ndindex(places):
        part = dx[(slice(None), *(seen[i] for seen, i in zip(each, place, strict=True)))]
        taps = np.arange(math.prod(part.shape[1:-1])).reshape(*part.shape[1:-1], 1)
        won, share = (one[(slice(None), *place)][spread] for one in (winners, slope))
        part += np.where(won == taps, share, slope.dtype.type(0))
    return batch_first(dx)


def _last_first(places: tuple[int, ...]) -> list[tuple[int, int]]:
    """The spatial axes of ``(C, *spatial, N)``, each with its number of places.

    Bins are products of intervals, so both kinds go axis by axis. The last axis first: then the
    first of equals in a row, and the first row, is the first of equals in the bin.
    """
    return list(enumerate(places, 1))[::-1]


def intervals(n: int, o: int) -> list[slice]:
    """What each of `o` places along an axis of `n` elements sees."""
    return [slice(i * n // o, -(-(i + 1) * n // o)) for i in range(o)]


def _along(axis: int, seen: slice) -> tuple[slice, ...]:
    """The index of an interval along one axis."""
    return (*(slice(None),) * axis, seen)


def _window(spatial: tuple[int, ...], places: tuple[int, ...]) -> Window | None:
    """The window that stands for these bins, if there is one and it has fewer taps than places."""
    kernel = tuple(n // o for n, o in zip(spatial, places, strict=True))
    equal = all(n % o == 0 for n, o in zip(spatial, places, strict=True))
    if equal and math.prod(kernel) < math.prod(places):
        return window(kernel, kernel)
    return None
