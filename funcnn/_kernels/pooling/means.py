"""Means of windows that may overhang the image, and the Lp norms that stand on them."""

from __future__ import annotations

import math

import numpy as np

from funcnn import numerics
from funcnn._kernels.pooling.separable import average_pool, average_pool_gradient
from funcnn._kernels.windows import Window, output_size, reads
from funcnn.types import Array


def mean(x: Array, window: Window, count_include_pad: bool = True) -> Array:
    """`average_pool`, where what overhangs the padding does not count."""
    out = average_pool(x, window, count_include_pad)
    excess = _excess(x.shape, window, x.dtype) if count_include_pad else None
    return out if excess is None else out * excess


def mean_gradient(
    dout: Array, x_shape: tuple[int, ...], window: Window, count_include_pad: bool = True
) -> Array:
    """Each output's gradient, shared equally by what counts in its window."""
    excess = _excess(x_shape, window, dout.dtype) if count_include_pad else None
    slope = dout if excess is None else dout * excess
    return average_pool_gradient(slope, x_shape, window, count_include_pad)


def norm(x: Array, window: Window, power: float) -> Array:
    """``(k mean(|x|^p))^(1/p)`` for windows of ``k`` taps."""
    size: Array = x * x if power == 2 else np.abs(x)
    if power not in (1, 2):
        size = numerics.power(size, power)
    total: Array = mean(size, window) * x.dtype.type(math.prod(window.kernel))
    if power == 2:
        return np.asarray(np.sqrt(total))
    return total if power == 1 else numerics.power(total, 1 / power)


def norm_gradient(dout: Array, x: Array, out: Array, window: Window, power: float) -> Array:
    """``dx = sign(x) |x|^(p-1) spread(dy y^(1-p))``; nothing where the norm is zero."""
    slope = dout
    factor = x if power == 2 else np.sign(x)
    if power != 1:
        some = out > 0
        safe = np.where(some, out, 1)
        slope = some * (dout / safe if power == 2 else dout * numerics.power(safe, 1 - power))
    spread: Array = mean_gradient(slope, x.shape, window) * x.dtype.type(math.prod(window.kernel))
    if power not in (1, 2):
        spread *= numerics.power(np.abs(x), power - 1)
    spread *= factor
    seen = _seen(x.shape, window)
    return spread if seen.all() else np.where(seen, spread, x.dtype.type(0))


def _seen(x_shape: tuple[int, ...], window: Window) -> Array:
    """The elements that some window sees, as a shape that broadcasts against the images'."""
    seen = np.ones((), np.bool_)
    for axis, count in enumerate(output_size(window, x_shape[2:])):
        seen = seen[..., None] & np.isin(np.arange(x_shape[2 + axis]), reads(window, axis, count))
    return seen


def _excess(x_shape: tuple[int, ...], window: Window, dtype: np.dtype[np.floating]) -> Array | None:
    """How much larger each window is than its part within the equal padding of both sides."""
    if all(low == high for low, high in window.padding):
        return None
    excess = np.ones((), dtype)
    places = output_size(window, x_shape[2:])
    for n, k, s, (low, _), o in zip(
        x_shape[2:], window.kernel, window.stride, window.padding, places, strict=True
    ):
        starts = np.arange(o) * s
        part = k / (np.minimum(starts + k, n + 2 * low) - starts)
        excess = excess[..., None] * part.astype(dtype)
    return excess
