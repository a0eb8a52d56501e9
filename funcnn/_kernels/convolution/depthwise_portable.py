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
from funcnn._kernels.framing import framed
from funcnn._kernels.images import batch_first, batch_last
from funcnn._kernels.windows import Window
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
    intrinsic,
)
from funcnn.numerics.packing import LANES
from funcnn.numerics.panels import beginning
from funcnn.numerics.rounded import bound, rounded_sum, squares, wide_products
from funcnn.numerics.vectors import (
    FAST,
    REGISTERS,
    SMALL,
    VECTOR,
    WIDE,
    Vectors,
    cgutils,
    ir,
    literals,
    pointers,
    types,
)
from funcnn.types import Array

Shape = tuple[int, ...]
_TALL = 6 if REGISTERS == 32 else 4  # filters of a tile of the weight gradient; all fit in registers


def convolve(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Any:
    """`depthwise.convolve` of images, one output row at a time."""
    if len(window.kernel) != 2 or not x.dtype == weight.dtype == np.float32 or not x.size:
        return NotImplemented
    if not np.isfinite(weight).all():  # a border of zeros, which is left out here, would be NaN
        return NotImplemented
    (tall, wide), (step, stride), _, (apart, dilation) = window
    batch, line, (along, across) = len(x), x.shape[3] * len(x), forward(x.shape[2:], window)
    out = np.empty((len(weight), along.places, across.places, batch), x.dtype)
    if not out.size:
        return NotImplemented
    image, rows = framed(x, ((0, 0), (0, 0))), np.arange(tall)
    taps = np.ascontiguousarray(np.moveaxis(weight.reshape(len(weight), tall, wide), 2, 1))
    start = np.ascontiguousarray(() if bias is None else bias, np.float32)
    before, after = (one * batch for one in across.padding)
    doubt, count = np.zeros(1, np.uint8), across.places if stride > 1 else 1
    _convolve(
        *along.seen, rows * apart * line, rows, image.reshape(-1), taps.reshape(-1), start,
        out.reshape(-1), wide, step, along.offset, x.shape[2], line, before, after, count,
        stride * batch, dilation * batch, len(weight) // groups, doubt, 0, groups * along.places,
    )  # fmt: skip
    return NotImplemented if doubt[0] else batch_first(out)


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


@intrinsic
def _filtered(
    context: Any, panel: Any, size: Any, weight: Any, norm: Any, start: Any, out: Any,
    first: Any, last: Any, pitch: Any, seen: Any, column: Any, columns: Any, apart: Any, tall: Any,
    place: Any, bytes: Any,
) -> Any:  # fmt: skip
    """``out[place + q] = start + sum_s round(sum_r weight[s, r] panel[r pitch + seen + s apart + q])``.

    For so many columns `s` of a filter, and all `q` of a tile. Returns 1 where one is in doubt.
    """
    if not literals(bytes):
        return None
    signature = types.int64(
        panel, size, weight, norm, start, out, first, last, pitch, seen, column, columns, apart, tall,
        place, bytes,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors, word = Vectors(context, builder, types.float64, bytes.literal_value), ir.IntType(64)
        narrow = ir.VectorType(ir.FloatType(), vectors.count)
        panels, sizes, weights, norms = pointers(context, builder, signature.args[:4], args[:4])
        (outs,) = pointers(context, builder, signature.args[5:6], args[5:6])
        first, last, pitch, seen, column, columns, apart, tall, place = args[6:15]
        zero = ir.Constant(narrow, [0.0] * vectors.count)
        none = ir.Constant(ir.VectorType(ir.IntType(1), vectors.count), [0] * vectors.count)
        total, doubt, value = (
            cgutils.alloca_once(builder, one.type) for one in (zero, none, vectors.zero())
        )
        builder.store(zero, total)
        builder.store(none, doubt)
        with cgutils.for_range(builder, columns, intp=word) as each:
            at = builder.add(seen, builder.mul(each.index, apart))
            which = builder.add(column, each.index)
            line = builder.gep(weights, [builder.mul(which, tall)])
            builder.store(vectors.zero(), value)
            with cgutils.for_range_slice(builder, first, last, word(1), intp=word) as (r, _):
                run = vectors.at(panels, builder.add(at, builder.mul(r, pitch)))
                vectors.add_product(value, vectors.all(line, r), run, FAST)
            error = builder.fmul(vectors.all(norms, which), vectors.at(sizes, at))
            upper = builder.fptrunc(builder.fadd(builder.load(value), error), narrow)
            lower = builder.fptrunc(builder.fsub(builder.load(value), error), narrow)
            unsure = builder.fcmp_unordered("!=", upper, lower)
            builder.store(builder.or_(builder.load(doubt), unsure), doubt)
            builder.store(builder.fadd(builder.load(total), upper), total)
        spread = Vectors(context, builder, types.float32, 4 * vectors.count)
        spread.put(builder.fadd(builder.load(total), spread.spread(args[4])), outs, place)
        name = f"llvm.vector.reduce.or.v{vectors.count}i1"
        found = vectors.intrinsic(name, ir.IntType(1), builder.load(doubt))
        return builder.zext(found, word)

    return signature, generate


@divided_exactly
def _convolve(
    first: Table, last: Table, base: Table, begin: Table, image: InSingle, weight: InSingle,
    bias: InSingle, out: Single, columns: int, step: int, offset: int, height: int, line: int,
    before: int, after: int, count: int, stride: int, apart: int, times: int, doubtful: OutBytes,
    low: int, high: int,
) -> None:  # fmt: skip
    """Some output rows, counted over all groups."""
    tall, rows, doubt = len(base), len(first), 0
    pitch, run = before + line + after, len(out) // (len(weight) // len(base) // columns * rows * count)
    panel, size = np.zeros(tall * pitch), np.zeros(pitch)
    wide, norm = np.empty(len(weight)), np.zeros(len(weight) // tall)
    for i in range(len(weight)):
        wide[i] = weight[i]
        norm[i // tall] += abs(wide[i])
    for i in range(len(norm)):
        norm[i] *= bound(tall)
    found = size[before : before + line]
    for i in range(low, high):
        g, y = i // rows, i % rows
        top = (g * height + y * step + offset) * line
        for q in range(line):
            found[q] = 0
        for r in range(first[y], last[y]):
            x, kept = image[top + base[r] :][:line], panel[r * pitch + before :][:line]
            for q in range(line):
                value = np.float64(x[q])
                kept[q] = value
                found[q] += abs(value)
        for o in range(g * times, (g + 1) * times):
            start = bias[o] if len(bias) else np.float32(0)
            for v in range(count):
                place, seen, q = ((o * rows + y) * count + v) * run, v * stride, 0
                while q < run:
                    some = 2 * LANES if run - q >= 2 * LANES else LANES if run >= LANES else 1
                    q = min(q, run - some)
                    if some == 2 * LANES:
                        odd = _filtered(panel, size, wide, norm, start, out, first[y], last[y], pitch,
                                        seen + q, o * columns, columns, apart, tall, place + q,
                                        WIDE)  # fmt: skip
                    elif some == LANES:
                        odd = _filtered(panel, size, wide, norm, start, out, first[y], last[y], pitch,
                                        seen + q, o * columns, columns, apart, tall, place + q,
                                        VECTOR)  # fmt: skip
                    else:
                        odd = _filtered(panel, size, wide, norm, start, out, first[y], last[y], pitch,
                                        seen + q, o * columns, columns, apart, tall, place + q,
                                        0)  # fmt: skip
                    for p in range(q, q + some if odd else q):
                        total = np.float32(0)
                        for s in range(columns):
                            at = seen + p + s * apart - before
                            if 0 <= at < line:
                                total += rounded_sum(
                                    beginning(image), base[first[y] : last[y]], beginning(weight),
                                    begin[first[y] : last[y]], 0, 1, top + at, (o * columns + s) * tall,
                                )  # fmt: skip
                        doubt |= total != total
                        out[place + p] = total + start
                    q += some
    if doubt:
        doubtful[0] = 1


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
