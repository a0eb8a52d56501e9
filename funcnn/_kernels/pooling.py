"""The largest or the mean of what a window sees, and their gradients."""

from __future__ import annotations

import math

import numpy as np

from funcnn import numerics
from funcnn._kernels.columns import fold, padded, patches, tap_slices
from funcnn._kernels.windows import Window, output_size
from funcnn.types import Array


def max_pool(x: Array, window: Window) -> tuple[Array, Array]:
    """The largest element of each window, and which tap it was.

    The first of equals wins, and a NaN wins over everything, as in PyTorch. Padding never wins.
    """
    places = output_size(window, x.shape[2:])
    base = padded(x, window, -np.inf)
    first, *others = tap_slices(window, places)
    out = base[first].copy()
    winners = np.zeros(out.shape, np.uint8 if len(others) < 256 else np.int32)
    for tap, where in enumerate(others, 1):
        new = base[where]
        wins = (new > out) | ((new != new) & (out == out))
        winners[wins] = tap
        out = np.where(wins, new, out)
    return np.moveaxis(out, -1, 0), winners


def max_pool_gradient(
    dout: Array, winners: Array, x_shape: tuple[int, ...], window: Window
) -> Array:
    """Each output's gradient goes to the element that won."""
    last = np.moveaxis(dout, 0, -1)
    taps = math.prod(window.kernel)
    shares = np.stack([last * (winners == tap) for tap in range(taps)], 1)
    return fold(shares.reshape(x_shape[1], *window.kernel, *last.shape[1:]), x_shape[2:], window)


def average_pool(x: Array, window: Window, count_include_pad: bool = True) -> Array:
    """The mean of each window; without `count_include_pad`, of what lies inside the image."""
    rank = len(window.kernel)
    total = numerics.sum(patches(x, window), tuple(range(1, 1 + rank)))
    total /= _counts(x.shape, window, count_include_pad, x.dtype)
    return np.asarray(np.moveaxis(total, -1, 0))


def average_pool_gradient(
    dout: Array, x_shape: tuple[int, ...], window: Window, count_include_pad: bool = True
) -> Array:
    """Each output's gradient, shared equally by what its window saw."""
    share = np.moveaxis(dout, 0, -1) / _counts(x_shape, window, count_include_pad, dout.dtype)
    ones = (1,) * len(window.kernel)
    shape = (x_shape[1], *window.kernel, *share.shape[1:])
    taps = np.broadcast_to(share.reshape(share.shape[0], *ones, *share.shape[1:]), shape)
    return fold(taps, x_shape[2:], window)


def _counts(
    x_shape: tuple[int, ...], window: Window, count_include_pad: bool, dtype: np.dtype
) -> Array:
    """The divisor of each place, broadcasting over ``(C, *places, N)``."""
    if count_include_pad:
        return np.asarray(math.prod(window.kernel), dtype)
    ones = patches(np.ones((1, 1, *x_shape[2:]), dtype), window)
    return numerics.sum(ones, tuple(range(1, 1 + len(window.kernel))))
