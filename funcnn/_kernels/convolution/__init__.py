"""Convolution (cross-correlation) and its two gradients, for any number of spatial axes.

How images become matrices stands in `overlapping`, how those are multiplied in `products`; here are
the three operations, and which way to do them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from funcnn import numerics
from funcnn._kernels.convolution import flat as flat_kernels
from funcnn._kernels.convolution.overlapping import (
    add_columns,
    columns,
    heightened,
    image,
    layouts,
    matrices,
)
from funcnn._kernels.convolution.products import stacked_product, summed_outer_product
from funcnn._kernels.windows import Window, output_size
from funcnn.machine.threads import share
from funcnn.types import Array

Shape = tuple[int, ...]
Operation = Literal["convolve", "weight", "input"]

_CHUNK = 10 << 15  # numbers of overlapping columns at a time: they should stay in a cache
_FULL_CHUNK = 1 << 19  # and of full columns, each of which is read once
_SHORT = 48  # the shortest row that is worth a product of its own
_LONG = 256  # and the shortest whose partial sum is worth keeping
_FEW = 1200  # weights with which short rows cost little
_SMALL = 1 << 16  # numbers of flat columns: above, they leave the cache that they are made in
_PRODUCTS = 1 << 19  # multiplications by them: above, BLAS copies its matrices first


class Plan(NamedTuple):
    """How to convolve; every plan gives the same result up to rounding.

    ``rows``: slide along the first spatial axis without copying. ``chunk``: how many places of the
    next axis to do at a time. ``correlate``: the input gradient is itself a convolution, with the
    rotated filters, instead of a sum of columns. ``flat``: as a single product of long rows, see
    `flat`; then the others do not matter.
    """

    rows: bool
    chunk: int
    correlate: bool = False
    flat: bool = False


@lru_cache(maxsize=1024)
def plan(operation: Operation, x_shape: Shape, weight_shape: Shape, window: Window) -> Plan:
    """Choose by the shapes alone, never by timing: the same shapes give the same bits.

    Examples
    --------
    >>> window = Window((5, 5), (1, 1), ((0, 0), (0, 0)), (1, 1))
    >>> plan("convolve", (32, 3, 28, 28), (6, 3, 5, 5), window)
    Plan(rows=True, chunk=24, correlate=False, flat=False)
    """
    batch, channels, height = x_shape[:3]
    places = output_size(window, x_shape[2:])
    if _fits_flat(x_shape, weight_shape, window):
        return Plan(False, 1, flat=True)
    run, weights = math.prod(places[1:]) * batch, math.prod(weight_shape)
    rows = len(places) > 1 and window.kernel[0] > 1 and window.dilation[0] == 1
    if operation == "convolve":
        rows = rows and (run >= _SHORT or weights <= 2 * _FEW)
    elif operation == "weight":
        rows = rows and (run >= _LONG or (run >= _SHORT and weights <= _FEW))
    elif run >= _SHORT or not rows:
        fits = all(s == 1 and max(pad) <= d * (k - 1) for k, s, pad, d in zip(*window, strict=True))
        waste = math.prod(x_shape[2:]) / math.prod(places)
        if fits and waste <= (1.25 if rows else 2.5):
            return Plan(rows, 1, correlate=True)
    axis = 1 if rows else 0
    copies = channels * math.prod(window.kernel[axis:]) * (height if rows else 1)
    numbers = copies * math.prod(places[axis:]) * batch
    pieces = max(1, -(-numbers // (_CHUNK if rows else _FULL_CHUNK)))
    return Plan(rows, max(1, -(-places[axis] // pieces)))


def _fits_flat(x_shape: Shape, weight_shape: Shape, window: Window) -> bool:
    """Whether a convolution is small, has stride 1 and one group, and flat wastes half at most."""
    framed = [n + low + high for n, (low, high) in zip(x_shape[2:], window.padding, strict=True)]
    places = output_size(window, x_shape[2:])
    columns = math.prod(weight_shape[1:]) * math.prod(framed) * x_shape[0]
    return (
        set(window.stride) == {1}
        and weight_shape[1] == x_shape[1]
        and 0 < columns <= min(_SMALL, _PRODUCTS // weight_shape[0])
        and math.prod(framed[1:]) <= 1.5 * math.prod(places[1:])
    )


def batch_last(x: Array) -> Array:
    """The same array with the batch fastest in memory: itself if it is so already."""
    if len(x) == 1 and x.flags.c_contiguous:
        return x
    rank = x.ndim
    last = np.ascontiguousarray(x.transpose(*range(1, rank), 0))
    return last.transpose(rank - 1, *range(rank - 1))


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Array:
    """``out[n, o, p] = bias[o] + sum_ck weight[o, c, k] x[n, c, p * stride + k * dilation]``."""
    rows, chunk, _, flat = forced or plan("convolve", x.shape, weight.shape, window)
    if flat:
        return flat_kernels.convolve(x, weight, bias, window)
    outs, ins = weight.shape[:2]
    out = np.empty((outs, *output_size(window, x.shape[2:]), x.shape[0]), x.dtype)
    if out.size:
        pixels, seen = image(numerics.prepare(x), window, rows)
        taps = weight.reshape(outs, ins, window.kernel[0] if rows else 1, -1)
        filters = np.ascontiguousarray(taps.swapaxes(1, 2)).reshape(groups, 1, outs // groups, -1)
        parts = layouts(pixels.shape, seen, groups, pixels.itemsize, chunk)

        def convolve_some(i: int) -> None:
            target = matrices(out, parts[i], out.shape[1] if rows else 1)
            stacked_product(filters, columns(pixels, parts[i]), target)

        share(convolve_some, len(parts))
    if bias is not None:
        out += bias.reshape(-1, *(1,) * (x.ndim - 1))
    return out.transpose(x.ndim - 1, *range(x.ndim - 1))


def weight_gradient(
    x: Array,
    dout: Array,
    weight_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Array:
    """``dweight[o, c, k] = sum_np dout[n, o, p] x[n, c, p * stride + k * dilation]``."""
    rows, chunk, _, flat = forced or plan("weight", x.shape, weight_shape, window)
    if flat:
        return flat_kernels.weight_gradient(x, dout, weight_shape, window)
    if not dout.size:
        return np.zeros(weight_shape, x.dtype)
    pixels, seen = image(numerics.prepare(x), window, rows)
    slopes = numerics.prepare(batch_last(dout)).transpose(*range(1, x.ndim), 0)
    height = slopes.shape[1] if rows else 1
    parts = layouts(pixels.shape, seen, groups, pixels.itemsize, chunk)

    def multiply_some(i: int) -> Array:
        left, right = matrices(slopes, parts[i], height), columns(pixels, parts[i])
        return summed_outer_product(left, right, x.dtype)

    total, *others = share(multiply_some, len(parts))
    for other in others:
        total += other
    taps = total.reshape(weight_shape[0], window.kernel[0] if rows else 1, weight_shape[1], -1)
    return np.ascontiguousarray(taps.swapaxes(1, 2)).reshape(weight_shape)


def input_gradient(
    dout: Array,
    weight: Array,
    x_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Array:
    """``dx[n, c, p * stride + k * dilation] += sum_o weight[o, c, k] dout[n, o, p]``."""
    rows, chunk, correlate, flat = forced or plan("input", x_shape, weight.shape, window)
    if flat:
        return flat_kernels.input_gradient(dout, weight, x_shape, window)
    if correlate:
        return _correlate(dout, weight, window, groups)
    dx = np.zeros((x_shape[1], *x_shape[2:], x_shape[0]), dout.dtype)
    if dout.size:
        outs, ins = weight.shape[:2]
        taps = weight.reshape(groups, outs // groups, ins, window.kernel[0] if rows else 1, -1)
        slopes = numerics.prepare(batch_last(dout)).transpose(*range(1, dout.ndim), 0)
        target, seen = (dx, window) if rows else (dx[:, None], heightened(window))
        height = slopes.shape[1] if rows else 1
        for layout in layouts(target.shape, seen, groups, dout.itemsize, chunk):
            add_columns(target, matrices(slopes, layout, height), taps, layout)
    return dx.transpose(dx.ndim - 1, *range(dx.ndim - 1))


def bias_gradient(dout: Array) -> Array:
    """``dbias[o] = sum_np dout[n, o, p]``."""
    return numerics.sum(dout, (0, *range(2, dout.ndim)))


def _correlate(dout: Array, weight: Array, window: Window, groups: int) -> Array:
    """The input gradient for stride 1: a convolution with the rotated filters."""
    rank = len(window.kernel)
    pairs = zip(window.kernel, window.padding, window.dilation, strict=True)
    padding = tuple((d * (k - 1) - low, d * (k - 1) - high) for k, (low, high), d in pairs)
    by_group = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    rotated = by_group.swapaxes(1, 2)[(slice(None),) * 3 + (slice(None, None, -1),) * rank]
    filters = rotated.reshape(groups * weight.shape[1], by_group.shape[1], *window.kernel)
    return convolve(dout, filters, None, window._replace(padding=padding), groups)
