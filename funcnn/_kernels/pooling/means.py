"""Means of windows that may overhang the image."""

from __future__ import annotations

from math import prod

import numpy as np

from funcnn._kernels.elementwise import without_overflow
from funcnn._kernels.pooling.separable import average_pool, average_pool_gradient
from funcnn._kernels.windows import Window, apart, output_size, reads
from funcnn.types import Array


def mean(x: Array, window: Window, counted: Window, count_include_pad: bool = True) -> Array:
    """`average_pool`, where what overhangs the padding that is counted does not count."""
    more = excess(x.shape, window, counted, x.dtype) if count_include_pad else None

    def means(x: Array) -> Array:
        out = average_pool(x, window, count_include_pad)
        return out if more is None else out * more

    return without_overflow(means(x), lambda shrink: means(shrink * x), prod(window.kernel))


def mean_gradient(
    dout: Array,
    x_shape: tuple[int, ...],
    window: Window,
    counted: Window,
    count_include_pad: bool = True,
) -> Array:
    """Each output's gradient, shared equally by what counts in its window."""
    more = excess(x_shape, window, counted, dout.dtype) if count_include_pad else None

    def shares(dout: Array) -> Array:
        slope = dout if more is None else dout * more
        return average_pool_gradient(slope, x_shape, window, count_include_pad)

    dx = shares(dout)
    if more is None and apart(window):  # no two shares add up
        return dx
    return without_overflow(dx, lambda shrink: shares(shrink * dout), prod(window.kernel))


def excess(
    x_shape: tuple[int, ...], window: Window, counted: Window, dtype: np.dtype[np.floating]
) -> Array | None:
    """How much larger each window is than its part within the padding that is counted."""
    if window == counted:
        return None
    more = np.ones((), dtype)
    for axis, places in enumerate(output_size(window, x_shape[2:])):
        end = x_shape[2 + axis] + counted.padding[axis][1]
        part = window.kernel[axis] / np.count_nonzero(reads(window, axis, places) < end, axis=1)
        more = more[..., None] * part.astype(dtype)
    return more
