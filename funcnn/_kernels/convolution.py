"""Convolution (cross-correlation) and its two gradients, for any number of spatial axes.

Memory runs batch-last: an image that is logically ``(N, C, H, W)`` lies as ``(C, H, W, N)``, so that
a shift by one tap moves long contiguous runs.

Columns are made along all spatial axes but the first, which costs ``kw`` copies of the image
instead of ``kh * kw``. They lie as ``(H, C * kw, ow * N)``: the ``kh`` rows of the image that one
output row sees are neighbours, so they are one matrix ``(kh * C * kw, ow * N)``, and the matrix of
the next output row overlaps it. Where rows are too short for that, or the first axis is dilated,
an axis of size 1 goes in front; then the same code makes full columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from funcnn import numerics
from funcnn._kernels.products import stacked_product, summed_outer_product
from funcnn._kernels.scratch import scratch
from funcnn._kernels.windows import Window, output_size
from funcnn.types import Array

Shape = tuple[int, ...]

_CHUNK = 1 << 17  # numbers in the columns of one chunk: they should stay in the cache
_SHORT = 64  # the shortest row of an image that is worth a product of its own
_WIDE = 256  # the shortest row of a chunk


class Plan(NamedTuple):
    """How to convolve; every plan gives the same result up to rounding.

    ``rows``: slide along the first spatial axis without copying. ``chunk``: how many places of the
    next axis to do at a time. ``correlate``: the input gradient is itself a convolution, with the
    rotated filters, instead of a sum of columns.
    """

    rows: bool
    chunk: int
    correlate: bool


@lru_cache(maxsize=1024)
def plan(x_shape: Shape, weight_shape: Shape, window: Window) -> Plan:
    """Choose by the shapes alone, never by timing: the same shapes give the same bits.

    Examples
    --------
    >>> plan((32, 3, 28, 28), (6, 3, 5, 5), Window((5, 5), (1, 1), ((0, 0), (0, 0)), (1, 1)))
    Plan(rows=True, chunk=9, correlate=False)
    """
    places = output_size(window, x_shape[2:])
    batch, channels = x_shape[:2]
    run = math.prod(places[1:]) * batch
    rows = (
        len(places) > 1 and window.kernel[0] > 1 and window.dilation[0] == 1 and run >= _SHORT
    )
    chunked = 1 if rows else 0
    heights = x_shape[2] if rows else 1
    per_place = math.prod(places[chunked + 1 :]) * batch
    numbers = heights * channels * math.prod(window.kernel[chunked:]) * per_place
    chunk = max(_CHUNK // max(numbers, 1), -(-_WIDE // max(per_place, 1)))
    fits = all(
        s == 1 and max(pad) <= d * (k - 1) for k, s, pad, d in zip(*window, strict=True)
    )
    little_waste = 4 * math.prod(x_shape[2:]) <= 5 * math.prod(places)
    return Plan(rows, min(chunk, places[chunked]), fits and (little_waste or not rows))


def batch_last(x: Array) -> Array:
    """The same array with the batch fastest in memory: itself if it is so already."""
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
    chosen = forced or plan(x.shape, weight.shape, window)
    places = output_size(window, x.shape[2:])
    out = np.empty((weight.shape[0], *places, x.shape[0]), x.dtype)
    if out.size:
        image, win = _image(x, window, chosen)
        taps = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], win.kernel[0], -1)
        filters = taps.swapaxes(2, 3).reshape(groups, 1, taps.shape[1], -1)
        for some in _chunks(chosen, image, win):
            columns = _columns(image, win, groups, some)
            stacked_product(filters, _windows(columns, win), _rows(out, win, groups, some))
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
    chosen = forced or plan(x.shape, weight_shape, window)
    if not dout.size:
        return np.zeros(weight_shape, x.dtype)
    image, win = _image(x, window, chosen)
    last = batch_last(dout).transpose(*range(1, x.ndim), 0)
    total: Array | None = None
    for some in _chunks(chosen, image, win):
        columns = _columns(image, win, groups, some)
        part = summed_outer_product(_rows(last, win, groups, some), _windows(columns, win))
        total = part if total is None else total + part
    assert total is not None
    taps = total.reshape(weight_shape[0], win.kernel[0], weight_shape[1], -1)
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
    chosen = forced or plan(x_shape, weight.shape, window)
    if chosen.correlate:
        return _correlate(dout, weight, window, groups)
    dx = np.zeros((x_shape[1], *x_shape[2:], x_shape[0]), dout.dtype)
    rank = dx.ndim
    if dout.size:
        image, win = _lead(dx, window, chosen)
        last, _ = _lead(batch_last(dout).transpose(*range(1, rank), 0), window, chosen)
        for some in _chunks(chosen, image, win, last.shape[2]):
            _add_columns(image, last, weight, win, groups, some)
    return dx.transpose(rank - 1, *range(rank - 1))


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


# --- from images to stacks of matrices -------------------------------------------------------------
# Below, images are (C, H, *rest, N), and the window has an entry for H and one for each of the rest.


def _lead(image: Array, window: Window, chosen: Plan) -> tuple[Array, Window]:
    """Put an axis of size 1 in front of the spatial ones, unless the plan slides along the first."""
    if chosen.rows:
        return image, window
    kernel, stride, padding, dilation = window
    return image[:, None], Window((1, *kernel), (1, *stride), ((0, 0), *padding), (1, *dilation))


def _image(x: Array, window: Window, chosen: Plan) -> tuple[Array, Window]:
    """``x`` as a contiguous ``(C, H, *rest, N)``, with the padding in it."""
    last = x.transpose(*range(1, x.ndim), 0)
    if any(map(any, window.padding)):
        spatial = last.shape[1:-1]
        ends = [(low, low + n) for n, (low, _) in zip(spatial, window.padding, strict=True)]
        sizes = [stop + high for (_, stop), (_, high) in zip(ends, window.padding, strict=True)]
        padded = scratch("image", (last.shape[0], *sizes, last.shape[-1]), x.dtype)
        for axis, (start, stop) in enumerate(ends, 1):
            before = (slice(None),) * axis
            padded[(*before, slice(0, start))] = 0
            padded[(*before, slice(stop, None))] = 0
        padded[(slice(None), *(slice(*end) for end in ends))] = last
        last = padded
    elif not last.flags.c_contiguous:
        copied = scratch("image", last.shape, x.dtype)
        copied[...] = last
        last = copied
    return _lead(last, window, chosen)


def _places(image: Array, window: Window, axis: int) -> int:
    """How many places the window has along an axis of a padded image."""
    reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1
    return (image.shape[1 + axis] - reach) // window.stride[axis] + 1


def _chunks(
    chosen: Plan, image: Array, window: Window, places: int | None = None
) -> Iterator[tuple[int, int]]:
    count = _places(image, window, 1) if places is None else places
    for start in range(0, count, chosen.chunk):
        yield start, min(start + chosen.chunk, count)


def _columns(image: Array, window: Window, groups: int, some: tuple[int, int]) -> Array:
    """``(G, H, C / G * taps, places * N)``, the taps and places along all axes but H."""
    channels, height, *_, batch = image.shape
    c, h, *steps, n = image.strides
    start, stop = some
    _, *kernel = window.kernel
    _, *stride = window.stride
    _, *dilation = window.dilation
    places = [stop - start, *(_places(image, window, a) for a in range(2, image.ndim - 2))]
    view = np.ndarray(
        (groups, height, channels // groups, *kernel, *places, batch),
        image.dtype,
        image,
        start * stride[0] * steps[0],
        (
            c * (channels // groups),
            h,
            c,
            *(step * d for step, d in zip(steps, dilation, strict=True)),
            *(step * s for step, s in zip(steps, stride, strict=True)),
            n,
        ),
    )
    depth = channels // groups * math.prod(kernel)
    count = math.prod(places) * batch
    if height == 1 and math.prod(kernel) == 1 and math.prod(stride) == 1:
        return view.reshape(groups, height, depth, count)
    columns = _matrices("columns", (groups, height, depth, count), image.dtype)
    columns.reshape(view.shape)[...] = view
    return columns


def _matrices(name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Borrowed matrices whose rows start an odd number of cache lines apart.

    At a large power of two, all rows would compete for the same few places of the cache.
    """
    *stack, count = shape
    pitch = (count * dtype.itemsize // 64 | 1) * 64 // dtype.itemsize
    pitch += 0 if pitch >= count else 128 // dtype.itemsize
    return scratch(name, (*stack, pitch), dtype)[..., :count]


def _windows(columns: Array, window: Window) -> Array:
    """What each output row sees, ``(G, P, kh * C / G * taps, places * N)``: they overlap."""
    groups, height, depth, count = columns.shape
    taps, stride = window.kernel[0], window.stride[0]
    if height == 1:
        return columns
    g, h, row, item = columns.strides
    shape = (groups, (height - taps) // stride + 1, taps * depth, count)
    return as_strided(columns, shape, (g, h * stride, row, item))


def _rows(image: Array, window: Window, groups: int, some: tuple[int, int]) -> Array:
    """The output ``(O, *places, N)`` as matrices ``(G, P, O / G, places * N)``."""
    leading = 1 if len(window.kernel) == image.ndim - 1 else image.shape[1]
    axis = 1 if len(window.kernel) == image.ndim - 1 else 2
    start, stop = some
    outs = image.shape[0] // groups
    parts = image.reshape(groups, outs, leading, image.shape[axis], -1)[:, :, :, start:stop]
    return parts.reshape(groups, outs, leading, -1).swapaxes(1, 2)


# --- and back --------------------------------------------------------------------------------------


def _add_columns(
    dx: Array, dout: Array, weight: Array, window: Window, groups: int, some: tuple[int, int]
) -> None:
    """Add to ``dx`` what the outputs at some places give it.

    Row ``m * stride + r`` of the padded image meets tap ``r + stride * t`` of output row ``m - t``.
    So for each r, the output rows that it meets are neighbours: one matrix, as in `_windows`.
    """
    start, stop = some
    stride, low = window.stride[0], window.padding[0][0]
    outs, height = dout.shape[0] // groups, dout.shape[1]
    before = -(-window.kernel[0] // stride) - 1
    after = max(0, (dx.shape[1] - 1 + low) // stride - height + 1)
    count = math.prod(dout.shape[2:]) // dout.shape[2] * (stop - start)
    rows = _matrices("rows", (groups, before + height + after, outs, count), dout.dtype)
    rows[:, :before] = 0
    rows[:, before + height :] = 0
    rows[:, before : before + height] = _rows(dout, window, groups, some)
    g, h, o, item = rows.strides
    taps = weight.reshape(groups, outs, weight.shape[1], window.kernel[0], -1)
    for r in range(min(stride, window.kernel[0])):
        first = (r - low) % stride  # row of dx
        m = (first + low) // stride
        some_taps = taps[:, :, :, r::stride][:, :, :, ::-1]
        length = some_taps.shape[3]
        filters = some_taps.transpose(0, 2, 4, 3, 1).reshape(groups, 1, -1, length * outs)
        image = dx[:, first::stride]
        met = as_strided(
            rows[:, m - length + 1 + before :],
            (groups, image.shape[1], length * outs, count),
            (g, h, o, item),
        )
        columns = _matrices("columns", (groups, image.shape[1], filters.shape[2], count), dout.dtype)
        stacked_product(filters, met, columns)
        _fold(columns, image, window, groups, start, (stop - start, *dout.shape[3:-1]))


def _fold(
    columns: Array, image: Array, window: Window, groups: int, start: int, places: Shape
) -> None:
    """Add ``(G, H, C / G * taps, places * N)`` to where the taps were read."""
    channels, height, *spatial, batch = image.shape
    _, *kernel = window.kernel
    shape = (groups, height, channels // groups, *kernel, *places, batch)
    parts = columns.reshape(shape).swapaxes(1, 2)
    target = image.reshape(groups, channels // groups, *image.shape[1:])
    starts = (start, *(0,) * (len(places) - 1))
    ranges = [
        [_meet(tap * d - low, s, n, begin, count) for tap in range(taps)]
        for taps, s, (low, _), d, n, begin, count in zip(
            kernel,
            window.stride[1:],
            window.padding[1:],
            window.dilation[1:],
            spatial,
            starts,
            places,
            strict=True,
        )
    ]
    every = (slice(None),) * 3
    for taps in product(*(range(k) for k in kernel)):
        ends = [ranges[axis][tap] for axis, tap in enumerate(taps)]
        target[(*every, *(into for _, into in ends))] += parts[
            (*every, *taps, *(source for source, _ in ends))
        ]


def _meet(offset: int, stride: int, size: int, start: int, count: int) -> tuple[slice, slice]:
    """Places from `start` whose tap at `offset` lies in the image, and where it lies."""
    first = max(start, -(offset // stride))
    last = max(min(start + count, (size - 1 - offset) // stride + 1), first)
    source = slice(first - start, last - start)
    begin = first * stride + offset
    return source, slice(begin, begin + (last - first - 1) * stride + 1 if last > first else begin,
                         stride)
