"""Images as stacks of overlapping matrices, and back: what convolution multiplies.

Memory runs batch-last: an image that is logically ``(N, C, H, W)`` lies as ``(C, H, W, N)``, so that
a shift by one tap moves long contiguous runs.

Columns are made along all spatial axes but the first, which costs ``kw`` copies of the image
instead of ``kh * kw``. They lie as ``(H, C * kw, ow * N)``: the ``kh`` rows of the image that one
output row sees are neighbours, so they are one matrix ``(kh * C * kw, ow * N)``, and the matrix of
the next output row overlaps it. Where rows are too short for that, or the first axis is dilated,
an axis of size 1 goes in front; then the same code makes full columns.

Below, images are ``(C, H, *rest, N)``, and a `Layout`'s window has an entry for H and one for each
of the rest.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from funcnn._kernels.images import frame
from funcnn._kernels.runs import short_runs
from funcnn._kernels.windows import Window, output_size
from funcnn.machine.memory import scratch
from funcnn.numerics import arithmetic
from funcnn.types import Array

Shape = tuple[int, ...]
# Multiplications by zero that cost more than products of their own: measured as those of `plans`.
_ZEROS = 2_000_000

Meetings = tuple[tuple[Shape, tuple[slice, ...], tuple[slice, ...]], ...]


class Layout(NamedTuple):
    """Where the columns of some places lie.

    ``some`` are places of the first of the rest. A window's elements are ``seen`` by strides where
    no padding is in the way. ``columns`` is the memory ``(G, H, C / G * taps, pitch)``, of which
    ``parts`` is used, and ``windows`` the shape and strides of what output rows see of it.
    """

    window: Window
    some: slice
    padded: bool
    itself: bool
    offset: int
    seen: Shape
    seen_strides: Shape
    columns: Shape
    parts: Shape
    windows: Shape
    windows_strides: Shape


@lru_cache(maxsize=1024)
def layouts(
    image_shape: Shape, window: Window, groups: int, size: int, chunk: int
) -> tuple[Layout, ...]:
    """One layout for each chunk of places, for an image of numbers with `size` bytes."""
    channels, *spatial, batch = image_shape
    (tall, *kernel), (step, *stride), ((low, high), *padding), (_, *dilation) = window
    ins, height = channels // groups, spatial[0]
    heights, depth = low + height + high, ins * math.prod(kernel)
    steps = [math.prod(spatial[axis + 1 :]) * batch * size for axis in range(len(spatial))]
    plane = math.prod(spatial) * batch * size
    places = output_size(window, tuple(spatial))
    found = []
    for start in range(0, places[1], chunk):
        stop = min(start + chunk, places[1])
        here = (stop - start, *places[2:])
        count = math.prod(here) * batch
        itself = heights == tall == 1 and math.prod(kernel) == math.prod(stride) == 1
        line = pitch(count, size)
        row = depth * line * size
        found.append(
            Layout(
                window,
                slice(start, stop),
                any(map(any, padding)),
                itself and not any(map(any, padding)),
                start * stride[0] * steps[1],
                (groups, height, ins, *kernel, *here, batch),
                (
                    plane * ins,
                    steps[0],
                    plane,
                    *(f * d for f, d in zip(steps[1:], dilation, strict=True)),
                    *(f * s for f, s in zip(steps[1:], stride, strict=True)),
                    size,
                ),
                (groups, heights, depth, line),
                (groups, height, depth, count),
                (groups, places[0], tall * depth, count),
                (heights * row, step * row, line * size, size),
            )
        )
    return tuple(found)


def image(x: Array, window: Window, rows: bool) -> tuple[Array, Window]:
    """``(N, C, *spatial)`` as a contiguous ``(C, H, *rest, N)``, and the window on it.

    An image that lends its first axis as H keeps its padding to be added by `columns`; another one
    gets an H of size 1, and its padding here.
    """
    if rows:
        return frame(x, ((0, 0),) * len(window.padding)), window
    unpadded = window._replace(padding=((0, 0),) * len(window.padding))
    return frame(x, window.padding)[:, None], heightened(unpadded)


def heightened(window: Window) -> Window:
    """The window with an H of size 1 in front."""
    kernel, stride, padding, dilation = window
    return Window((1, *kernel), (1, *stride), ((0, 0), *padding), (1, *dilation))


def columns(image: Array, layout: Layout) -> Array:
    """What each output row sees: matrices ``(G, P, kh * C / G * taps, places * N)``, overlapping."""
    if layout.itself:
        seen = np.ndarray(layout.seen, image.dtype, image, layout.offset, layout.seen_strides)
        return seen.reshape(layout.windows)
    low, height = layout.window.padding[0][0], layout.parts[1]
    made = scratch("columns", layout.columns, image.dtype)
    if height < made.shape[1]:
        made[:, :low] = 0
        made[:, low + height :] = 0
    parts = made[:, low : low + height, :, : layout.parts[3]].reshape(layout.seen)
    if not layout.padded:
        parts[...] = np.ndarray(layout.seen, image.dtype, image, layout.offset, layout.seen_strides)
    else:
        parts = parts.swapaxes(1, 2)
        source = image.reshape(layout.seen[0], layout.seen[2], *image.shape[1:])
        for tap, into, where in meetings(layout, image.shape):
            part = parts[tap]
            for axis, at in enumerate(into[3:], 3):
                before = (slice(None),) * axis
                part[(*before, slice(0, at.start))] = 0
                part[(*before, slice(at.stop, None))] = 0
            part[into] = source[where]
    return np.ndarray(layout.windows, image.dtype, made, 0, layout.windows_strides)


def matrices(image: Array, layout: Layout, rows: int) -> Array:
    """The layout's places of a contiguous ``(O, rows, *rest, N)``: ``(G, rows, O / G, places * N)``."""
    groups, _, _, count = layout.windows
    outs = image.shape[0] // groups
    parts = image.reshape(groups, outs, rows, -1, count // (layout.some.stop - layout.some.start))
    return parts[:, :, :, layout.some].reshape(groups, outs, rows, count).swapaxes(1, 2)


@short_runs
def add_columns(dx: Array, dout: Array, taps: Array, layout: Layout) -> None:
    """Add to ``dx`` what some places of the output, as `matrices`, give it by ``taps``.

    The filters are ``(G, O / G, C / G, kh, other taps)``. Row ``m * stride + r`` of the padded image
    meets tap ``r + stride * t`` of output row ``m - t``. So for each r, the output rows that it meets
    are neighbours: one matrix, as in `columns`.
    """
    multiply = arithmetic().stacked_matmul
    groups, height, outs, count = dout.shape
    (tall, *_), (stride, *_), ((low, _), *_), _ = layout.window
    before = -(-tall // stride) - 1
    after = max(0, (dx.shape[1] - 1 + low) // stride - height + 1)
    size = dout.itemsize
    line = pitch(count, size)
    rows = scratch("rows", (groups, before + height + after, outs, line), dout.dtype)
    rows[:, :before] = 0
    rows[:, before + height :] = 0
    rows[:, before : before + height, :, :count] = dout
    g, h, o, _ = rows.strides
    for r in range(min(stride, tall)):
        first = (r - low) % stride  # row of dx
        some = dx[:, first::stride]
        if not some.size:
            continue
        met = taps[:, :, :, r::stride][:, :, :, ::-1]
        length = met.shape[3]
        filters = np.ascontiguousarray(met.transpose(0, 2, 4, 3, 1))
        filters = filters.reshape(groups, 1, -1, length * outs)
        m = (first + low) // stride
        made = scratch("columns", (groups, some.shape[1], filters.shape[2], line), dx.dtype)
        work = filters.size // length * count
        for start, stop, skip, end in _spans(some.shape[1], m, length, height, work):
            seen = np.ndarray(
                (groups, stop - start, (end - skip) * outs, count),
                dout.dtype,
                rows,
                (m + start - length + 1 + before + skip) * h,
                (g, h, o, size),
            )
            some_filters = filters[..., skip * outs : end * outs]
            multiply(some_filters, seen, made[:, start:stop, :, :count])
        parts = made[..., :count].reshape(groups, some.shape[1], *layout.seen[2:]).swapaxes(1, 2)
        target = some.reshape(groups, -1, *some.shape[1:])
        for tap, source, where in meetings(layout, dx.shape):
            into = target[where]
            np.add(into, parts[tap][source], out=into)
        del made, parts  # so that the next rows have the same memory


@lru_cache(maxsize=1024)
def _spans(rows: int, m: int, taps: int, height: int, work: int) -> list[tuple[int, int, int, int]]:
    """Which of the rows from m on to do together, and by which taps: (start, stop, first, end).

    A row near an edge meets fewer output rows than there are taps. It is done on its own if that
    saves enough; `work` are the multiplications of one row by one tap.
    """
    ends = []
    for at in range(m, m + rows):
        skip = max(0, taps - 1 - at)
        ends.append((skip, max(skip, min(taps, height + taps - 1 - at))))
    if work * sum(taps - end + skip for skip, end in ends) < _ZEROS:
        return [(0, rows, 0, taps)]
    spans = [(0, 1, *ends[0])]
    for row, (skip, end) in enumerate(ends[1:], 1):
        if (skip, end) == spans[-1][2:]:
            spans[-1] = (spans[-1][0], row + 1, skip, end)
        else:
            spans.append((row, row + 1, skip, end))
    return spans


def meetings(layout: Layout, image_shape: Shape) -> Meetings:
    """For each tap along all axes but H: which of the places, and where in the image they read.

    Indices into ``(G, C / G, H, *kernel, ...)``, what is left of it, and ``(G, C / G, H, *rest, N)``.
    """
    rank = len(image_shape) - 3
    return _meetings(
        layout.window, layout.some.start, layout.seen[3 + rank : 3 + 2 * rank], image_shape[2:-1]
    )


@lru_cache(maxsize=1024)
def _meetings(window: Window, start: int, places: Shape, spatial: Shape) -> Meetings:
    axes: list[list[tuple[int, slice, slice]]] = []
    every = (slice(None),) * 3
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
    found = (zip(*meeting, strict=True) for meeting in product(*axes))
    return tuple((every + t, every + into, every + where) for t, into, where in found)


def pitch(count: int, size: int) -> int:
    """Numbers from one row of a borrowed matrix to the next: an odd number of cache lines.

    At a large power of two, all rows would compete for the same few places of the cache.
    """
    return (-(-count * size // 64) | 1) * 64 // size
