"""Depthwise convolution: few products for each number, so taps are added instead of laid in columns.

Each channel has filters of its own, ``weight (C * M, 1, *kernel)``. Memory runs batch-last, as
``(C, M, *spatial, N)`` with M = 1 for the input, and a few channels at a time are worked on, so that
what the taps share stays in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from funcnn import numerics
from funcnn._kernels.columns import inside, padded, tap_slices
from funcnn._kernels.windows import Window, output_size
from funcnn.types import Array

_CHUNK = 1 << 15  # numbers of one tap's products at a time


def convolve(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """``out[n, o, p] = bias[o] + sum_k weight[o, 0, k] x[n, o // M, p * stride + k * dilation]``."""
    places = output_size(window, x.shape[2:])
    taps, base = tap_slices(window, places), padded(x, window)
    filters = _filters(weight, groups)
    out = np.empty((*filters.shape[1:3], *places, x.shape[0]), x.dtype)
    for some in _blocks(out):
        total = out[some]
        total[...] = 0 if bias is None else bias.reshape(filters.shape[1:])[some]
        term = np.empty_like(total)
        for where, tap in zip(taps, filters[:, some], strict=True):
            total += np.multiply(base[some][where][:, None], tap, term)
    return np.moveaxis(out.reshape(weight.shape[0], *places, x.shape[0]), -1, 0)


def weight_gradient(
    x: Array, dout: Array, weight_shape: tuple[int, ...], window: Window, groups: int
) -> Array:
    """``dweight[o, 0, k] = sum_np dout[n, o, p] x[n, o // M, p * stride + k * dilation]``."""
    taps, base = tap_slices(window, dout.shape[2:]), padded(x, window)
    slopes = _slopes(dout, groups)
    dfilters = np.empty((*slopes.shape[:2], len(taps)), x.dtype)
    for some in _blocks(slopes):
        slope = slopes[some]
        columns = np.stack([base[some][where] for where in taps], 1)
        flat = columns.reshape(len(slope), len(taps), math.prod(slope.shape[2:]))
        rows = slope.reshape(*slope.shape[:2], flat.shape[2])
        dfilters[some] = numerics.matmul(rows, flat.swapaxes(1, 2))
    return dfilters.reshape(weight_shape)


def input_gradient(
    dout: Array, weight: Array, x_shape: tuple[int, ...], window: Window, groups: int
) -> Array:
    """``dx``: each output's gradient, times its filter, added to where the window read."""
    spatial = x_shape[2:]
    taps, slopes = tap_slices(window, dout.shape[2:]), _slopes(dout, groups)
    filters = _filters(weight, groups)
    sizes = (n + low + high for n, (low, high) in zip(spatial, window.padding, strict=True))
    dx = np.zeros((groups, *sizes, x_shape[0]), dout.dtype)
    for some in _blocks(slopes):
        slope = slopes[some]
        term = np.empty_like(slope[:, 0])
        for where, tap in zip(taps, filters[:, some], strict=True):
            for m in range(slope.shape[1]):
                dx[some][where] += np.multiply(slope[:, m], tap[:, m], term)
    return np.moveaxis(dx[inside(spatial, window)], -1, 0)


def _filters(weight: Array, groups: int) -> Array:
    """The weight as ``(taps, C, M, 1...)``, to be multiplied with ``(C, M, *spatial, N)``."""
    filters = weight.reshape(groups, weight.shape[0] // groups, -1)
    return np.moveaxis(filters, 2, 0)[(..., *[None] * (weight.ndim - 1))]


def _slopes(dout: Array, groups: int) -> Array:
    """The output's gradient as ``(C, M, *places, N)``."""
    last = np.moveaxis(dout, 0, -1)
    return last.reshape(groups, last.shape[0] // groups, *last.shape[1:])


def _blocks(outs: Array) -> Iterator[slice]:
    """Channels, as many at a time as make a chunk of ``(C, M, *places, N)``."""
    step = max(1, _CHUNK // max(1, math.prod(outs.shape[1:])))
    return (slice(start, start + step) for start in range(0, len(outs), step))
