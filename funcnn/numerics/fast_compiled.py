"""Large products of float32 matrices in fast mode, compiled. Their readable twin is `numpy.matmul`.

A tile of results stays in registers while it runs along the terms. It reads the left matrix where that
lies, and the right one too if its rows are contiguous; else some of its columns are first turned into a
panel. Terms are added up in runs, and these in turn: every entry is the same chain of operations,
wherever it stands and however many threads there are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from funcnn.numerics._compiled import laid_out
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import Address, Single, Table, address, inlined, intrinsic
from funcnn.numerics.large import LARGE
from funcnn.numerics.panels import TALL, beginning, pack_neighbours, pack_turned, tall
from funcnn.numerics.vectors import FAST, VECTOR, Vectors, cgutils, ir, literals, types
from funcnn.types import Array

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
_WIDE = VECTOR == 64  # else BLAS is as fast: so it was with code for AVX2
_LANES = VECTOR // 4  # numbers of a vector
_PANEL = 3 * _LANES  # columns of a tile
_RUN = 256  # terms that are added up in turn
_BLOCK = 1 << 17  # numbers of the left matrix that stay in the cache while they meet all columns
_FEW = 32  # rows that are worth a panel
_UNITS = 16  # to divide


def is_large(rows: int, terms: int, columns: int) -> bool:
    """Whether BLAS is slower at a product of such matrices."""
    return _WIDE and min(rows, columns) > 1 and rows * terms * columns >= LARGE


def large_matmul(a: Array, b: Array, out: Array | None = None) -> Any:
    """`funcnn.numerics.large.large_matmul`, of matrices that are large themselves.

    BLAS is as good at stacks of small ones.
    """
    if a.ndim < 2 or not is_large(a.shape[-2], a.shape[-1], b.shape[-1]):
        return NotImplemented
    if (found := laid_out(a, b, out)) is None:
        return NotImplemented
    target, (left, right, to), places = found
    row, term = left.strides[-2] // 4, left.strides[-1] // 4
    line, column = right.strides[-2] // 4, right.strides[-1] // 4
    if 1 not in (line, column):
        return NotImplemented
    (rows, columns), pitch, terms = to.shape[-2:], to.strides[-2] // 4, left.shape[-1]
    starts, height = _panels(columns), _height(rows, columns, terms, column != 1)
    units = len(places[2]) * -(-rows // height) * (len(starts) - 1)
    _multiply(
        *places, starts, address(left), address(right), address(to), terms, rows, row, term, line,
        column, pitch, height, 0, units,
    )  # fmt: skip
    return target


@lru_cache(maxsize=256)
def _panels(columns: int) -> Array:
    """Where each panel of the right matrix begins, and the last one ends."""
    ends = [0]
    while (left := columns - ends[-1]) > 0:
        vectors = -(-left // _LANES)
        ends.append(min(columns, ends[-1] + _LANES * min(vectors, 2 if vectors == 4 else 3)))
    return np.array(ends)


def _height(rows: int, columns: int, terms: int, is_copied: bool) -> int:
    """How many rows meet a panel: they stay in the cache, and there are several units for each thread.

    A panel that is copied first should meet more.
    """
    least, units = _FEW * (1 + is_copied), _UNITS // (1 + is_copied)
    height = min(rows, max(least, _BLOCK // terms // TALL * TALL))
    while height >= 2 * least and -(-rows // height) * (columns // _PANEL + 1) < units:
        height = -(-height // (2 * TALL)) * TALL
    return height


def _word(number: int) -> Any:
    return ir.IntType(64)(number)


@intrinsic
def _tile(
    context: Any, left: Any, row: Any, term: Any, right: Any, line: Any, out: Any, pitch: Any,
    terms: Any, used: Any, more: Any, rows: Any, columns: Any,
) -> Any:  # fmt: skip
    """``out[o pitch + q] = sum_t left[o row + t term] right[t line + q]``, or ``+=`` if `more` is 1.

    For ``o < rows``, and the first `used` numbers `q` of so many vectors: the last need not be full.
    """
    if not literals(rows, columns):
        return None
    signature = types.void(left, row, term, right, line, out, pitch, terms, used, more, rows, columns)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, types.float32, VECTOR)
        lefts, rights, outs = (
            builder.inttoptr(args[i], ir.FloatType().as_pointer()) for i in (0, 3, 5)
        )
        row, term, line, pitch, (terms, used, more) = args[1], args[2], args[4], args[6], args[7:10]
        height, width = range(rows.literal_value), range(columns.literal_value)
        starts = [builder.gep(lefts, [builder.mul(row, _word(o))]) for o in height]
        sums = [[vectors.variable(vectors.zero()) for _ in width] for _ in height]
        shifts = [_word(c * vectors.count) for c in width]
        with cgutils.for_range_slice(builder, _word(0), terms, _word(1), intp=terms.type) as (t, _):
            seen, above = builder.mul(t, line), builder.mul(t, term)
            runs = [vectors.at(rights, builder.add(seen, shift)) for shift in shifts]
            for start, sums_of_row in zip(starts, sums, strict=True):
                number = vectors.all(start, above)
                for run, one in zip(runs, sums_of_row, strict=True):
                    vectors.add_product(one, number, run, FAST)
        there = vectors.first(builder.sub(used, shifts[-1]))
        wanted = builder.trunc(more, ir.IntType(1))
        for o, sums_of_row in enumerate(sums):
            for c, (shift, one) in enumerate(zip(shifts, sums_of_row, strict=True)):
                place = builder.gep(outs, [builder.add(builder.mul(pitch, _word(o)), shift)])
                some = there if c == len(width) - 1 else None
                with builder.if_then(wanted):
                    before = vectors.read(place, some)
                    builder.store(builder.fadd(before, builder.load(one)), one)
                vectors.write(builder.load(one), place, some)
        return context.get_dummy_value()

    return signature, generate


def _columns(count: int) -> Any:
    """All rows of the left matrix, by so many vectors of columns of the right one."""

    @inlined
    def multiply_columns(
        left: Address, row: int, term: int, right: Address, line: int, out: Address, pitch: int,
        terms: int, rows: int, used: int, more: int,
    ) -> None:  # fmt: skip
        o = 0
        while o < rows:
            height, of_row, to = tall(rows - o), left + 4 * o * row, out + 4 * o * pitch
            if height == TALL:
                _tile(of_row, row, term, right, line, to, pitch, terms, used, more, TALL, count)
            elif height == 2:
                _tile(of_row, row, term, right, line, to, pitch, terms, used, more, 2, count)
            else:
                _tile(of_row, row, term, right, line, to, pitch, terms, used, more, 1, count)
            o += height

    return multiply_columns


_one, _two, _three = map(_columns, (1, 2, 3))


@inlined
def _pack(
    x: Address, base: int, column: int, line: int, used: int, terms: int,
    panel: Single, width: int,
) -> None:  # fmt: skip
    """Columns of the right matrix side by side, and zeros up to `width`."""
    for c in range(0, width, _LANES):
        if column == 1:
            pack_neighbours(x, panel, panel, terms, c, width, 0, base + c, line, used - c, 0)
        else:
            pack_turned(x, panel, panel, terms, c, width, 0, base + c * column, column, used - c)


@divided
def _multiply(
    lefts: Table, rights: Table, outs: Table, starts: Table, left: Address, right: Address,
    out: Address, terms: int, rows: int, row: int, term: int, line: int, column: int, pitch: int,
    height: int, low: int, high: int,
) -> None:  # fmt: skip
    """Products of stacks of matrices: of a unit, some rows meet a panel of columns."""
    panel = np.empty(_PANEL * _RUN, np.float32)
    panels, blocks = len(starts) - 1, (rows + height - 1) // height
    for unit in range(low, high):
        p, rest = unit // (blocks * panels), unit % (blocks * panels)
        o, q, end = rest // panels * height, starts[rest % panels], starts[rest % panels + 1]
        several, used = min(height, rows - o), end - q
        count = (used + _LANES - 1) // _LANES
        width, to = count * _LANES, out + 4 * (outs[p] + o * pitch + q)
        for k in range(0, terms, _RUN):
            some, more = min(_RUN, terms - k), int(k > 0)
            rows_at = left + 4 * (lefts[p] + o * row + k * term)
            base = rights[p] + k * line + q * column
            seen, step = right + 4 * base, line
            if column != 1 or used < width:
                seen, step = beginning(panel), width
                _pack(right, base, column, line, used, some, panel, width)
            if count == 3:
                _three(rows_at, row, term, seen, step, to, pitch, some, several, used, more)
            elif count == 2:
                _two(rows_at, row, term, seen, step, to, pitch, some, several, used, more)
            else:
                _one(rows_at, row, term, seen, step, to, pitch, some, several, used, more)
    panel[0] = 0  # it is there until now
