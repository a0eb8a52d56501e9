"""Depthwise convolution: few products for each number, so nothing is laid in columns.

Each channel has filters of its own, ``weight (C * M, 1, *kernel)``. Memory runs batch-last. The ``kh``
rows of the image that one output row sees are a matrix, and the next output row's matrix overlaps
it: for each tap of the other axes, a column of a filter is multiplied with all of these. A sequence is
an image of one row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn._kernels.images import batch_first, batch_last, frame, inside
from funcnn._kernels.windows import Window, output_size, steps, taps
from funcnn.machine.memory import scratch
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_FOLDER = "funcnn._kernels.convolution"
_fast_compiled = compiled_in(f"{_FOLDER}.compiled")
_compiled = compiled_in(f"{_FOLDER}.compiled", f"{_FOLDER}.depthwise_portable")


@_compiled
def convolve(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """``out[n, o, p] = bias[o] + sum_k weight[o, 0, k] x[n, o // M, p * stride + k * dilation]``."""
    places = output_size(window, x.shape[2:])
    filters = _filters(weight, groups)
    shape = (*filters.shape[:2], *_run(places, x.shape[0]))
    out, term = np.empty(shape, x.dtype), scratch("depthwise term", shape, x.dtype)
    for tap, (column, rows) in enumerate(_seen(x, window, places)):
        taps = np.ascontiguousarray(filters[column])[:, :, None, None]
        numerics.matmul(taps, rows[:, None], term if tap else out)
        if tap:
            out += term
    if bias is not None:
        out += bias.reshape(groups, -1, 1, 1, 1)
    return batch_first(out.reshape(weight.shape[0], *places, x.shape[0]))


@_compiled
def weight_gradient(
    x: Array, dout: Array, weight_shape: tuple[int, ...], window: Window, groups: int
) -> Array:
    """``dweight[o, 0, k] = sum_np dout[n, o, p] x[n, o // M, p * stride + k * dilation]``."""
    places = dout.shape[2:]
    dweight = np.empty(weight_shape, x.dtype)
    dfilters = _filters(dweight, groups)
    slopes = np.ascontiguousarray(batch_last(dout))
    slopes = slopes.reshape(*dfilters.shape[:2], *_run(places, x.shape[0])).swapaxes(3, 4)
    for column, rows in _seen(x, window, places):
        products = numerics.matmul(rows[:, None], slopes)  # (C, M, oh, kh, 1)
        dfilters[column] = numerics.sum(products, 2)[..., 0]
    return dweight


@_fast_compiled
def input_gradient(
    dout: Array, weight: Array, x_shape: tuple[int, ...], window: Window, groups: int
) -> Array:
    """``dx``: for stride 1 a convolution with the rotated filters, else the sum of the taps."""
    full = _full(window)
    multiplier = weight.shape[0] // groups
    if full is not None:
        rotated = np.flip(weight, tuple(range(2, weight.ndim)))
        each = batch_last(convolve(dout, rotated, None, full, weight.shape[0]))
        if multiplier > 1:
            each = numerics.sum(each.reshape(groups, multiplier, *each.shape[1:]), 1)
        return batch_first(each)
    spatial = x_shape[2:]
    last = batch_last(dout)
    slopes = last.reshape(groups, multiplier, *last.shape[1:])
    filters = np.moveaxis(weight.reshape(groups, multiplier, -1), 2, 0)
    sizes = (n + low + high for n, (low, high) in zip(spatial, window.padding, strict=True))
    dx = np.zeros((groups, *sizes, x_shape[0]), dout.dtype)
    for where, tap in zip(taps(window, dout.shape[2:]), filters, strict=True):
        for m in range(multiplier):
            dx[where] += slopes[:, m] * tap[:, m].reshape(-1, *(1,) * (last.ndim - 1))
    return batch_first(dx[inside(spatial, window)])


def _filters(weight: Array, groups: int) -> Array:
    """A view ``(C, M, kh, kw...)``, with ``kh = 1`` for sequences."""
    kernel = weight.shape[2:] if weight.ndim > 3 else (1, *weight.shape[2:])
    return weight.reshape(groups, weight.shape[0] // groups, *kernel)


def _seen(x: Array, window: Window, places: tuple[int, ...]) -> Iterator[tuple[tuple[Any, ...], Array]]:
    """Each column of the filters, with the rows that each output row sees: ``(C, oh, kh, run)``."""
    base = frame(x, window.padding)
    if len(places) == 1:
        base, places = base[:, None], (1, *places)
        window = Window((1, *window.kernel), (1, *window.stride), ((0, 0),), (1, *window.dilation))
    kernel, stride, dilation = window.kernel[0], window.stride[0], window.dilation[0]
    axes = [enumerate(steps(window, axis, places[axis])) for axis in range(1, len(places))]
    for taps_of_others in product(*axes):
        column, where = zip(*taps_of_others, strict=True) if axes else ((), ())
        part = base[(slice(None), slice(None), *where)]
        rows = part.reshape(*part.shape[:2], math.prod(part.shape[2:]))
        channel, row, one = rows.strides
        yield (
            (..., *column),
            np.lib.stride_tricks.as_strided(
                rows,
                (len(rows), places[0], kernel, rows.shape[2]),
                (channel, row * stride, row * dilation, one),
                writeable=False,
            ),
        )


def _run(places: tuple[int, ...], batch: int) -> tuple[int, int, int]:
    """The shape in which ``(*places, N)`` lies under its filters: ``(oh, 1, run)``."""
    rows = places[0] if len(places) > 1 else 1
    return rows, 1, math.prod(places) // rows * batch


def _full(window: Window) -> Window | None:
    """The window of the input gradient where that is a convolution itself."""
    spans = [d * (k - 1) for k, d in zip(window.kernel, window.dilation, strict=True)]
    pads = tuple((f - low, f - high) for f, (low, high) in zip(spans, window.padding, strict=True))
    if any(s > 1 for s in window.stride) or any(min(pair) < 0 for pair in pads):
        return None
    return window._replace(padding=pads)
