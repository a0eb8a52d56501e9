"""The largest or the mean of what a window sees, and their gradients, axis by axis.

A window is a product of intervals, so the last axis is done first, and what comes out along the others:
``kh + kw`` shifted views instead of the ``kh * kw`` of `textbook`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn._kernels.elementwise import chosen
from funcnn._kernels.images import batch_first, batch_last, frame, inside
from funcnn._kernels.runs import short_runs
from funcnn._kernels.windows import Window, output_size, reads, steps, taps
from funcnn.machine.memory import scratch
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_FOLDER = "funcnn._kernels.pooling"
_compiled = compiled_in(f"{_FOLDER}.compiled")
_always_compiled = compiled_in(f"{_FOLDER}.compiled", f"{_FOLDER}.portable_compiled")
_CHUNK = 1 << 18  # numbers of an image at a time: measured in November 2026, see `convolution.plans`

Winners = tuple[Array, ...]
"""For each spatial axis, the last one first: which tap along it won, as ``(C, ..., N)`` integers.

Or, as compiled kernels leave it: a single array, of the taps of all axes in order.
"""


Taps = tuple[tuple[slice, ...], ...]
"""For each tap along an axis, the elements that it meets."""


@_always_compiled
@short_runs
def max_pool(x: Array, window: Window) -> tuple[Array, Winners]:
    """The largest element of each window, and where it was.

    The first of equals wins, and a NaN wins over everything, as in PyTorch. Padding never wins. A
    zero comes out as 0.0 and a NaN as `numpy.nan`: which sign the larger of 0.0 and -0.0 has, and
    which bits of two NaNs stay, is the processor's choice.
    """
    route = _route(x.shape, window)
    if len(route.blocks) == 1:
        out, winners = _compared(x, window, route)
    else:
        parts = [_compared(x[:, some], window, route) for some in route.blocks]
        out = np.concatenate([part for part, _ in parts])
        winners = tuple(map(np.concatenate, zip(*(taps for _, taps in parts), strict=True)))
    return out.transpose(route.batch_first), winners


def average_pool(x: Array, window: Window, count_include_pad: bool = True) -> Array:
    """The mean of each window; without `count_include_pad`, of what lies inside the image."""
    mean = sums(x, window)
    mean /= _counts(x.shape, window, count_include_pad, x.dtype)
    return mean


@_compiled
@short_runs
def sums(x: Array, window: Window) -> Array:
    """The sum of each window, in memory of its own."""
    out, route = frame(x, window.padding), _route(x.shape, window)
    for axis in reversed(range(len(window.kernel))):
        first, *others = (out[where] for where in route.taps[axis])
        out = first + others[0] if others else first.copy()
        for other in others[1:]:
            out += other
    return out.transpose(route.batch_first)


def average_pool_gradient(
    dout: Array, x_shape: tuple[int, ...], window: Window, count_include_pad: bool = True
) -> Array:
    """Each output's gradient, shared equally by what its window saw."""
    share = dout / _counts(x_shape, window, count_include_pad, dout.dtype)
    return max_pool_gradient(share, None, x_shape, window)


def places(winners: Winners, x_shape: tuple[int, ...], window: Window) -> Array:
    """Where in the image each winner is, counted over all axes of space: ``(N, C, *places)``."""
    rank = len(window.kernel)
    each = winners[::-1] if len(winners) == rank else np.unravel_index(winners[0], window.kernel)
    shape = (x_shape[1], *output_size(window, x_shape[2:]), x_shape[0])
    channel, *grid, example = np.ogrid[tuple(map(slice, shape))]
    found, seen = np.zeros(shape, np.int64), list(grid)
    for axis, tap in enumerate(each):
        if len(winners) == rank:  # of places along this axis and the earlier ones, of rows along others
            tap = tap[(channel, *seen, example)]
        row = grid[axis] * window.stride[axis] + tap.astype(np.int64) * window.dilation[axis]
        seen[axis] = row
        found = found * x_shape[2 + axis] + row - window.padding[axis][0]
    return batch_first(found)


# Below, images are (C, *spatial, N).


class _Route(NamedTuple):
    """What follows from the shapes: permutations of ``(N, C, *spatial)`` and ``(C, *spatial, N)``,
    channels as many at a time as stay in the cache, and for each axis what its taps meet."""

    batch_last: tuple[int, ...]
    batch_first: tuple[int, ...]
    blocks: tuple[slice, ...]
    padded: bool
    taps: tuple[Taps, ...]


