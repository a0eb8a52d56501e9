"""The general way: products of overlapping rows, or of columns.

Along the first spatial axis nothing is copied (`Rows`): the rows of the image that one output row sees
are one matrix, and the next output row's matrix overlaps it. Where rows are too short for that, or the
first axis is dilated, each window's elements are copied (`Columns`), some places at a time. How images
become these matrices stands in `overlapping`.
"""

from __future__ import annotations

import numpy as np

from funcnn._kernels.convolution.overlapping import (
    add_columns,
    columns,
    heightened,
    image,
    layouts,
    matrices,
)
from funcnn._kernels.convolution.plans import Columns, Rows
from funcnn._kernels.images import FIRST, LAST, arranged
from funcnn._kernels.windows import Window, output_size
from funcnn.machine.threads import share
from funcnn.numerics import arithmetic
from funcnn.types import Array

Shape = tuple[int, ...]


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    groups: int,
    way: Rows | Columns,
) -> Array:
    """``out[n, o, p] = bias[o] + sum_ck weight[o, c, k] x[n, c, p * stride + k * dilation]``."""
    rows, now = isinstance(way, Rows), arithmetic()
    outs, ins = weight.shape[:2]
    out = np.empty((outs, *output_size(window, x.shape[2:]), x.shape[0]), x.dtype)
    if out.size:
        pixels, seen = image(now.prepare(x), window, rows)
        taps = weight.reshape(outs, ins, window.kernel[0] if rows else 1, -1)
        filters = np.ascontiguousarray(taps.swapaxes(1, 2)).reshape(groups, 1, outs // groups, -1)
        parts = layouts(pixels.shape, seen, groups, pixels.itemsize, way.chunk)

        def convolve_some(i: int) -> None:
            target = matrices(out, parts[i], out.shape[1] if rows else 1)
            now.stacked_matmul(filters, columns(pixels, parts[i]), target)

        if len(parts) == 1:
            convolve_some(0)
        else:
            share(convolve_some, len(parts))
    if bias is not None:
        out += bias.reshape(-1, *(1,) * (x.ndim - 1))
    return out.transpose(FIRST[x.ndim])


def weight_gradient(
    x: Array,
    dout: Array,
    weight_shape: Shape,
    window: Window,
    groups: int,
    way: Rows | Columns,
) -> Array:
    """``dweight[o, c, k] = sum_np dout[n, o, p] x[n, c, p * stride + k * dilation]``."""
    rows, now = isinstance(way, Rows), arithmetic()
    if not dout.size:
        return np.zeros(weight_shape, x.dtype)
    pixels, seen = image(now.prepare(x), window, rows)
    slopes = now.prepare(arranged(dout)).transpose(LAST[x.ndim])
    height = slopes.shape[1] if rows else 1
    parts = layouts(pixels.shape, seen, groups, pixels.itemsize, way.chunk)

    def multiply_some(i: int) -> Array:
        left, right = matrices(slopes, parts[i], height), columns(pixels, parts[i])
        return now.summed_matmul(left, right.swapaxes(-2, -1), x.dtype)

    total, *others = share(multiply_some, len(parts)) if len(parts) > 1 else [multiply_some(0)]
    for other in others:
        total += other
    taps = total.reshape(weight_shape[0], window.kernel[0] if rows else 1, weight_shape[1], -1)
    return np.ascontiguousarray(taps.swapaxes(1, 2)).reshape(weight_shape)


def input_gradient(
    dout: Array,
    weight: Array,
    x_shape: Shape,
    window: Window,
    groups: int,
    way: Rows | Columns,
) -> Array:
    """``dx[n, c, p * stride + k * dilation] += sum_o weight[o, c, k] dout[n, o, p]``."""
    rows, now = isinstance(way, Rows), arithmetic()
    dx = np.zeros((x_shape[1], *x_shape[2:], x_shape[0]), dout.dtype)
    if dout.size:
        outs, ins = weight.shape[:2]
        taps = weight.reshape(groups, outs // groups, ins, window.kernel[0] if rows else 1, -1)
        slopes = now.prepare(arranged(dout)).transpose(LAST[dout.ndim])
        target, seen = (dx, window) if rows else (dx[:, None], heightened(window))
        height = slopes.shape[1] if rows else 1
        for layout in layouts(target.shape, seen, groups, dout.itemsize, way.chunk):
            add_columns(target, matrices(slopes, layout, height), taps, layout)
    return dx.transpose(FIRST[dx.ndim])
