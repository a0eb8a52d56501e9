"""Convolution compiled: direct, without columns. The readable twin is `textbook`.

Memory runs batch-last, so one row of outputs is one run of numbers, and what a tap sees of the image is
a run as long. For some filters at once, a tile of an output row stays in registers while all taps add
their products to it. Where the runs lie is a table of `places`, made once for each shape: so one kernel
serves any number of spatial axes, strides, dilations and groups, and the input gradient as well. A plan
of NumPy's that is `forced` means nothing here. Where the image is not read well as it lies, some of it
is copied first: see `paneled_compiled`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from funcnn._kernels.convolution import paneled_compiled
from funcnn._kernels.convolution.places import (
    Axes,
    backward,
    forward,
    places,
    tabled,
    taps,
)
from funcnn._kernels.framing import framed
from funcnn._kernels.images import batch_first, batch_last
from funcnn._kernels.tiles import (
    eight_rows,
    four_rows,
    one_row,
    products_of_runs,
    rows_together,
    six_rows,
    sum_of_run,
    three_rows,
    two_rows,
)
from funcnn._kernels.windows import Window, output_size
from funcnn.machine.memory import fresh
from funcnn.numerics.fast_compiled import is_large, large_matmul
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import In, Out, Table, inlined
from funcnn.numerics.vectors import QUARTER, REGISTERS, VECTOR, WIDE
from funcnn.types import Array

Shape = tuple[int, ...]

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
_SHORT = max(VECTOR // 4, 8), 32  # numbers of a run (a vector, on Zen 3 as well), and of one that holds
# a single place: below, products are as fast
_MANY = 1 << 14  # channels in times out for which products beat the weight gradient's tiles
_TERMS = 6  # and in times out for each of the terms that are summed, where those are few
_WEIGHTS = 1 << 17  # bytes of filters that are read again for each tile; more, for 16 tiles
_ALONE = 3  # filters of a group: so few are one tile, and leave nothing to be read again
_TALL = REGISTERS // 4  # filters of a tile of the weight gradient; all fit in registers
_TOGETHER = 3  # and taps
_PIECES = 16  # of an output, at least: of few long rows, parts
_SLICE = 1 << 18  # numbers that the weight gradient reads again for each tile


@lru_cache(maxsize=1024)
def _way(
    x_shape: Shape, weight_shape: Shape, window: Window, groups: int, terms: int
) -> tuple[str, Shape]:
    """How to compute it: as a ``"product"``, ``"direct"``, or ``""`` where NumPy's ways are better.

    A product is large, where each output sees one pixel, and each pixel one output. Outputs, channels
    and pixels are the three sizes; `terms` says which of them is summed over. NumPy's ways are better
    for short runs, single taps of stride 1, weight gradients of many pairs of channels, and nothing at
    all. The places that outputs have come with it.
    """
    batch, places = x_shape[0], output_size(window, x_shape[2:])
    single = max(*window.kernel, *window.stride) == 1
    if single and groups == 1 and not any(map(any, window.padding)):
        sizes = [*weight_shape[:2], batch * math.prod(x_shape[2:])]
        rows, columns = sizes[:terms] + sizes[terms + 1 :]
        if is_large(rows, sizes[terms], columns):
            return "product", places
    apart = window.stride[-1] > 1
    short = batch * (1 if apart else places[-1]) < _SHORT[apart]
    nothing = not math.prod(x_shape) * math.prod(weight_shape)
    pairs = weight_shape[0] // groups * weight_shape[1]
    many = terms == 2 and pairs >= min(_MANY, _TERMS * batch * math.prod(places))
    return "" if short or single or many or nothing else "direct", places


def _matrix(x: Array) -> Array:
    return np.ascontiguousarray(batch_last(x)).reshape(x.shape[1], -1)


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    groups: int = 1,
    forced: Any = None,
) -> Any:
    """`funcnn._kernels.convolution.convolve`."""
    way, places = _way(x.shape, weight.shape, window, groups, 1)
    if way == "product":
        out = fresh((len(weight), *x.shape[2:], len(x)), x.dtype)
        to = out.reshape(len(weight), -1)
        if large_matmul(weight.reshape(len(weight), -1), _matrix(x), to) is NotImplemented:
            return NotImplemented
        if bias is not None:
            _add(to, np.ascontiguousarray(bias), 0, len(bias))
        return batch_first(out)
    if not way:
        return NotImplemented
    out = fresh((len(weight), *places, len(x)), x.dtype)
    _write(x, weight, bias, forward(x.shape[2:], window), groups, out)
    return batch_first(out)


def input_gradient(
    dout: Array,
    weight: Array,
    x_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Any = None,
) -> Any:
    """`funcnn._kernels.convolution.input_gradient`: a convolution with rotated filters."""
    way, _ = _way(x_shape, weight.shape, window, groups, 0)
    if way == "product":
        dx = fresh((*x_shape[1:], x_shape[0]), dout.dtype)
        filters, to = weight.reshape(len(weight), -1).T, dx.reshape(x_shape[1], -1)
        found = large_matmul(filters, _matrix(dout), to)
        return NotImplemented if found is NotImplemented else batch_first(dx)
    if not way or (max(window.stride) > 1 and max(window.dilation) > 1):
        return NotImplemented
    by_group = weight.reshape(groups, len(weight) // groups, *weight.shape[1:]).swapaxes(1, 2)
    dx = fresh((*x_shape[1:], x_shape[0]), dout.dtype)
    for axes, taken in backward(x_shape[2:], window):
        some = by_group[(slice(None),) * 3 + taken]
        _write(dout, some.reshape(x_shape[1], *some.shape[2:]), None, axes, groups, dx)
    return batch_first(dx)


def _write(
    x: Array, weight: Array, bias: Array | None, axes: Axes, groups: int, out: Array
) -> None:  # fmt: skip
    """Write a convolution, or one phase of it, to a batch-last output."""
    outs, ins = len(weight), x.shape[1] // groups
    start = np.zeros(outs, x.dtype) if bias is None else np.ascontiguousarray(bias)
    if paneled_compiled.is_paneled(len(x), outs // groups, x.itemsize):
        paneled_compiled.write(x, weight, start, axes, groups, out)
        return
    filters = tabled(weight)
    where = places(axes, len(x), ins, out.shape[1:-1])
    image = framed(x, where.padding)
    several = filters.nbytes <= _WEIGHTS and outs // groups > _ALONE
    step = WIDE // x.itemsize * (1 if several else 16)
    parts = max(1, _PIECES // len(where.base))
    _convolve(
        image, where.at, filters, start, out, *where[3:],
        outs // groups, groups, VECTOR // x.itemsize, step, parts, 0, parts * len(where.base),
    )  # fmt: skip


def weight_gradient(
    x: Array,
    dout: Array,
    weight_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Any = None,
) -> Any:
    """`funcnn._kernels.convolution.weight_gradient`."""
    way, _ = _way(x.shape, weight_shape, window, groups, 2)
    if way == "product":
        # Few results are sums of many terms: these are cut into parts, which threads share.
        sizes = weight_shape[0], x[:, 0].size, weight_shape[1]
        parts = next(n for n in (4, 2, 1) if sizes[1] % n == 0)
        parts = parts if is_large(sizes[0], sizes[1] // parts, sizes[2]) else 1
        left, right = (_matrix(each).reshape(each.shape[1], parts, -1) for each in (dout, x))
        found = large_matmul(left.swapaxes(0, 1), right.transpose(1, 2, 0))
        if found is NotImplemented:
            return NotImplemented
        return np.add.reduce(found, 0).reshape(weight_shape)
    if not way:
        return NotImplemented
    outs, ins = weight_shape[:2]
    where = taps(forward(x.shape[2:], window), len(x), ins, _TOGETHER)
    image, slope = framed(x, where.padding), np.ascontiguousarray(batch_last(dout))
    step = min(max(_SLICE // (ins + outs // groups), 256), 2048)
    total = np.zeros(weight_shape, x.dtype)
    _multiply(
        image, where.at, slope, total, *where[2:-1], outs // groups, where.group,
        VECTOR // x.itemsize, step, 0, groups * len(where.tap),
    )  # fmt: skip
    return total


def bias_gradient(dout: Array) -> Any:
    """`funcnn._kernels.convolution.bias_gradient`."""
    last = batch_last(dout)
    if not (dout.size and last.flags.c_contiguous):
        return NotImplemented
    out = np.empty(len(last), dout.dtype)
    _sum(last, out, 0, len(out))
    return out


@divided
def _sum(x: In, out: Out, low: int, high: int) -> None:
    size = len(x) // len(out)
    for o in range(low, high):
        out[o] = sum_of_run(x[o * size : (o + 1) * size])


@divided
def _add(x: Out, bias: In, low: int, high: int) -> None:
    size = len(x) // len(bias)
    for o in range(low, high):
        row, more = x[o * size : (o + 1) * size], bias[o]
        for i in range(size):
            row[i] += more


@divided
def _convolve(
    image: In, at: Table, filters: In, start: In, out: Out, base: Table, into: Table, first: Table,
    last: Table, shift: Table, to: Table, size: Table, left: Table, right: Table,
    jump: int, group: int, pitch: int, outs: int, groups: int, vector: int, step: int,
    parts: int, low: int, high: int,
) -> None:  # fmt: skip
    """So many parts of output rows, `step` places at a time with all filters, by tiles."""
    for g in range(groups):
        for i in range(low, high):
            r, part = divmod(i, parts)
            for s in range(len(size)):
                # Taps next to each other in the table are one span.
                whole = right[s] - left[s] == jump
                begin = first[r] * jump + left[s]
                end = last[r] * jump if whole else begin + right[s] - left[s]
                spans = 1 if whole else last[r] - first[r]
                seen, run = base[r] + shift[s] + g * group, size[s]
                tiles = run // step  # the last part has what is left, too
                close = tiles * (part + 1) // parts * step if part + 1 < parts else run
                for q in range(tiles * part // parts * step, close, step):
                    stop, o = min(q + step, run), 0
                    while o < outs:
                        rows, row = rows_together(outs - o), g * outs + o
                        place = into[r] + to[s] + row * pitch
                        if rows == 8:
                            eight_rows(image, at, filters, start, out, begin, end, spans, jump,
                                       seen, place, row, pitch, q, stop, run, vector)  # fmt: skip
                        elif rows == 6:
                            six_rows(image, at, filters, start, out, begin, end, spans, jump,
                                     seen, place, row, pitch, q, stop, run, vector)  # fmt: skip
                        elif rows == 4:
                            four_rows(image, at, filters, start, out, begin, end, spans, jump,
                                      seen, place, row, pitch, q, stop, run, vector)  # fmt: skip
                        elif rows == 3:
                            three_rows(image, at, filters, start, out, begin, end, spans, jump,
                                       seen, place, row, pitch, q, stop, run, vector)  # fmt: skip
                        elif rows == 2:
                            two_rows(image, at, filters, start, out, begin, end, spans, jump,
                                     seen, place, row, pitch, q, stop, run, vector)  # fmt: skip
                        else:
                            one_row(image, at, filters, start, out, begin, end, spans, jump,
                                    seen, place, row, pitch, q, stop, run, vector)  # fmt: skip
                        o += rows


def _filters(rows: int) -> Any:
    """So many filters with all taps, some at a time, over some places of some rows."""

    def tile(columns: int, size: int) -> Any:
        @inlined
        def multiply_tile(
            image: In, at: Table, base: Table, cols: Table, slope: In, total: Out, to: Table,
            first: int, last: int, low: int, high: int, row: int, tap: int, run: int, pitch: int,
        ) -> None:  # fmt: skip
            if low < high:
                products_of_runs(image, at, base, cols, slope, total, to, first, last, low, high,
                                 row, tap, len(at), run, pitch, rows, columns, size)  # fmt: skip

        return multiply_tile

    several, one, short, alone = (
        tile(*way) for way in ((_TOGETHER, VECTOR), (1, VECTOR), (1, QUARTER), (1, 0))
    )

    @inlined
    def multiply_filters(
        image: In, at: Table, slope: In, total: Out, to: Table, base: Table, cols: Table, tap: Table,
        count: Table, first: Table, last: Table, begin: int, end: int, low: int, high: int,
        row: int, run: int, pitch: int, vector: int, taps: int, more: int,
    ) -> None:  # fmt: skip
        whole = high - (high - low) % vector
        nearly = high - (high - low) % max(1, vector // 4)
        for i in range(taps, more):
            top, bottom = max(begin, first[i]), min(end, last[i])
            together = count[i] == _TOGETHER
            if top < bottom and together:
                several(image, at, base, cols, slope, total, to, top, bottom, low, whole,
                        row, tap[i], run, pitch)  # fmt: skip
            for t in range(tap[i], tap[i] + count[i]):
                if top < bottom and not together:
                    one(image, at, base, cols, slope, total, to, top, bottom, low, whole,
                        row, t, run, pitch)  # fmt: skip
                if top < bottom and whole < high:
                    short(image, at, base, cols, slope, total, to, top, bottom, whole, nearly,
                          row, t, run, pitch)  # fmt: skip
                    alone(image, at, base, cols, slope, total, to, top, bottom, nearly, high,
                          row, t, run, pitch)  # fmt: skip

    return multiply_filters


_tall, _six, _four, _two, _one = map(_filters, (_TALL, 6, 4, 2, 1))


@divided
def _multiply(
    image: In, at: Table, slope: In, total: Out, to: Table, base: Table, cols: Table, tap: Table,
    count: Table, first: Table, last: Table, run: int, outs: int, group: int, vector: int, step: int,
    low: int, high: int,
) -> None:  # fmt: skip
    """Some entries of `tap`, counted over all groups: `step` places at a time for all filters."""
    row = len(cols) * run
    pitch, several = len(base) * row, max(1, step // row)
    for g in range(low // len(tap), -(-high // len(tap))):
        seen, before = image[g * group :], g * len(tap)
        one, end = max(0, low - before), min(len(tap), high - before)
        for r in range(0, len(base), several):
            below = min(r + several, len(base))
            for q in range(0, run, step):
                stop, o, more = min(q + step, run), g * outs, outs
                while more > 0:
                    if more >= _TALL:
                        _tall(seen, at, slope, total, to, base, cols, tap, count, first, last,
                              r, below, q, stop, o, run, pitch, vector, one, end)  # fmt: skip
                        done = _TALL
                    elif REGISTERS == 32 and more >= 6:
                        _six(seen, at, slope, total, to, base, cols, tap, count, first, last,
                             r, below, q, stop, o, run, pitch, vector, one, end)  # fmt: skip
                        done = 6
                    elif more >= 4:
                        _four(seen, at, slope, total, to, base, cols, tap, count, first, last,
                              r, below, q, stop, o, run, pitch, vector, one, end)  # fmt: skip
                        done = 4
                    elif more >= 2:
                        _two(seen, at, slope, total, to, base, cols, tap, count, first, last,
                             r, below, q, stop, o, run, pitch, vector, one, end)  # fmt: skip
                        done = 2
                    else:
                        _one(seen, at, slope, total, to, base, cols, tap, count, first, last,
                             r, below, q, stop, o, run, pitch, vector, one, end)  # fmt: skip
                        done = 1
                    o, more = o + done, more - done
