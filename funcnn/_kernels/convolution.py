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
from typing import Any, Literal, NamedTuple

import numpy as np

from funcnn import numerics
from funcnn._kernels.products import stacked_product, summed_outer_product
from funcnn._kernels.scratch import scratch
from funcnn._kernels.windows import Window, output_size
from funcnn.types import Array

Shape = tuple[int, ...]
Operation = Literal["convolve", "weight", "input"]

_CHUNK = 1 << 20  # numbers of overlapping columns at a time: they should stay in a cache
_FULL_CHUNK = 1 << 19  # and of full columns, each of which is read once
_SHORT = 48  # the shortest row that is worth a product of its own
_LONG = 256  # and the shortest whose partial sum is worth keeping
_FEW = 1200  # weights whose partial sums cost little


class Plan(NamedTuple):
    """How to convolve; every plan gives the same result up to rounding.

    ``rows``: slide along the first spatial axis without copying. ``chunk``: how many places of the
    next axis to do at a time. ``correlate``: the input gradient is itself a convolution, with the
    rotated filters, instead of a sum of columns.
    """

    rows: bool
    chunk: int
    correlate: bool = False


@lru_cache(maxsize=1024)
def plan(operation: Operation, x_shape: Shape, weight_shape: Shape, window: Window) -> Plan:
    """Choose by the shapes alone, never by timing: the same shapes give the same bits.

    Examples
    --------
    >>> window = Window((5, 5), (1, 1), ((0, 0), (0, 0)), (1, 1))
    >>> plan("convolve", (32, 3, 28, 28), (6, 3, 5, 5), window)
    Plan(rows=True, chunk=24, correlate=False)
    """
    batch, channels, height = x_shape[:3]
    places = output_size(window, x_shape[2:])
    run = math.prod(places[1:]) * batch
    rows = len(places) > 1 and window.kernel[0] > 1 and window.dilation[0] == 1
    if operation == "convolve":
        rows = rows and run >= _SHORT
    elif operation == "weight":
        rows = rows and (run >= _LONG or math.prod(weight_shape) <= _FEW)
    elif run >= _SHORT or not rows:
        fits = all(s == 1 and max(pad) <= d * (k - 1) for k, s, pad, d in zip(*window, strict=True))
        waste = math.prod(x_shape[2:]) / math.prod(places)
        if fits and (waste <= 1.25 or not rows):
            return Plan(rows, 1, correlate=True)
    axis = 1 if rows else 0
    copies = channels * math.prod(window.kernel[axis:]) * (height if rows else 1)
    numbers = copies * math.prod(places[axis:]) * batch
    pieces = max(1, -(-numbers // (_CHUNK if rows else _FULL_CHUNK)))
    return Plan(rows, max(1, -(-places[axis] // pieces)))


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
    chosen = forced or plan("convolve", x.shape, weight.shape, window)
    places = output_size(window, x.shape[2:])
    out = np.empty((weight.shape[0], *places, x.shape[0]), x.dtype)
    if out.size:
        image, win = _image(numerics.prepare(x), window, chosen)
        taps = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], win.kernel[0], -1)
        filters = np.ascontiguousarray(taps.swapaxes(2, 3)).reshape(groups, 1, taps.shape[1], -1)
        for some in _chunks(chosen, places):
            columns = _columns(image, win, groups, some)
            stacked_product(filters, columns, _matrices(out, chosen, groups, some))
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
    chosen = forced or plan("weight", x.shape, weight_shape, window)
    if not dout.size:
        return np.zeros(weight_shape, x.dtype)
    image, win = _image(numerics.prepare(x), window, chosen)
    last = numerics.prepare(batch_last(dout)).transpose(*range(1, x.ndim), 0)
    total: Array | None = None
    for some in _chunks(chosen, dout.shape[2:]):
        columns = _columns(image, win, groups, some)
        part = summed_outer_product(_matrices(last, chosen, groups, some), columns, x.dtype)
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
    chosen = forced or plan("input", x_shape, weight.shape, window)
    if chosen.correlate:
        return _correlate(dout, weight, window, groups)
    dx = np.zeros((x_shape[1], *x_shape[2:], x_shape[0]), dout.dtype)
    if dout.size:
        image, win = _lead(dx, window, chosen)
        last = numerics.prepare(batch_last(dout)).transpose(*range(1, dout.ndim), 0)
        for some in _chunks(chosen, dout.shape[2:]):
            _add_columns(image, _matrices(last, chosen, groups, some), weight, win, some)
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


# --- from images to stacks of matrices -------------------------------------------------------------
# Below, images are (C, H, *rest, N), and the window has an entry for H and one for each of the rest.


def _lead(image: Array, window: Window, chosen: Plan) -> tuple[Array, Window]:
    """Put an axis of size 1 in front of the spatial ones, unless the plan slides along the first."""
    if chosen.rows:
        return image, window
    kernel, stride, padding, dilation = window
    return image[:, None], Window((1, *kernel), (1, *stride), ((0, 0), *padding), (1, *dilation))


def _image(x: Array, window: Window, chosen: Plan) -> tuple[Array, Window]:
    """``x`` as ``(C, H, *rest, N)``, contiguous unless it has padding that `_columns` will add."""
    last = x.transpose(*range(1, x.ndim), 0)
    padding = window.padding
    if not chosen.rows and any(map(any, padding)):
        sizes = [low + n + high for n, (low, high) in zip(x.shape[2:], padding, strict=True)]
        image = scratch("image", (last.shape[0], *sizes, last.shape[-1]), x.dtype)
        for axis, (n, (low, _)) in enumerate(zip(x.shape[2:], padding, strict=True), 1):
            before = (slice(None),) * axis
            image[(*before, slice(0, low))] = 0
            image[(*before, slice(low + n, None))] = 0
        inside = (slice(low, low + n) for n, (low, _) in zip(x.shape[2:], padding, strict=True))
        image[(slice(None), *inside)] = last
        return _lead(image, window._replace(padding=((0, 0),) * len(sizes)), chosen)
    if not last.flags.c_contiguous:
        image = scratch("image", last.shape, x.dtype)
        image[...] = last
        last = image
    return _lead(last, window, chosen)


def _chunks(chosen: Plan, places: Shape) -> Iterator[tuple[int, int]]:
    """The places of the second axis (the first of the rest), a few at a time."""
    count = places[1 if chosen.rows else 0]
    for start in range(0, count, chosen.chunk):
        yield start, min(start + chosen.chunk, count)


def _pitch(count: int, dtype: np.dtype[Any]) -> int:
    """Numbers from one row of a borrowed matrix to the next: an odd number of cache lines.

    At a large power of two, all rows would compete for the same few places of the cache.
    """
    return (-(-count * dtype.itemsize // 64) | 1) * 64 // dtype.itemsize


def _columns(image: Array, window: Window, groups: int, some: tuple[int, int]) -> Array:
    """What each output row sees: matrices ``(G, P, kh * C / G * taps, places * N)``.

    The taps and places are those along all axes but H. The matrices overlap in memory.
    """
    channels, height, *spatial, batch = image.shape
    (tall, *kernel), (step, *stride), ((low, high), *padding), (_, *dilation) = window
    start, stop = some
    places = [stop - start, *_places(window, spatial)]
    rows, depth = low + height + high, channels // groups * math.prod(kernel)
    count = math.prod(places) * batch
    padded = any(map(any, padding))
    c, h, *steps, n = image.strides
    outer = (c * (channels // groups), h, c)
    if not padded:
        taps = (f * d for f, d in zip(steps, dilation, strict=True))
        moves = (f * s for f, s in zip(steps, stride, strict=True))
        seen = np.ndarray(
            (groups, height, channels // groups, *kernel, *places, batch),
            image.dtype,
            image,
            start * stride[0] * steps[0],
            (*outer, *taps, *moves, n),
        )
        if rows == 1 and depth == channels // groups and math.prod(stride) == 1:
            return seen.reshape(groups, 1, depth, count)  # the image itself
    pitch = _pitch(count, image.dtype)
    columns = scratch("columns", (groups, rows, depth, pitch), image.dtype)
    columns[:, :low] = 0
    columns[:, low + height :] = 0
    shape = (groups, height, channels // groups, *kernel, *places, batch)
    parts = columns[:, low : low + height, :, :count].reshape(shape)
    if not padded:
        parts[...] = seen
    else:
        parts = parts.swapaxes(1, 2)
        source = image.reshape(groups, channels // groups, *image.shape[1:])
        for tap, into, where in _meetings(window, spatial, start, places):
            part = parts[(slice(None),) * 3 + tap]
            for axis, at in enumerate(into, 3):
                before = (slice(None),) * axis
                part[(*before, slice(0, at.start))] = 0
                part[(*before, slice(at.stop, None))] = 0
            part[(slice(None),) * 3 + into] = source[(slice(None),) * 3 + where]
    size = image.dtype.itemsize
    row = depth * pitch * size
    return np.ndarray(
        (groups, (rows - tall) // step + 1, tall * depth, count),
        image.dtype,
        columns,
        0,
        (rows * row, step * row, pitch * size, size),
    )


def _places(window: Window, spatial: list[int]) -> Shape:
    """Places along the axes after the one that is done in chunks."""
    kernel, stride, padding, dilation = window
    rest = Window(kernel[2:], stride[2:], padding[2:], dilation[2:])
    return output_size(rest, tuple(spatial[1:]))


def _matrices(image: Array, chosen: Plan, groups: int, some: tuple[int, int]) -> Array:
    """Some places of a contiguous ``(O, *places, N)`` as matrices ``(G, P, O / G, places * N)``."""
    rows, axis = (image.shape[1], 2) if chosen.rows else (1, 1)
    shape = (groups, image.shape[0] // groups, rows)
    parts = image.reshape(*shape, image.shape[axis], -1)[:, :, :, some[0] : some[1]]
    return parts.reshape(*shape, -1).swapaxes(1, 2)


# --- and back --------------------------------------------------------------------------------------


def _add_columns(dx: Array, dout: Array, weight: Array, window: Window, some: tuple[int, int]) -> None:
    """Add to ``dx`` what some places of the outputs, ``(G, P, O / G, places * N)``, give it.

    Row ``m * stride + r`` of the padded image meets tap ``r + stride * t`` of output row ``m - t``.
    So for each r, the output rows that it meets are neighbours: one matrix, as in `_columns`.
    """
    groups, height, outs, count = dout.shape
    stride, low = window.stride[0], window.padding[0][0]
    before = -(-window.kernel[0] // stride) - 1
    after = max(0, (dx.shape[1] - 1 + low) // stride - height + 1)
    pitch = _pitch(count, dout.dtype)
    rows = scratch("rows", (groups, before + height + after, outs, pitch), dout.dtype)
    rows[:, :before] = 0
    rows[:, before + height :] = 0
    rows[:, before : before + height, :, :count] = dout
    g, h, o, size = rows.strides
    taps = weight.reshape(groups, outs, weight.shape[1], window.kernel[0], -1)
    for r in range(min(stride, window.kernel[0])):
        first = (r - low) % stride  # row of dx
        image = dx[:, first::stride]
        if not image.size:
            continue
        met = taps[:, :, :, r::stride][:, :, :, ::-1]
        length = met.shape[3]
        filters = np.ascontiguousarray(met.transpose(0, 2, 4, 3, 1))
        filters = filters.reshape(groups, 1, -1, length * outs)
        seen = np.ndarray(
            (groups, image.shape[1], length * outs, count),
            dout.dtype,
            rows,
            ((first + low) // stride - length + 1 + before) * h,
            (g, h, o, size),
        )
        columns = scratch("columns", (*seen.shape[:2], filters.shape[2], pitch), dx.dtype)
        stacked_product(filters, seen, columns[..., :count])
        _fold(columns[..., :count], image, window, some)


def _fold(columns: Array, image: Array, window: Window, some: tuple[int, int]) -> None:
    """Add ``(G, H, C / G * taps, places * N)`` to where the taps were read."""
    channels, height, *spatial, batch = image.shape
    groups, (_, *kernel) = columns.shape[0], window.kernel
    places = [some[1] - some[0], *_places(window, spatial)]
    shape = (groups, height, channels // groups, *kernel, *places, batch)
    parts = columns.reshape(shape).swapaxes(1, 2)
    target = image.reshape(groups, channels // groups, *image.shape[1:])
    every = (slice(None),) * 3
    for tap, source, where in _meetings(window, spatial, some[0], places):
        into = target[every + where]
        np.add(into, parts[every + tap][every + source], out=into)


def _meetings(
    window: Window, spatial: list[int], start: int, places: list[int]
) -> Iterator[tuple[Shape, tuple[slice, ...], tuple[slice, ...]]]:
    """For each tap along all axes but H: which of the places, and where in the image they read."""
    axes: list[list[tuple[int, slice, slice]]] = []
    _, *fields = zip(*window, strict=True)
    for (taps, stride, (low, _), dilation), n, count in zip(fields, spatial, places, strict=True):
        axes.append([])
        for tap in range(taps):
            offset = tap * dilation - low
            first = max(start, -(offset // stride))
            stop = max(first, min(start + count, (n - 1 - offset) // stride + 1))
            at = first * stride + offset
            where = slice(at, at + max(0, (stop - first - 1) * stride + 1), stride)
            axes[-1].append((tap, slice(first - start, stop - start), where))
        start = 0
    for meeting in product(*axes):
        tap, into, where = zip(*meeting, strict=True)
        yield tap, into, where
