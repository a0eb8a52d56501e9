"""The largest or the mean of what a window sees, and their gradients.

A window is a product of intervals, so both go axis by axis, the last one first: ``kh + kw`` shifted
views instead of ``kh * kw``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from funcnn._kernels.scratch import scratch
from funcnn._kernels.windows import Window, output_size
from funcnn.types import Array

Winners = tuple[Array, ...]
"""For each spatial axis, the last one first: which tap along it won, as ``(C, ..., N)`` integers."""


def max_pool(x: Array, window: Window) -> tuple[Array, Winners]:
    """The largest element of each window, and where it was.

    The first of equals wins, and a NaN wins over everything, as in PyTorch. Padding never wins.
    """
    out, winners = _max_pool(x, window, nan=False)
    if out.size and np.isnan(np.maximum.reduce(out, axis=None)):  # rare: asked once, not each time
        out, winners = _max_pool(x, window, nan=True)
    return out.transpose(x.ndim - 1, *range(x.ndim - 1)), winners


def max_pool_gradient(dout: Array, winners: Winners, x_shape: tuple[int, ...], window: Window) -> Array:
    """Each output's gradient goes to the element that won: winning rows first, then their columns."""
    share = np.ascontiguousarray(dout.transpose(*range(1, dout.ndim), 0))
    for axis, taps in enumerate(reversed(winners)):
        share = _spread(share, taps, window, axis, x_shape[2 + axis])
    return _batch_first(share[_inside(x_shape, window)])


def average_pool(x: Array, window: Window, count_include_pad: bool = True) -> Array:
    """The mean of each window; without `count_include_pad`, of what lies inside the image."""
    out = _padded(x, window, 0)
    for axis in reversed(range(len(window.kernel))):
        first, *others = (out[where] for where in _taps(out.shape[1 + axis], window, axis))
        out = first + others[0] if others else first.copy()
        for other in others[1:]:
            out += other
    out /= _counts(x.shape, window, count_include_pad, x.dtype)
    return _batch_first(out)


def average_pool_gradient(
    dout: Array, x_shape: tuple[int, ...], window: Window, count_include_pad: bool = True
) -> Array:
    """Each output's gradient, shared equally by what its window saw."""
    share = dout.transpose(*range(1, dout.ndim), 0)
    share = share / _counts(x_shape, window, count_include_pad, dout.dtype)
    for axis in range(len(window.kernel)):
        share = _spread(share, None, window, axis, x_shape[2 + axis])
    return _batch_first(share[_inside(x_shape, window)])


# Below, images are (C, *spatial, N).


def _max_pool(x: Array, window: Window, nan: bool) -> tuple[Array, Winners]:
    out = _padded(x, window, -np.inf)
    winners: list[Array] = []
    for axis in reversed(range(len(window.kernel))):
        first, *others = (out[where] for where in _taps(out.shape[1 + axis], window, axis))
        best, taps = (first, None) if others else (first.copy(), np.zeros(first.shape, np.uint8))
        for tap, new in enumerate(others, 1):
            wins = new > best
            if nan:
                wins |= new != new
            if taps is None:
                taps = wins.view(np.uint8) if len(others) < 256 else wins.astype(np.int32)
                kept = scratch(f"best {axis}", best.shape, best.dtype) if axis else None
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
    return out, tuple(winners)


def _spread(share: Array, taps: Array | None, window: Window, axis: int, size: int) -> Array:
    """Give each place's share along an axis to the tap that won, or (None) to all of them."""
    kernel, stride = window.kernel[axis], window.stride[axis]
    size += sum(window.padding[axis])
    shape = (*share.shape[: 1 + axis], size, *share.shape[2 + axis :])
    last = axis == len(window.kernel) - 1
    image = np.empty(shape, share.dtype) if last else scratch(f"share {axis}", shape, share.dtype)
    # The first `stride` taps of all windows lie apart and leave no gap: they need no zeros to add to.
    apart = stride if kernel >= stride and window.dilation[axis] == 1 else 0
    covered = share.shape[1 + axis] * apart
    if covered < size:
        image[(slice(None),) * (1 + axis) + (slice(covered, None),)] = 0
    targets = [image[where] for where in _taps(size, window, axis)]
    if taps is not None and kernel == apart == 2:
        np.multiply(share, taps, out=targets[1])
        np.subtract(share, targets[1], out=targets[0])
        return image
    for tap, target in enumerate(targets):
        if taps is None:
            np.add(target, share, out=target) if tap >= apart else np.copyto(target, share)
        elif tap < apart:
            np.multiply(share, taps == tap, out=target)
        else:
            part = scratch("part", share.shape, share.dtype)
            np.add(target, np.multiply(share, taps == tap, out=part), out=target)
    return image


@lru_cache(maxsize=1024)
def _taps(size: int, window: Window, axis: int) -> list[tuple[slice, ...]]:
    """For each tap along an axis of a padded ``(C, *spatial, N)``, the elements that it meets."""
    kernel, stride, dilation = window.kernel[axis], window.stride[axis], window.dilation[axis]
    places = (size - dilation * (kernel - 1) - 1) // stride + 1
    before = (slice(None),) * (1 + axis)
    starts = range(0, kernel * dilation, dilation)
    return [(*before, slice(t, t + (places - 1) * stride + 1, stride)) for t in starts]


def _padded(x: Array, window: Window, value: float) -> Array:
    """A contiguous ``(C, *spatial, N)``, in borrowed memory if there is a border to add."""
    last = x.transpose(*range(1, x.ndim), 0)
    if not any(map(any, window.padding)):
        return np.ascontiguousarray(last)
    sizes = [low + n + high for n, (low, high) in zip(x.shape[2:], window.padding, strict=True)]
    image = scratch("image", (last.shape[0], *sizes, last.shape[-1]), x.dtype)
    image.fill(value)
    image[_inside(x.shape, window)] = last
    return image


def _counts(
    x_shape: tuple[int, ...], window: Window, count_include_pad: bool, dtype: np.dtype[Any]
) -> Array:
    """The divisor of each place, broadcasting over ``(C, *places, N)``."""
    if count_include_pad:
        return np.asarray(math.prod(window.kernel), dtype)
    counts = np.ones((1,) * len(x_shape), dtype)
    places = output_size(window, x_shape[2:])
    for axis, (kernel, stride, (low, _), dilation) in enumerate(zip(*window, strict=True)):
        starts = np.arange(places[axis]) * stride - low
        read = starts[:, None] + np.arange(kernel) * dilation
        inside = np.count_nonzero((read >= 0) & (read < x_shape[2 + axis]), axis=1)
        after = (1,) * (len(x_shape) - axis - 2)
        counts = counts * inside.astype(dtype).reshape(-1, *after)
    return counts


def _inside(x_shape: tuple[int, ...], window: Window) -> tuple[slice, ...]:
    """Where the image lies in a padded ``(C, *spatial, N)``."""
    sizes = zip(x_shape[2:], window.padding, strict=True)
    return (slice(None), *(slice(low, low + n) for n, (low, _) in sizes))


def _batch_first(image: Array) -> Array:
    """``(N, C, *spatial)`` over batch-last memory."""
    last = np.ascontiguousarray(image)
    return last.transpose(last.ndim - 1, *range(last.ndim - 1))
