"""Convolution (cross-correlation) and its two gradients, for any number of spatial axes."""

from __future__ import annotations

import math

import numpy as np

from funcnn import numerics
from funcnn._kernels.columns import fold, patches
from funcnn._kernels.windows import Window, output_size
from funcnn.types import Array


def convolve(x: Array, weight: Array, bias: Array | None, window: Window, groups: int = 1) -> Array:
    """``out[n, o, p] = bias[o] + sum_ck weight[o, c, k] x[n, c, p * stride + k * dilation]``."""
    places = output_size(window, x.shape[2:])
    taps = np.array(patches(x, window), order="C").reshape(
        groups, math.prod(weight.shape[1:]), math.prod(places) * x.shape[0]
    )
    filters = weight.reshape(groups, weight.shape[0] // groups, -1)
    out = numerics.matmul(filters, taps).reshape(weight.shape[0], *places, x.shape[0])
    if bias is not None:
        out += bias.reshape(-1, *(1,) * (x.ndim - 1))
    return np.asarray(np.moveaxis(out, -1, 0))


def weight_gradient(
    x: Array, dout: Array, weight_shape: tuple[int, ...], window: Window, groups: int = 1
) -> Array:
    """``dweight[o, c, k] = sum_np dout[n, o, p] x[n, c, p * stride + k * dilation]``."""
    columns = math.prod(dout.shape[2:]) * x.shape[0]
    rows = math.prod(weight_shape[1:])
    taps = np.array(patches(x, window), order="C").reshape(groups, rows, columns)
    last = np.moveaxis(dout, 0, -1).reshape(groups, weight_shape[0] // groups, columns)
    return np.asarray(numerics.matmul(last, taps.swapaxes(-1, -2)).reshape(weight_shape))


def input_gradient(
    dout: Array, weight: Array, x_shape: tuple[int, ...], window: Window, groups: int = 1
) -> Array:
    """``dx``: each output's gradient, times its filter, added to where the window read."""
    columns = math.prod(dout.shape[2:]) * x_shape[0]
    outs = weight.shape[0] // groups
    filters = weight.reshape(groups, outs, -1).swapaxes(-1, -2)
    last = np.moveaxis(dout, 0, -1).reshape(groups, outs, columns)
    taps = numerics.matmul(filters, last)
    shape = (x_shape[1], *window.kernel, *dout.shape[2:], x_shape[0])
    return fold(taps.reshape(shape), x_shape[2:], window)


def bias_gradient(dout: Array) -> Array:
    """Sum over the batch and all places."""
    return numerics.sum(dout, (0, *range(2, dout.ndim)))
