"""Pooling into a given number of places: bins that differ in size by one at most, and may overlap.

Place ``i`` of ``o`` along an axis of ``n`` elements sees those from ``floor(i n / o)`` up to, but not
with, ``ceil((i + 1) n / o)``. Where all bins are equal and small, they are an ordinary window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn._kernels import pooling
from funcnn._kernels.windows import Window, window
from funcnn.types import Array


def average(x: Array, places: tuple[int, ...]) -> Array:
    """The mean of each bin: ``(N, C, *spatial) -> (N, C, *places)``."""
    at = _window(x.shape[2:], places)
    if at is not None:
        return pooling.average_pool(x, at)
    last = np.moveaxis(x, 0, -1)
    out = np.empty((x.shape[1], *places, x.shape[0]), x.dtype)
    for place, where in _bins(x.shape[2:], places):
        seen = _flat(last[where])
        taps = seen.shape[1]
        out[place] = numerics.matmul(np.ones(taps, x.dtype), seen)  # faster than a sum of rows
        out[place] /= x.dtype.type(taps)
    return np.moveaxis(out, -1, 0)


def average_gradient(dout: Array, x_shape: tuple[int, ...]) -> Array:
    """Each output's gradient, shared equally by its bin."""
    places = dout.shape[2:]
    at = _window(x_shape[2:], places)
    if at is not None:
        return pooling.average_pool_gradient(dout, x_shape, at)
    slope = np.moveaxis(dout, 0, -1)
    dx = np.zeros((*x_shape[1:], x_shape[0]), dout.dtype)
    for place, where in _bins(x_shape[2:], places):
        seen = dx[where]
        count = math.prod(seen.shape[1:-1])
        seen += (slope[place] / dout.dtype.type(count)).reshape(_spread(seen.shape))
    return np.moveaxis(dx, -1, 0)


def maximum(x: Array, places: tuple[int, ...]) -> tuple[Array, Any]:
    """The largest element of each bin, and which it was; the first of equals, or the first NaN."""
    at = _window(x.shape[2:], places)
    if at is not None:
        return pooling.max_pool(x, at)
    last = np.moveaxis(x, 0, -1)
    out = np.empty((x.shape[1], *places, x.shape[0]), x.dtype)
    winners = np.empty(out.shape, np.intp)
    for place, where in _bins(x.shape[2:], places):
        seen = _flat(last[where])
        first = winners[place] = seen.argmax(1)
        out[place] = np.take_along_axis(seen, first[:, None], 1)[:, 0]
    return np.moveaxis(out, -1, 0), winners


def maximum_gradient(dout: Array, winners: Any, x_shape: tuple[int, ...]) -> Array:
    """Each output's gradient goes to the element that won."""
    places = dout.shape[2:]
    at = _window(x_shape[2:], places)
    if at is not None:
        return pooling.max_pool_gradient(dout, winners, x_shape, at)
    slope = np.moveaxis(dout, 0, -1)
    dx = np.zeros((*x_shape[1:], x_shape[0]), dout.dtype)
    for place, where in _bins(x_shape[2:], places):
        seen = dx[where]
        taps = np.arange(math.prod(seen.shape[1:-1])).reshape(1, *seen.shape[1:-1], 1)
        spread = _spread(seen.shape)
        seen += slope[place].reshape(spread) * (winners[place].reshape(spread) == taps)
    return np.moveaxis(dx, -1, 0)


def _bins(
    spatial: tuple[int, ...], places: tuple[int, ...]
) -> Iterator[tuple[tuple[slice | int, ...], tuple[slice, ...]]]:
    """Where each place lies in ``(C, *places, N)``, and its bin in ``(C, *spatial, N)``."""
    everything = slice(None)
    axes = [
        [(i, slice(i * n // o, -(-(i + 1) * n // o))) for i in range(o)]
        for n, o in zip(spatial, places, strict=True)
    ]
    for pairs in product(*axes):
        yield (everything, *(i for i, _ in pairs)), (everything, *(seen for _, seen in pairs))


def _flat(block: Array) -> Array:
    """A bin ``(C, *bin, N)`` as ``(C, taps, N)``."""
    return block.reshape(block.shape[0], math.prod(block.shape[1:-1]), block.shape[-1])


def _spread(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which ``(C, N)`` broadcasts over a bin ``(C, *bin, N)``."""
    return (shape[0], *(1,) * (len(shape) - 2), shape[-1])


def _window(spatial: tuple[int, ...], places: tuple[int, ...]) -> Window | None:
    """The window that stands for these bins, if there is one and it has fewer taps than places."""
    kernel = tuple(n // o for n, o in zip(spatial, places, strict=True))
    equal = all(n % o == 0 for n, o in zip(spatial, places, strict=True))
    if equal and math.prod(kernel) < math.prod(places):
        return window(kernel, kernel)
    return None
