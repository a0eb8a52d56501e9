"""Convolution (cross-correlation) and its two gradients, for any number of spatial axes.

What they compute, in a few lines each, stands in `textbook`: columns, and one product. The other files
say what they do differently, and why; `plans` says which of them computes what. Where compiled kernels
run, `compiled` does most of it.
"""

from __future__ import annotations

import math

from funcnn import numerics
from funcnn._kernels.convolution import depthwise, flat, sliding
from funcnn._kernels.convolution.plans import Depthwise, Flat, Plan, Rotated, general, plan
from funcnn._kernels.images import arranged as arranged
from funcnn._kernels.windows import Window, output_size
from funcnn.numerics import arithmetic
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

Shape = tuple[int, ...]
_FOLDER = "funcnn._kernels.convolution"
_compiled = compiled_in(f"{_FOLDER}.compiled", f"{_FOLDER}.portable_compiled")
_fast_compiled = compiled_in(f"{_FOLDER}.compiled")


@_compiled
def convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Array:
    """``out[n, o, p] = bias[o] + sum_ck weight[o, c, k] x[n, c, p * stride + k * dilation]``."""
    if counter := numerics.counter():
        places = math.prod(output_size(window, x.shape[2:]))
        with counter.one_product(len(x) * places * weight.size):
            return convolve(x, weight, bias, window, groups, forced)
    way = forced or plan("convolve", x.shape, weight.shape, window)
    if isinstance(way, Flat):
        return flat.convolve(x, weight, bias, window)
    if isinstance(way, Depthwise):
        return depthwise.convolve(x, weight, bias, window, groups)
    assert not isinstance(way, Rotated)
    return sliding.convolve(x, weight, bias, window, groups, way)


@_compiled
def weight_gradient(
    x: Array,
    dout: Array,
    weight_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Array:
    """``dweight[o, c, k] = sum_np dout[n, o, p] x[n, c, p * stride + k * dilation]``."""
    way = forced or plan("weight", x.shape, weight_shape, window)
    if isinstance(way, Flat):
        return flat.weight_gradient(x, dout, weight_shape, window)
    if isinstance(way, Depthwise):
        return depthwise.weight_gradient(x, dout, weight_shape, window, groups)
    assert not isinstance(way, Rotated)
    return sliding.weight_gradient(x, dout, weight_shape, window, groups, way)


@_compiled
def input_gradient(
    dout: Array,
    weight: Array,
    x_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Array:
    """``dx[n, c, p * stride + k * dilation] += sum_o weight[o, c, k] dout[n, o, p]``."""
    way = forced or plan("input", x_shape, weight.shape, window)
    if isinstance(way, Flat):
        return flat.input_gradient(dout, weight, x_shape, window)
    if isinstance(way, Depthwise):
        return depthwise.input_gradient(dout, weight, x_shape, window, groups)
    if isinstance(way, Rotated):
        return _rotated(dout, weight, window, groups)
    return sliding.input_gradient(dout, weight, x_shape, window, groups, way)


@_fast_compiled
def bias_gradient(dout: Array) -> Array:
    """``dbias[o] = sum_np dout[n, o, p]``."""
    return arithmetic().sum(dout, (0, *range(2, dout.ndim)))


def _rotated(dout: Array, weight: Array, window: Window, groups: int) -> Array:
    """The input gradient for stride 1: a convolution with the rotated filters."""
    rank = len(window.kernel)
    pairs = zip(window.kernel, window.padding, window.dilation, strict=True)
    padding = tuple((d * (k - 1) - low, d * (k - 1) - high) for k, (low, high), d in pairs)
    by_group = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    rotated = by_group.swapaxes(1, 2)[(slice(None),) * 3 + (slice(None, None, -1),) * rank]
    filters = rotated.reshape(groups * weight.shape[1], by_group.shape[1], *window.kernel)
    full = window._replace(padding=padding)
    way = general("convolve", dout.shape, filters.shape, full)
    return convolve(dout, filters, None, full, groups, way)