@lru_cache(maxsize=1024)
def _route(x_shape: tuple[int, ...], window: Window) -> _Route:
    batch, channels, *spatial = x_shape
    rank = len(spatial)
    step = max(1, _CHUNK // max(1, math.prod(spatial) * batch))
    places = output_size(window, x_shape[2:])
    return _Route(
        (*range(1, rank + 2), 0),
        (rank + 1, *range(rank + 1)),
        tuple(slice(start, start + step) for start in range(0, channels, step)),
        any(map(any, window.padding)),
        tuple(
            tuple(((slice(None),) * (1 + axis) + (tap,)) for tap in steps(window, axis, count))
            for axis, count in enumerate(places)
        ),
    )


def _compared(x: Array, window: Window, route: _Route, nan: bool = False) -> tuple[Array, Winners]:
    """The largest and where they were; `nan` says that there may be some."""
    out = frame(x, window.padding, value=-np.inf)
    winners: list[Array] = []
    for axis in reversed(range(len(window.kernel))):
        first, *others = map(out.__getitem__, route.taps[axis])
        best, taps = (first, None) if others else (first.copy(), np.zeros(first.shape, np.uint8))
        for tap, new in enumerate(others, 1):
            wins = new > best
            if nan:
                wins |= new != new
            if taps is None:
                taps = wins.view(np.uint8) if len(others) < 256 else wins.astype(np.int32)
                kept = scratch(f"between {axis}", best.shape, best.dtype) if axis else None
                best = np.maximum(best, new, out=kept)
            else:
                np.maximum(taps, np.multiply(wins, tap, dtype=taps.dtype), out=taps)
                np.maximum(best, new, out=best)
        assert taps is not None
        if window.padding[axis][0]:  # a window of nothing but -inf: its first element inside
            place = np.arange(taps.shape[1 + axis]) * window.stride[axis]
            least = -((place - window.padding[axis][0]) // window.dilation[axis])
            after = (1,) * (taps.ndim - axis - 2)
            np.maximum(taps, np.maximum(least, 0).astype(taps.dtype).reshape(-1, *after), out=taps)
        out = best
        winners.append(taps)
    if nan:
        out[out != out] = np.nan
    elif out.size:
        largest = np.maximum.reduce(out, axis=None)
        if largest != largest:  # NaN is rare: asked for once, not each time
            return _compared(x, window, route, nan=True)
    out += 0
    return out, tuple(winners)


@_always_compiled
@short_runs
def max_pool_gradient(
    dout: Array, winners: Winners | None, x_shape: tuple[int, ...], window: Window
) -> Array:
    """Give each output's gradient to the element that won, or (None) to all that its window saw.

    Winning rows come first, then their columns.
    """
    rank = len(window.kernel)
    if winners is not None and len(winners) < rank:
        return _spread_taps(dout, winners[0], x_shape, window)
    route = _route(x_shape, window)
    share = np.ascontiguousarray(dout.transpose(route.batch_last))
    dx = np.empty((*x_shape[1:], x_shape[0]), dout.dtype)
    for some in route.blocks:
        part = share[some]
        for axis in range(rank):
            taps = None if winners is None else winners[rank - 1 - axis][some]
            size = x_shape[2 + axis] + sum(window.padding[axis])
            shape = (*part.shape[: 1 + axis], size, *part.shape[2 + axis :])
            if axis == rank - 1 and not route.padded:
                image = dx[some]
            else:
                image = scratch(f"between {axis + 1}", shape, dout.dtype)
            _spread(part, taps, window, axis, image, route.taps[axis])
            part = image
        if route.padded:
            dx[some] = part[inside(x_shape[2:], window)]
    return dx.transpose(route.batch_first)


def _spread_taps(dout: Array, winners: Array, x_shape: tuple[int, ...], window: Window) -> Array:
    """As `max_pool_gradient`, for winners counted over all axes."""
    share = np.ascontiguousarray(batch_last(dout))
    sizes = [n + sum(pad) for n, pad in zip(x_shape[2:], window.padding, strict=True)]
    dx = np.zeros((x_shape[1], *sizes, x_shape[0]), dout.dtype)
    for tap, where in enumerate(taps(window, dout.shape[2:])):
        dx[where] += chosen(share, winners == tap, np.empty_like(share))
    return batch_first(dx[inside(x_shape[2:], window)])


def _spread(
    share: Array, taps: Array | None, window: Window, axis: int, image: Array, meetings: Taps
) -> None:
    """Give each place's share along an axis to the tap that won, or (None) to all of them."""
    kernel, stride, size = window.kernel[axis], window.stride[axis], image.shape[1 + axis]
    # The first `stride` taps of all windows lie apart and leave no gap: they need no zeros to add to.
    apart = stride if kernel >= stride and window.dilation[axis] == 1 else 0
    covered = share.shape[1 + axis] * apart
    if covered < size:
        image[(slice(None),) * (1 + axis) + (slice(covered, None),)] = 0
    targets = list(map(image.__getitem__, meetings))
    if taps is not None and kernel == apart == 2:
        bits = f"i{share.itemsize}"  # as in `chosen`
        first, second, values = targets[0].view(bits), targets[1].view(bits), share.view(bits)
        np.multiply(values, taps, out=second)
        np.bitwise_xor(values, second, out=first)
        return
    for tap, target in enumerate(targets):
        if taps is None:
            np.add(target, share, out=target) if tap >= apart else np.copyto(target, share)
        elif tap < apart:
            chosen(share, taps == tap, target)
        else:
            part = scratch("part", share.shape, share.dtype)
            np.add(target, chosen(share, taps == tap, part), out=target)
            del part  # so that the next tap has the same memory


def _counts(
    x_shape: tuple[int, ...], window: Window, count_include_pad: bool, dtype: np.dtype[Any]
) -> Array:
    """The divisor of each place."""
    if count_include_pad:
        return np.asarray(math.prod(window.kernel), dtype)
    counts = np.ones((), dtype)
    places = output_size(window, x_shape[2:])
    for axis, count in enumerate(places):
        read = reads(window, axis, count)
        inside = np.count_nonzero((read >= 0) & (read < x_shape[2 + axis]), axis=1)
        counts = counts[..., None] * np.maximum(inside, 1).astype(dtype)  # the mean of nothing is 0
    return counts
