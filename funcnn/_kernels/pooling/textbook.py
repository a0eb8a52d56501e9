"""Pooling as it is in a textbook: tap by tap, over images with a border.

The kernels beside this file give the same, faster; the tests compare them with this one.
"""

from __future__ import annotations

import numpy as np

from funcnn import numerics
from funcnn._kernels.images import batch_first, batch_last, inside
from funcnn._kernels.windows import Window, output_size, taps
from funcnn.types import Array


def max_pool(x: Array, dout: Array, window: Window) -> tuple[Array, Array]:
    """The largest of each window, the first of equals, a NaN before all; and ``dx``, by the winner."""
    image, real = _framed(x, window, -np.inf), _framed(np.ones_like(x), window, 0) > 0
    where = list(taps(window, dout.shape[2:]))
    out = np.full_like(image[where[0]], -np.inf)
    winner = np.full(out.shape, -1)
    for tap, at in enumerate(where):
        wins = real[at] & ((image[at] > out) | np.isnan(image[at]) | (winner < 0))
        out, winner = np.where(wins, image[at], out), np.where(wins, tap, winner)
    dx, slope = np.zeros_like(image), batch_last(dout)
    for tap, at in enumerate(where):
        dx[at] += np.where(winner == tap, slope, 0)
    return batch_first(out), batch_first(dx[inside(x.shape[2:], window)])


def average_pool(
    x: Array, dout: Array, window: Window, count_include_pad: bool = True
) -> tuple[Array, Array]:
    """The mean of each window, and ``dx``, the same share for all that it sees."""
    image, real = _framed(x, window, 0), _framed(np.ones_like(x), window, count_include_pad)
    where = list(taps(window, output_size(window, x.shape[2:])))
    count, total = (numerics.sum(np.stack([each[at] for at in where]), 0) for each in (real, image))
    out, dx = total / count, np.zeros_like(image)
    for at in where:
        dx[at] += batch_last(dout) / count
    return batch_first(out), batch_first(dx[inside(x.shape[2:], window)])


def _framed(x: Array, window: Window, value: float) -> Array:
    border = ((0, 0), *window.padding, (0, 0))
    return np.pad(batch_last(x), border, constant_values=value)
