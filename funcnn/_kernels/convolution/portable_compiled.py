"""Convolution compiled for portable mode: direct, with the bits of NumPy's ways.

Runs of memory are those of `compiled`. An output is the sum of its products, rounded once, before the
bias is added, whichever plan NumPy follows. In the gradients, what is rounded once is what the plan
multiplies at once: they follow it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn._kernels.convolution.overlapping import layouts, meetings
from funcnn._kernels.convolution.places import forward, places, tabled, taps
from funcnn._kernels.convolution.plans import Columns, Depthwise, Plan, Rows, plan
from funcnn._kernels.framing import framed
from funcnn._kernels.images import batch_first, batch_last
from funcnn._kernels.windows import Window, output_size
from funcnn.numerics.handover import divided_exactly
from funcnn.numerics.jit import Address, InSingle, OutBytes, Single, Table, Wide, address, inlined
from funcnn.numerics.packing import LANES, TALL, broad, pack_places, pack_rows
from funcnn.numerics.panels import beginning, rounded_panel, unaligned
from funcnn.numerics.rounded import (
    bound,
    rounded_product,
    rounded_sum,
    squares,
    wide_products,
    widen,
)
from funcnn.numerics.vectors import SMALL, VECTOR
from funcnn.types import Array

Shape = tuple[int, ...]
_WEIGHTS = 1 << 14  # bytes of filters that are read again for each tile; more, for 16 tiles
_TALL = 6 if VECTOR == 64 else 4  # filters of a tile of the weight gradient; all fit in registers
_TOGETHER = 3  # and taps
_MANY, _WIDE = 12, 3 * LANES  # filters, and places of a row, that are worth a copy of what these see
_BLOCK = 2048  # numbers of each run that are read again for each tile: they stay in the cache


class _Rows(NamedTuple):
    """Where the runs of a weight gradient lie in a framed ``(C, *spatial, N)``.

    As in `places.Taps`, with all axes framed, and each run of a row as a row of its own.
    """

    padding: tuple[tuple[int, int], ...]
    at: Array
    base: Array
    run: int
    group: int


@lru_cache(maxsize=256)
def _rows(x_shape: Shape, window: Window, groups: int) -> _Rows:
    batch, channels, *spatial = x_shape
    axes = forward(tuple(spatial), window)
    where = taps(tuple(axis.framed for axis in axes), batch, channels // groups, 1)
    base = (where.base[:, None] + where.cols).ravel()
    return _Rows(tuple(axis.padding for axis in axes), where.at, base, where.run, where.group)


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Any:
    """`funcnn._kernels.convolution.convolve`."""
    way = forced or plan("convolve", x.shape, weight.shape, window)
    if x.dtype != np.float32 or weight.dtype != np.float32 or isinstance(way, Depthwise):
        return NotImplemented
    outs = len(weight)
    out = np.empty((outs, *output_size(window, x.shape[2:]), len(x)), x.dtype)
    if not out.size or not weight.size:
        return NotImplemented
    axes, ins = forward(x.shape[2:], window), x.shape[1] // groups
    many = outs // groups >= _MANY and out.shape[-2] * len(x) >= _WIDE
    where = places(axes, len(x), ins, out.shape[1:-1], many)
    image, filters = framed(x, where.padding), tabled(weight)
    step = VECTOR // 4 * (1 if filters.nbytes <= _WEIGHTS else 16)
    doubt = np.zeros(1, np.uint8)
    start = np.ascontiguousarray(() if bias is None else bias, np.float32)
    if many:
        edge = np.empty(len(where.base) * TALL * _WIDE, np.float32)
        _convolve_many(
            where.at, where.base, where.into, where.first, where.last, where.shift, where.to,
            where.size, where.jump, where.group, where.pitch, address(image), address(filters), start,
            out.reshape(-1), address(edge), outs // groups, groups, doubt, 0, len(where.base),
        )  # fmt: skip
        return NotImplemented if doubt[0] else batch_first(out)
    _convolve(
        *where[2:], address(image), address(filters), start, out.reshape(-1), outs // groups, groups,
        VECTOR // 8, step, doubt, 0, len(where.base),
    )  # fmt: skip
    return NotImplemented if doubt[0] else batch_first(out)


def weight_gradient(
    x: Array,
    dout: Array,
    weight_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Any:
    """`funcnn._kernels.convolution.weight_gradient`."""
    way = forced or plan("weight", x.shape, weight_shape, window)
    if x.dtype != np.float32 or dout.dtype != np.float32 or isinstance(way, Depthwise):
        return NotImplemented
    if not dout.size or not math.prod(weight_shape):
        return NotImplemented
    rows = _rows(x.shape, window, groups)
    image = framed(x, rows.padding)
    slope = np.ascontiguousarray(batch_last(dout))
    outs, ins, *kernel = weight_shape
    first, *others = kernel if len(kernel) > 1 else (1, *kernel)
    total = np.empty((outs, first, ins, *others), x.dtype)
    chunks = _chunks(x.shape, window, groups, way)
    doubt, lengths = np.zeros(1, np.uint8), np.empty(len(image) + outs)
    plane, pitch = image.size // len(image), slope.size // outs
    _measure(lengths, address(image), address(slope), len(image), plane, pitch, 0, len(lengths))
    for chunk, (base, begin, start, stop) in enumerate(chunks):
        _multiply(
            rows.at, base, begin, total.reshape(-1), address(image), address(slope), lengths, start,
            stop, outs // groups, groups, rows.group, pitch, ins, chunk, VECTOR // 8, doubt,
            0, -(-len(rows.at) // _TOGETHER),
        )  # fmt: skip
    if doubt[0]:
        return NotImplemented
    return np.ascontiguousarray(total.swapaxes(1, 2)).reshape(weight_shape)


@lru_cache(maxsize=256)
def _chunks(
    x_shape: Shape, window: Window, groups: int, way: Plan
) -> list[tuple[Array, Array, int, int]]:
    """What a plan sums at once: runs of the image, of the output, and from where to where in each."""
    rows, places = _rows(x_shape, window, groups), output_size(window, x_shape[2:])
    begin = np.arange(len(rows.base)) * rows.run
    axis = 0 if isinstance(way, Columns) else 1
    if not isinstance(way, (Rows, Columns)) or way.chunk >= places[axis]:
        return [(rows.base, begin, 0, rows.run)]
    starts = range(0, places[axis], way.chunk)
    stops = [min(start + way.chunk, places[axis]) for start in starts]
    if len(rows.base) == math.prod(places[:-1]) and axis == len(places) - 1:  # within each run
        batch = x_shape[0]
        ends = [(start * batch, stop * batch) for start, stop in zip(starts, stops, strict=True)]
        return [(rows.base, begin, *some) for some in ends]
    inside = len(rows.base) // math.prod(places[: axis + 1])
    which = np.arange(len(rows.base)) // inside % places[axis]
    some_rows = [(start <= which) & (which < stop) for start, stop in zip(starts, stops, strict=True)]
    return [(rows.base[some], begin[some], 0, rows.run) for some in some_rows]


def input_gradient(
    dout: Array,
    weight: Array,
    x_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Any:
    """`funcnn._kernels.convolution.input_gradient`, where it slides.

    It is a convolution along the first axis for each tap of the others, and then their sum; for each
    phase of a stride with every other tap.
    """
    way = forced or plan("input", x_shape, weight.shape, window)
    (tall, *kernel), (stride, *_), ((low, _), *_), _ = window
    if not isinstance(way, Rows) or dout.dtype != np.float32:
        return NotImplemented
    outs, ins, rest = len(weight) // groups, weight.shape[1], len(kernel)
    taps = weight.reshape(groups, outs, ins, tall, -1)
    dx = np.zeros((*x_shape[1:], x_shape[0]), dout.dtype)
    target = dx.reshape(groups, ins, *dx.shape[1:])
    for r in range(min(stride, tall)):
        first = (r - low) % stride  # row of dx
        some, ones = target[:, :, first::stride], (1,) * rest
        filters = taps[:, :, :, r::stride][:, :, :, ::-1].transpose(0, 2, 4, 1, 3)
        before, rows = (first + low) // stride, some.shape[2]
        padding = filters.shape[-1] - 1 - before, rows - dout.shape[2] + before
        if not rows or min(padding) < 0:
            return NotImplemented
        filters = filters.reshape(-1, outs, filters.shape[-1], *ones)
        sizes = filters.shape[2:]
        along = Window(sizes, (1, *ones), (padding, *((0, 0),) * rest), (1, *ones))
        each = convolve(dout, filters, None, along, groups, Rows(1))
        if each is NotImplemented:
            return NotImplemented
        last = batch_last(each)
        parts = np.moveaxis(last.reshape(groups, ins, *kernel, *last.shape[1:]), 2 + rest, 2)
        for layout in layouts(dx.shape, window, groups, dx.itemsize, way.chunk):
            seen = parts[(slice(None),) * (3 + rest) + (layout.some,)]
            for tap, source, where in meetings(layout, dx.shape):
                into = some[where]
                np.add(into, seen[tap][source], out=into)
    return batch_first(dx)


@divided_exactly
def _convolve(
    at: Table, base: Table, into: Table, first: Table, last: Table, shift: Table, to: Table,
    size: Table, left: Table, right: Table, jump: int, group: int, pitch: int, image: Address,
    filters: Address, start: InSingle, out: Single, outs: int, groups: int, vector: int, step: int,
    doubtful: OutBytes, low: int, high: int,
) -> None:  # fmt: skip
    """As `compiled._convolve`."""
    taps, doubt, written = len(at), 0, beginning(out)
    wide, norm = np.empty(groups * outs * taps), np.empty(groups * outs)
    if widen(filters, 0, taps, 1, groups * outs, taps, wide, norm):
        doubtful[0] = 1
        return
    for g in range(groups):
        for r in range(low, high):
            for s in range(len(size)):
                whole = right[s] - left[s] == jump
                begin = first[r] * jump + left[s]
                end = last[r] * jump if whole else begin + right[s] - left[s]
                spans, run = 1 if whole else last[r] - first[r], size[s]
                seen, place = base[r] + shift[s] + g * group, into[r] + to[s] + g * outs * pitch
                for q in range(0, run, step):
                    doubt |= rounded_product(
                        image, at, wide, norm, written, begin, end, spans, jump, seen, place,
                        g * outs, (g + 1) * outs, pitch, q, min(q + step, run), run, vector,
                    )  # fmt: skip
                for o in range(outs if len(start) else 0):
                    line, more = out[place + o * pitch :], start[g * outs + o]
                    for q in range(run):
                        line[q] += more
    if doubt:
        doubtful[0] = 1


@divided_exactly
def _convolve_many(
    at: Table, base: Table, into: Table, first: Table, last: Table, shift: Table, to: Table,
    size: Table, jump: int, group: int, pitch: int, image: Address, filters: Address, start: InSingle,
    out: Single, edge: Address, outs: int, groups: int, doubtful: OutBytes, low: int, high: int,
) -> None:  # fmt: skip
    """The same of many filters: what some places see is first laid in a panel for all of them."""
    taps, doubt, written = len(at), 0, beginning(out)
    wide, norm = np.empty(groups * outs * taps + LANES), np.empty(groups * outs + LANES)
    panel, lengths = np.empty(_WIDE * (taps + 1) + 8), np.empty(_WIDE)
    begin, aside = unaligned(panel), edge + 4 * low * TALL * _WIDE
    for g in range(groups):
        pack_rows(filters, g * outs * taps, taps, 1, outs, taps, wide[g * outs * taps :],
                  norm[g * outs :])  # fmt: skip
    for g in range(groups):
        weights, norms = wide[g * outs * taps :], norm[g * outs :]
        for r in range(low, high):
            skip, terms = first[r] * jump, (last[r] - first[r]) * jump
            for s in range(len(size)):
                seen, place = base[r] + shift[s] + g * group, into[r] + to[s] + g * outs * pitch
                q = 0
                while q < size[s]:
                    count = broad(size[s] - q)
                    used = min(count * LANES, size[s] - q)
                    pack_places(image, at, skip, seen + q, used, count, terms, panel, begin, lengths)
                    doubt |= rounded_panel(weights, norms, panel, lengths, written, aside, terms,
                                           taps, skip, outs, begin, place + q, pitch, used,
                                           count)  # fmt: skip
                    q += count * LANES
                for o in range(outs if len(start) else 0):
                    line, more = out[place + o * pitch :], start[g * outs + o]
                    for q in range(size[s]):
                        line[q] += more
    if doubt:
        doubtful[0] = 1


def _sums(size: int) -> Any:
    """All filters of a group, some at a time, with all taps, three at a time, over some runs."""

    def filters(rows: int) -> Any:
        @inlined
        def multiply_filters(
            image: Address, at: Table, base: Table, slope: Address, begin: Table, total: Wide,
            first: int, last: int, low: int, high: int, row: int, tap: int, stop: int, pitch: int,
        ) -> None:  # fmt: skip
            whole = stop - (stop - tap) % 3
            for t in range(tap, whole, 3):
                wide_products(image, at, base, slope, begin, total, first, last, low, high,
                              row, t, len(at), pitch, rows, 3, size)  # fmt: skip
            for t in range(whole, stop):
                wide_products(image, at, base, slope, begin, total, first, last, low, high,
                              row, t, len(at), pitch, rows, 1, size)  # fmt: skip

        return multiply_filters

    several, two, one = map(filters, (_TALL, 2, 1))

    @inlined
    def multiply_rows(
        image: Address, at: Table, base: Table, slope: Address, begin: Table, total: Wide,
        first: int, last: int, low: int, high: int, row: int, end: int, tap: int, stop: int,
        pitch: int,
    ) -> None:  # fmt: skip
        o = row
        while o < end and low < high:
            if end - o >= _TALL:
                several(image, at, base, slope, begin, total, first, last, low, high,
                        o, tap, stop, pitch)  # fmt: skip
                o += _TALL
            elif end - o >= 2:
                two(image, at, base, slope, begin, total, first, last, low, high,
                    o, tap, stop, pitch)  # fmt: skip
                o += 2
            else:
                one(image, at, base, slope, begin, total, first, last, low, high,
                    o, tap, stop, pitch)  # fmt: skip
                o += 1

    return multiply_rows


_vector_sums, _small_sums, _single_sums = (_sums(size) for size in (VECTOR, SMALL, 0))


@divided_exactly
def _measure(
    out: Wide, image: Address, slope: Address, ins: int, plane: int, pitch: int, low: int, high: int
) -> None:
    """The squares of some channels of the image and, behind them, of the slope."""
    for i in range(low, high):
        if i < ins:
            out[i] = squares(image, i * plane, (i + 1) * plane)
        else:
            out[i] = squares(slope, (i - ins) * pitch, (i - ins + 1) * pitch)


@divided_exactly
def _multiply(
    at: Table, base: Table, begin: Table, out: Single, image: Address, slope: Address, lengths: Wide,
    start: int, stop: int, outs: int, groups: int, group: int, pitch: int, ins: int, chunk: int,
    vector: int, doubtful: OutBytes, first_three: int, last_three: int,
) -> None:  # fmt: skip
    """Some threes of taps of all filters, over what is summed at once, added to earlier chunks."""
    taps, doubt, width = len(at), 0, stop - start
    low, high = _TOGETHER * first_three, min(_TOGETHER * last_three, taps)
    several = max(1, _BLOCK // width)
    whole, nearly = start + width - width % vector, start + width - width % 2
    depth = several * (min(_BLOCK, width) // vector + 3) + vector + 1
    depth += 3 * (len(base) // several + 1) * (width // _BLOCK + 1)
    total = np.zeros(groups * outs * taps)
    for g in range(groups):
        seen = image + 4 * g * group
        first, last = g * outs, (g + 1) * outs
        for r in range(0, len(base), several):
            end = min(r + several, len(base))
            for q in range(start, whole, _BLOCK):
                _vector_sums(seen, at, base, slope, begin, total, r, end, q,
                             min(q + _BLOCK, whole), first, last, low, high, pitch)  # fmt: skip
            _small_sums(seen, at, base, slope, begin, total, r, end, whole, nearly,
                        first, last, low, high, pitch)  # fmt: skip
            _single_sums(seen, at, base, slope, begin, total, r, end, nearly, stop,
                         first, last, low, high, pitch)  # fmt: skip
        largest = 0.0
        for i in range(g * ins, (g + 1) * ins):
            if lengths[i] > largest or np.isnan(lengths[i]):
                largest = lengths[i]
        for o in range(first, last):
            error = np.sqrt(largest * lengths[groups * ins + o]) * bound(depth)
            for t in range(low, high):
                value = total[o * taps + t]
                found = np.float32(value + error)
                if found != np.float32(value - error):
                    found = rounded_sum(seen, base, slope, begin, start, stop, at[t], o * pitch)
                    doubt |= found != found
                found += np.float32(0)
                out[o * taps + t] = out[o * taps + t] + found if chunk else found
    if doubt:
        doubtful[0] = 1
