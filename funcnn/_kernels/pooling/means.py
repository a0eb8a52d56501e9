"""Means of windows that may overhang the image."""

from __future__ import annotations

from math import prod

import numpy as np

from funcnn._kernels.elementwise import without_overflow
from funcnn._kernels.pooling.separable import average_pool, average_pool_gradient
from funcnn._kernels.windows import Window, output_size
from funcnn.types import Array


def mean(x: Array, window: Window, count_include_pad: bool = True) -> Array:
    """`average_pool`, where what overhangs the padding does not count."""
    more = excess(x.shape, window, x.dtype) if count_include_pad else None

    def means(x: Array) -> Array:
        out = average_pool(x, window, count_include_pad)
        return out if more is None else out * more

    return without_overflow(means(x), lambda shrink: means(shrink * x), prod(window.kernel))


def mean_gradient(
    dout: Array, x_shape: tuple[int, ...], window: Window, count_include_pad: bool = True
) -> Array:
    """Each output's gradient, shared equally by what counts in its window."""
    more = excess(x_shape, window, dout.dtype) if count_include_pad else None

    def shares(dout: Array) -> Array:
        slope = dout if more is None else dout * more
        return average_pool_gradient(slope, x_shape, window, count_include_pad)

    return without_overflow(shares(dout), lambda shrink: shares(shrink * dout), prod(window.kernel))


def excess(x_shape: tuple[int, ...], window: Window, dtype: np.dtype[np.floating]) -> Array | None:
    """How much larger each window is than its part within the equal padding of both sides."""
    if all(low == high for low, high in window.padding):
        return None
    more = np.ones((), dtype)
    places = output_size(window, x_shape[2:])
    for n, k, s, (low, _), o in zip(
        x_shape[2:], window.kernel, window.stride, window.padding, places, strict=True
    ):
        starts = np.arange(o) * s
        part = k / (np.minimum(starts + k, n + 2 * low) - starts)
        more = more[..., None] * part.astype(dtype)
    return more
