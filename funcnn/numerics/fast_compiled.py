"""Large products of float32 matrices in fast mode, compiled. Their readable twin is `numpy.matmul`.

A tile of results stays in registers while it runs along the terms. Where reading a matrix as it lies
would take longer, it is copied first: columns of the right one into panels, rows of the left one into
blocks. Terms are added up in runs, and these in turn: every entry is the same chain of operations,
wherever it stands and however many threads there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn.machine.memory import scratch
from funcnn.machine.threads import workers
from funcnn.numerics._compiled import laid_out, panels_of
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import Address, Single, Table, address, inlined, intrinsic
from funcnn.numerics.large import LARGE
from funcnn.numerics.packing import TALL, pack_neighbours
from funcnn.numerics.panels import beginning
from funcnn.numerics.singles import LANES, RUN, add_lines, multiply_panel, pack, put
from funcnn.numerics.vectors import IN_PLACE, VECTOR, Vectors, cgutils, ir, literals, types
from funcnn.types import Array

# Measured in November 2026 on an AMD EPYC (Zen 3, two cores, AVX2, 512 KiB of second-level cache), and
# what concerns AVX-512 on another (Zen 4, 1 MiB).
_BROAD = VECTOR >= 32  # else BLAS may be as fast: nobody measured it
_PANEL = 3 * LANES  # columns of a tile
_FEW, _BLOCK = 32, 128  # rows that are worth a panel, and that meet it while it stays in the cache
_UNITS = 8  # to divide, at least, where there is who takes them: one thread packs each row once
_GROUP = 4  # tiles, of which a line of the cache holds a term
_NOTHING = np.empty(0, np.float32)


def is_large(rows: int, terms: int, columns: int) -> bool:
    """Whether BLAS is slower at a product of such matrices."""
    return _BROAD and min(rows, columns) > 1 and rows * terms * columns >= LARGE


def large_matmul(a: Array, b: Array, out: Array | None = None, plus: Array | None = None) -> Any:
    """`funcnn.numerics.large.large_matmul`, of matrices that are large themselves.

    BLAS is as good at stacks of small ones.
    """
    if a.ndim < 2 or not is_large(a.shape[-2], a.shape[-1], b.shape[-1]):
        return NotImplemented
    if (found := laid_out(a, b, out)) is None:
        return NotImplemented
    target, (left, right, to), places = found
    if plus is not None:
        plus = np.ascontiguousarray(plus)
        if plus.dtype != np.float32 or not plus.flags.aligned or left is not a:
            return NotImplemented
    row, term = left.strides[-2] // 4, left.strides[-1] // 4
    line, column = right.strides[-2] // 4, right.strides[-1] // 4
    if 1 not in (line, column):
        return NotImplemented
    (rows, columns), pitch, terms = to.shape[-2:], to.strides[-2] // 4, left.shape[-1]
    reads = column == 1 and (IN_PLACE or rows < _FEW)
    turns = row == 1 < term and columns >= _FEW and not IN_PLACE
    units = 1 if workers() == 1 else _UNITS
    starts, height = panels_of(columns, LANES), _height(rows, columns, units)
    panels, blocks = len(starts) - 1, -(-rows // height)
    groups, packed, apart = min(panels, -(-units // blocks)), _NOTHING, 0
    if blocks > 1 and not reads:  # else there is one unit that reads a panel, and packs it
        count, size = 1 if right.ndim == 2 else len(places[1]), (columns + LANES) * terms
        packed, apart = scratch("right", (count * size,), right.dtype), size * (count > 1)
        where = places[1], starts, address(right), packed, apart, terms, line, column
        _pack_right(*where, 0, count * panels)
    _multiply(
        *places, starts, address(left), address(right), address(to), *_added(plus), packed, apart,
        terms, rows, row, term, line, column, pitch, int(reads), int(turns), height, groups,
        0, len(places[2]) * blocks * groups,
    )  # fmt: skip
    return target


def added_rows(x: Array) -> Any:
    """`funcnn.numerics.large.added_rows`, of float32 numbers that lie side by side in each row."""
    if x.dtype != np.float32 or x.ndim != 2 or x.strides[1] != 4 or not x.flags.aligned or not x.size:
        return NotImplemented
    out, blocks = np.empty(x.shape[1], x.dtype), -(-x.shape[1] // LANES)
    _add_rows(np.array(x.shape), address(x), x.strides[0] // 4, address(out), 0, blocks)
    return out


def _added(plus: Array | None) -> tuple[int, int, int]:
    """Where it begins, and how far its rows and columns are apart: it must live until it is read."""
    if plus is None:
        return 0, 0, 0
    row = plus.strides[0] // 4 if plus.ndim > 1 and len(plus) > 1 else 0
    return address(plus), row, int(plus.shape[-1] > 1)


def _height(rows: int, columns: int, units: int) -> int:
    """How many rows meet a panel: fewer where threads share rows, and not panels."""
    least = _BLOCK if columns > rows else max(_FEW, -(-rows // (units * TALL)) * TALL)
    return min(rows, least, _BLOCK)


@intrinsic
def _copy(
    context: Any, x: Any, term: Any, out: Any, step: Any, apart: Any, terms: Any, size: Any, count: Any
) -> Any:
    """``out[t step + i apart + c] = x[t term + i size + c]`` for ``t < terms, i < count, c < size``."""
    if not literals(size, count):
        return None
    signature = types.void(x, term, out, step, apart, terms, size, count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide, each, word = size.literal_value, range(count.literal_value), ir.IntType(64)
        vectors = Vectors(context, builder, types.float32, 4 * wide)
        source, target = (builder.inttoptr(args[i], ir.FloatType().as_pointer()) for i in (0, 2))
        term, (step, apart, terms) = args[1], args[3:6]
        with cgutils.for_range_slice(builder, word(0), terms, word(1), intp=word) as (t, _):
            seen, to = builder.mul(t, term), builder.mul(t, step)
            found = [vectors.at(source, builder.add(seen, word(i * wide))) for i in each]
            for i, one in zip(each, found, strict=True):
                vectors.put(one, target, builder.add(to, builder.mul(apart, word(i))))
        return context.get_dummy_value()

    return signature, generate


@inlined
def _pack_left(x: Address, term: int, rows: int, terms: int, block: Single) -> None:
    """Rows whose terms are so far apart, by tiles; behind them is room for one and a vector."""
    o = 0
    while o < rows:
        if rows - o >= _GROUP * TALL:
            to = beginning(block) + 4 * o * terms
            _copy(x + 4 * o, term, to, TALL, TALL * terms, terms, TALL, _GROUP)
            o += _GROUP * TALL
        else:
            some = min(TALL, rows - o)
            pack_neighbours(x, block, block, terms, o * terms, TALL, 0, o, term, some, 0)
            o += TALL


@inlined
def _pack_panel(
    x: Address, base: int, column: int, line: int, used: int, terms: int, panel: Single
) -> None:
    """As `pack`; but a whole panel of neighbours is copied in one pass over its lines."""
    if column == 1 and used == _PANEL:
        _copy(x + 4 * base, line, beginning(panel), _PANEL, LANES, terms, LANES, 3)
    else:
        pack(x, base, column, line, used, terms, panel, (used + LANES - 1) // LANES * LANES)


@divided
def _pack_right(
    rights: Table, starts: Table, right: Address, out: Single, apart: int, terms: int, line: int,
    column: int, low: int, high: int,
) -> None:  # fmt: skip
    """Panels of stacks of matrices that are so many numbers apart."""
    panels = len(starts) - 1
    for unit in range(low, high):
        p, q, end = unit // panels, starts[unit % panels], starts[unit % panels + 1]
        base, panel = rights[p] + q * column, out[p * apart + q * terms :]
        _pack_panel(right, base, column, line, end - q, terms, panel)


@divided
def _multiply(
    lefts: Table, rights: Table, outs: Table, starts: Table, left: Address, right: Address,
    out: Address, plus: Address, plus_row: int, plus_column: int, packed: Single, apart: int,
    terms: int, rows: int, row: int, term: int, line: int, column: int, pitch: int, reads: int,
    turns: int, height: int, groups: int, low: int, high: int,
) -> None:  # fmt: skip
    """Products of stacks of matrices: in a unit, some rows meet a group of panels.

    Panels have been packed before, or are read where they lie if `reads` is 1 and they are whole, or
    else are packed now; and so are the rows if `turns` is 1.
    """
    panel = np.empty(_PANEL * RUN + 16, np.float32)
    block = np.empty(turns * ((height + TALL) * RUN + LANES), np.float32)
    start = (-beginning(panel) & 63) >> 2  # from there on, a line of the cache begins with a vector
    panels, blocks = len(starts) - 1, (rows + height - 1) // height
    for unit in range(low, high):
        p, rest = unit // (blocks * groups), unit % (blocks * groups)
        o, group = rest // groups * height, rest % groups
        first, last = group * panels // groups, (group + 1) * panels // groups
        several, to_rows, q = min(height, rows - o), out + 4 * (outs[p] + o * pitch), starts[first]
        is_there = plus != 0 and not plus_column
        if is_there:
            put(plus + 4 * o * plus_row, plus_row, to_rows + 4 * q, pitch, several, starts[last] - q)
        for k in range(0, terms, RUN):
            some, added, apart_by = min(RUN, terms - k), plus + 4 * o * plus_row, plus_row
            if k > 0 or is_there:
                added, apart_by = to_rows, pitch
            at, jump, step, following = left + 4 * (lefts[p] + o * row + k * term), row, row, term
            if turns:
                _pack_left(at, term, several, some, block)
                at, jump, step, following = beginning(block), some, 1, TALL
            for i in range(first, last):
                q, used = starts[i], starts[i + 1] - starts[i]
                width, base = (used + LANES - 1) // LANES * LANES, rights[p] + k * line + q * column
                if len(packed):
                    seen, lower = beginning(packed) + 4 * (p * apart + q * terms + k * width), width
                elif reads and used == width:
                    seen, lower = right + 4 * base, line
                else:
                    seen, lower = beginning(panel) + 4 * start, width
                    _pack_panel(right, base, column, line, used, some, panel[start:])
                multiply_panel(
                    at, jump, step, following, seen, lower, to_rows + 4 * q, pitch, some, several,
                    used, added + 4 * q if added else 0, apart_by,
                )  # fmt: skip
    panel[0] = block[:1].sum()  # they are there until now


@divided
def _add_rows(sizes: Table, x: Address, row: int, out: Address, low: int, high: int) -> None:
    for block in range(low, high):
        q = block * LANES
        add_lines(x + 4 * q, row, sizes[0], out + 4 * q, sizes[1] - q)
