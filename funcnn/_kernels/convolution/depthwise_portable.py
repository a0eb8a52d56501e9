"""Depthwise convolution compiled for portable mode, with the bits of `depthwise`.

What is rounded once are the products of one column of a filter: an output is the sum of as many as
there are columns, and a gradient of a weight the sum of one for each output row.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn._kernels.convolution.places import forward
from funcnn._kernels.convolution.plans import Rows
from funcnn._kernels.convolution.portable_compiled import convolve as convolve_along
from funcnn._kernels.framing import framed
from funcnn._kernels.images import batch_first, batch_last
from funcnn._kernels.windows import Window, output_size
from funcnn.numerics.handover import divided_exactly
from funcnn.numerics.jit import (
    Address,
    InSingle,
    OutBytes,
    Single,
    Table,
    Wide,
    address,
    inlined,
)
from funcnn.numerics.rounded import bound, rounded_sum, squares, wide_products
from funcnn.numerics.vectors import SMALL, VECTOR
from funcnn.types import Array

Shape = tuple[int, ...]
_TALL = 6 if VECTOR == 64 else 4  # filters of a tile of the weight gradient; all fit in registers


def convolve(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Any:
    """`depthwise.convolve` of images: along columns, and then the sum of what these give."""
    if len(window.kernel) != 2 or x.dtype != np.float32 or not x.size:
        return NotImplemented
    (tall, wide), (step, stride), (padding, _), (apart, _) = window
    taps = np.moveaxis(weight.reshape(len(weight), tall, wide), 2, 1)
    along = Window((tall, 1), (step, 1), (padding, (0, 0)), (apart, 1))
    each = convolve_along(x, taps.reshape(-1, 1, tall, 1), None, along, groups, Rows(1))
    if each is NotImplemented:
        return NotImplemented
    parts = batch_last(each)
    height, width = output_size(window, x.shape[2:])
    out = np.empty((len(weight), height, width, len(x)), x.dtype)
    start = np.ascontiguousarray(() if bias is None else bias, np.float32)
    _add_columns(parts.reshape(-1), *_met(x.shape[2:], window), start, out.reshape(-1), height,
                 x.shape[3] * len(x), len(x), stride, 0, len(weight) * height)  # fmt: skip
    return batch_first(out)


@lru_cache(maxsize=256)
def _met(spatial: Shape, window: Window) -> tuple[Array, Array, Array]:
    """Of each column, which places meet the image, and where the first place would."""
    axis = forward(spatial, window)[1]
    return *axis.met, np.arange(axis.taps) * axis.dilation + axis.offset


def weight_gradient(x: Array, dout: Array, weight_shape: Shape, window: Window, groups: int) -> Any:
    """`depthwise.weight_gradient` of images."""
    if len(window.kernel) != 2 or not x.dtype == dout.dtype == np.float32 or not dout.size:
        return NotImplemented
    image, slope = framed(x, window.padding), np.ascontiguousarray(batch_last(dout))
    outs, height, width, batch = slope.shape
    at, base, begin = _runs(image.shape, window, width)
    planes, row, line = image.shape[0] * image.shape[1], image.shape[2] * batch, width * batch
    lengths = np.empty(planes + outs * height)
    _measure(lengths, address(image), address(slope), planes, row, line, 0, len(lengths))
    products = np.empty((outs, height, math.prod(window.kernel)), x.dtype)
    doubt = np.zeros(1, np.uint8)
    _multiply_rows(
        at, base, begin, products.reshape(-1), address(image), address(slope), lengths,
        window.kernel[1], window.stride[0], window.dilation[0], image.shape[1], row, height, line,
        line // len(base), outs // groups, VECTOR // 8, doubt, 0, groups * height,
    )  # fmt: skip
    return NotImplemented if doubt[0] else numerics.sum(products, 1).reshape(weight_shape)


@lru_cache(maxsize=256)
def _runs(image: Shape, window: Window, places: int) -> tuple[Array, Array, Array]:
    """From the first row that an output row sees: its taps, its runs, and those of the output."""
    _, _, width, batch = image
    (tall, wide), (_, stride), _, (apart, dilation) = window
    at = (np.arange(tall)[:, None] * apart * width + np.arange(wide) * dilation) * batch
    count = places if stride > 1 else 1
    begin = np.arange(count) * batch
    return at.ravel(), begin * stride, begin


@divided_exactly
def _measure(
    out: Wide, image: Address, slope: Address, ins: int, plane: int, pitch: int, low: int, high: int
) -> None:
    """The squares of some rows of the image and, behind them, of the slope."""
    for i in range(low, high):
        if i < ins:
            out[i] = squares(image, i * plane, (i + 1) * plane)
        else:
            out[i] = squares(slope, (i - ins) * pitch, (i - ins + 1) * pitch)


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
def _add_columns(
    parts: InSingle, first: Table, last: Table, shift: Table, bias: InSingle, out: Single, rows: int,
    width: int, batch: int, stride: int, low: int, high: int,
) -> None:  # fmt: skip
    """Of some output rows, counted over all filters."""
    run = len(out) // (len(parts) // (len(first) * width))
    for i in range(low, high):
        o, line = i // rows, out[i * run : (i + 1) * run]
        for q in range(run):
            line[q] = 0
        for t in range(len(first)):
            part = parts[((o * len(first) + t) * rows + i % rows) * width :]
            if stride == 1:
                some, seen = line[first[t] * batch :], part[(first[t] + shift[t]) * batch :]
                for q in range((last[t] - first[t]) * batch):
                    some[q] += seen[q]
            else:
                for w in range(first[t], last[t]):
                    some, seen = line[w * batch :], part[(w * stride + shift[t]) * batch :]
                    for q in range(batch):
                        some[q] += seen[q]
        for q in range(run if len(bias) else 0):
            line[q] += bias[o]


@divided_exactly
def _multiply_rows(
    at: Table, base: Table, begin: Table, out: Single, image: Address, slope: Address, lengths: Wide,
    wide: int, step: int, apart: int, height: int, row: int, rows: int, line: int, run: int,
    outs: int, vector: int, doubtful: OutBytes, low: int, high: int,
) -> None:  # fmt: skip
    """Of some output rows, counted over all groups."""
    taps, doubt = len(at), 0
    whole, nearly = run - run % vector, run - run % 2
    error_of_sum = bound(len(base) * (run // vector + 4) + vector)
    total = np.empty(outs * taps)
    for i in range(low, high):
        g, y = i // rows, i % rows
        seen = image + 4 * (g * height + y * step) * row
        slopes = slope + 4 * (g * outs * rows + y) * line
        for t in range(outs * taps):
            total[t] = 0
        _vector_sums(seen, at, base, slopes, begin, total, 0, len(base), 0, whole,
                     0, outs, 0, taps, rows * line)  # fmt: skip
        _small_sums(seen, at, base, slopes, begin, total, 0, len(base), whole, nearly,
                    0, outs, 0, taps, rows * line)  # fmt: skip
        _single_sums(seen, at, base, slopes, begin, total, 0, len(base), nearly, run,
                     0, outs, 0, taps, rows * line)  # fmt: skip
        planes = len(lengths) - len(out) // taps
        for o in range(outs):
            place = (g * outs + o) * rows + y
            for t in range(taps):
                length = lengths[planes + place] * lengths[g * height + y * step + t // wide * apart]
                value, error = total[o * taps + t], np.sqrt(length) * error_of_sum
                found = np.float32(value + error)
                if found != np.float32(value - error):
                    found = rounded_sum(seen, base, slopes, begin, 0, run, at[t], o * rows * line)
                    doubt |= found != found
                out[place * taps + t] = found + np.float32(0)
    if doubt:
        doubtful[0] = 1
