"""Pooling compiled: one pass over the taps of each place. The readable twin is `textbook`."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn._kernels.images import frame
from funcnn._kernels.jit import Bytes, In, Out, OutBytes, Table, kernel
from funcnn._kernels.tiles import SMALL, VECTOR, largest_of_runs
from funcnn._kernels.windows import Window, output_size
from funcnn.types import Array

Shape = tuple[int, ...]


class _Places(NamedTuple):
    """Where windows lie in a ``(C, *spatial, N)``: taps, places, and each place's first tap inside."""

    at: Array
    base: Array
    first: Array
    plane: int
    all_see: bool  # whether every place has such a tap


@lru_cache(maxsize=256)
def _places(x_shape: Shape, window: Window, framed: bool) -> _Places:
    batch, _, *spatial = x_shape
    places = output_size(window, x_shape[2:])
    pads = [(low, high) if framed else (0, 0) for low, high in window.padding]
    sizes = [n + low + high for n, (low, high) in zip(spatial, pads, strict=True)]
    at, base, first = (np.zeros(1, np.int64) for _ in range(3))
    all_see = True
    for axis, (k, s, (low, _), d) in enumerate(zip(*window, strict=True)):
        step = math.prod(sizes[axis + 1 :]) * batch
        top = np.arange(places[axis]) * s
        at = (at[:, None] + np.arange(k) * d * step).ravel()
        base = (base[:, None] + (top if framed else top - low) * step).ravel()
        tap = np.clip(-((top - low) // d), 0, k - 1)
        first = (first[:, None] * k + tap).ravel()
        all_see &= bool((top - low + tap * d < spatial[axis]).all())
    return _Places(at, base, first, math.prod(sizes) * batch, all_see)


def max_pool(x: Array, window: Window) -> Any:
    """`funcnn._kernels.pooling.separable.max_pool`; the winners are taps, counted over all axes."""
    if math.prod(window.kernel) > 256 or not x.size:
        return NotImplemented
    at, base, first, plane, all_see = _places(x.shape, window, True)
    if not all_see:
        return NotImplemented
    out = np.empty((x.shape[1], *output_size(window, x.shape[2:]), len(x)), x.dtype)
    winners = np.empty(out.shape, np.uint8)
    image = frame(x, window.padding, value=-np.inf).reshape(-1)
    _largest(
        image, at, base, first, out.reshape(-1), winners.reshape(-1), len(x), plane, x.shape[1],
        VECTOR // x.itemsize,
    )  # fmt: skip
    return out.transpose(x.ndim - 1, *range(x.ndim - 1)), (winners,)


def max_pool_gradient(
    dout: Array, winners: tuple[Array, ...] | None, x_shape: Shape, window: Window
) -> Any:
    """`funcnn._kernels.pooling.separable.max_pool_gradient`, for winners as `max_pool` leaves them."""
    if winners is None or len(winners) != 1:
        return NotImplemented
    at, base, _, plane, all_see = _places(x_shape, window, False)
    if winners[0].dtype != np.uint8 or winners[0].size != dout.size or not all_see:
        return NotImplemented
    dx = np.zeros((*x_shape[1:], x_shape[0]), dout.dtype)
    slope = np.ascontiguousarray(dout.transpose(*range(1, dout.ndim), 0)).reshape(-1)
    taps = np.ascontiguousarray(winners[0]).reshape(-1)
    _to_winners(slope, at, base, taps, dx.reshape(-1), x_shape[0], plane, x_shape[1])
    return dx.transpose(dx.ndim - 1, *range(dx.ndim - 1))


@kernel
def _largest(
    image: In, at: Table, base: Table, first: Table, out: Out, winners: OutBytes,
    run: int, plane: int, channels: int, vector: int,
) -> None:  # fmt: skip
    """Tiles of a vector, the last of which overlaps; short runs in smaller ones."""
    small, taps = max(1, vector // 4), len(at)
    for c in range(channels):
        for p in range(len(base)):
            place, seen, q = (c * len(base) + p) * run, c * plane + base[p], 0
            while q < run:
                if run >= vector:
                    q = min(q, run - vector)
                    largest_of_runs(
                        image, at, out, winners, first[p], taps, seen + q, place + q, VECTOR
                    )
                    q += vector
                elif run >= small:
                    q = min(q, run - small)
                    largest_of_runs(image, at, out, winners, first[p], taps, seen + q, place + q, SMALL)
                    q += small
                else:
                    largest_of_runs(image, at, out, winners, first[p], taps, seen + q, place + q, 0)
                    q += 1


@kernel
def _to_winners(
    slope: In, at: Table, base: Table, taps: Bytes, dx: Out, run: int, plane: int, channels: int,
) -> None:  # fmt: skip
    """Each output's gradient goes to the element that won."""
    for c in range(channels):
        for p in range(len(base)):
            place, seen = (c * len(base) + p) * run, c * plane + base[p]
            for n in range(run):
                winner = seen + at[min(taps[place + n], len(at) - 1)] + n
                if 0 <= winner < len(dx):  # as it is, unless somebody has changed the record
                    dx[winner] += slope[place + n]
