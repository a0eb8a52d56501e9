"""Large products of float32 matrices in fast mode, compiled. Their readable twin is `numpy.matmul`.

A tile of results stays in registers while it runs along the terms. It reads the left matrix where that
lies, and the right one too if its rows are contiguous; else some of its columns are first turned into a
panel. Terms are added up in runs, and these in turn: every entry is the same chain of operations,
wherever it stands and however many threads there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn.numerics._compiled import laid_out, panels_of
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import Address, Table, address
from funcnn.numerics.large import LARGE
from funcnn.numerics.packing import TALL
from funcnn.numerics.panels import beginning
from funcnn.numerics.singles import LANES, RUN, add_lines, multiply_panel, pack, put
from funcnn.numerics.vectors import VECTOR
from funcnn.types import Array

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
_WIDE = VECTOR == 64  # else BLAS is as fast: so it was with code for AVX2
_PANEL = 3 * LANES  # columns of a tile
_BLOCK = 1 << 17  # numbers of the left matrix that stay in the cache while they meet all columns
_FEW = 32  # rows that are worth a panel
_UNITS = 16  # to divide


def is_large(rows: int, terms: int, columns: int) -> bool:
    """Whether BLAS is slower at a product of such matrices."""
    return _WIDE and min(rows, columns) > 1 and rows * terms * columns >= LARGE


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
    starts, height = panels_of(columns, LANES), _height(rows, columns, terms, column != 1)
    units = len(places[2]) * -(-rows // height) * (len(starts) - 1)
    _multiply(
        *places, starts, address(left), address(right), address(to), *_added(plus), terms, rows, row,
        term, line, column, pitch, height, 0, units,
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


def _height(rows: int, columns: int, terms: int, is_copied: bool) -> int:
    """How many rows meet a panel: they stay in the cache, and there are several units for each thread.

    A panel that is copied first should meet more.
    """
    least, units = _FEW * (1 + is_copied), _UNITS // (1 + is_copied)
    height = min(rows, max(least, _BLOCK // terms // TALL * TALL))
    while height >= 2 * least and -(-rows // height) * (columns // _PANEL + 1) < units:
        height = -(-height // (2 * TALL)) * TALL
    return height


@divided
def _multiply(
    lefts: Table, rights: Table, outs: Table, starts: Table, left: Address, right: Address,
    out: Address, plus: Address, plus_row: int, plus_column: int, terms: int, rows: int, row: int,
    term: int, line: int, column: int, pitch: int, height: int, low: int, high: int,
) -> None:  # fmt: skip
    """Products of stacks of matrices: of a unit, some rows meet a panel of columns."""
    panel = np.empty(_PANEL * RUN, np.float32)
    panels, blocks = len(starts) - 1, (rows + height - 1) // height
    for unit in range(low, high):
        p, rest = unit // (blocks * panels), unit % (blocks * panels)
        o, q, end = rest // panels * height, starts[rest % panels], starts[rest % panels + 1]
        several, used = min(height, rows - o), end - q
        width, to = (used + LANES - 1) // LANES * LANES, out + 4 * (outs[p] + o * pitch + q)
        if plus:
            put(
                plus + 4 * (o * plus_row + q * plus_column),
                plus_row,
                plus_column,
                to,
                pitch,
                several,
                used,
            )
        for k in range(0, terms, RUN):
            some, more = min(RUN, terms - k), int(k > 0 or plus != 0)
            rows_at = left + 4 * (lefts[p] + o * row + k * term)
            base = rights[p] + k * line + q * column
            seen, step = right + 4 * base, line
            if column != 1 or used < width:
                seen, step = beginning(panel), width
                pack(right, base, column, line, used, some, panel, width)
            multiply_panel(rows_at, row, term, seen, step, to, pitch, some, several, used, more)
    panel[0] = 0  # it is there until now


@divided
def _add_rows(sizes: Table, x: Address, row: int, out: Address, low: int, high: int) -> None:
    for block in range(low, high):
        q = block * LANES
        add_lines(x + 4 * q, row, sizes[0], out + 4 * q, sizes[1] - q)
