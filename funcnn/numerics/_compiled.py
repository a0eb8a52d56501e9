"""Portable mode compiled, with the same bits. The twins are in `_exact`, `_sums` and `_elementary`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from itertools import pairwise
from types import FunctionType
from typing import Any

import numpy as np

from funcnn.machine.memory import scratch
from funcnn.machine.threads import team
from funcnn.numerics import _elementary
from funcnn.numerics.halving import sum_by_halves
from funcnn.numerics.handover import divided_exactly
from funcnn.numerics.jit import Address, In, Kernel, Out, OutBytes, Table, Wide, address, inlined
from funcnn.numerics.numbers import of_numbers, of_rows
from funcnn.numerics.packing import (
    LANES,
    TALL,
    broad,
    pack,
    pack_rows,
    pack_runs,
    pack_some_rows,
)
from funcnn.numerics.panels import LONG, rounded_long_panel, rounded_panel, unaligned
from funcnn.numerics.rounded import few_products, widen
from funcnn.types import Array

Shape = tuple[int, ...]
_OF_ARRAYS = {"sin", "cos", "erf", "erfc"}  # of integers of any size, a table, a long series
_FEW = 3  # rows for which a copy of the right matrix does not pay
_LARGE, _SEVERAL = 1 << 18, 4 * LANES  # multiplications, rows and columns that are worth panels
_DOUBLE = np.dtype(np.float64)
_BLOCK = 1024  # numbers that a thread takes at a time: some microseconds
_PART = 1 << 21  # multiplications that are worth a thread; measured as `panels` says


def laid_out(a: Array, b: Array, out: Array | None) -> Any:
    """A product of float32 matrices, turned if its rows are no neighbours: they are then.

    What it gives; the left matrix, the right one and the results; where each of a stack begins. None
    for other operands.
    """
    if not (a.dtype == b.dtype == np.float32 and a.ndim > 1 and b.ndim > 1):
        return None
    terms, stack = a.shape[-1], a.shape[:-2]
    if terms != b.shape[-2] or not (a.flags.aligned and b.flags.aligned):
        return None
    if stack != b.shape[:-2]:
        stack = np.broadcast_shapes(stack, b.shape[:-2])
    shape = (*stack, a.shape[-2], b.shape[-1])
    if out is not None:
        shared = np.may_share_memory(out, a) or np.may_share_memory(out, b)
        if shared or out.shape != shape or out.dtype != np.float32 or not out.flags.behaved:
            return None
    target = np.empty(shape, a.dtype) if out is None else out
    if not terms or not target.size:
        return None
    left, right, to = a, b, target
    if to.strides[-1] != 4 or (shape[-1] == 1 and to.strides[-2] == 4):
        left, right, to = b.swapaxes(-1, -2), a.swapaxes(-1, -2), target.swapaxes(-1, -2)
    if to.strides[-1] != 4:
        return None
    matrices = left, right, to
    return target, matrices, [_places(stack, x.shape[:-2], x.strides[:-2]) for x in matrices]


def matmul(a: Array, b: Array, out: Array | None = None) -> Any:
    """`_exact.matmul`, of matrices of float32 numbers."""
    if (found := laid_out(a, b, out)) is None:
        return NotImplemented
    target, (left, right, to), (lefts, rights, outs) = found
    (row, term), (line, column) = ((x.strides[-2] // 4, x.strides[-1] // 4) for x in (left, right))
    pitch, begin, terms = to.strides[-2] // 4, [address(x) for x in (left, right, to)], left.shape[-1]
    if len(outs) == 1 and terms * to.size >= _LARGE and min(to.shape[-2:]) >= _SEVERAL:
        sure = _large(begin, (row, term, line, column, pitch), terms, to.shape[-2:])
        return target if sure else NotImplemented
    at = _steps(terms, line if to.shape[-2] <= _FEW and column == 1 else None)
    parts = _parts(terms, len(outs), *to.shape[-2:], team())
    doubt, edge = np.zeros(1, np.uint8), np.empty(len(parts) * 3 * TALL * LANES, np.float32)
    _products(
        at, lefts, rights, outs, _bounds(parts), *begin, address(edge), terms, row, term, line, column,
        pitch, doubt, 0, len(parts),
    )  # fmt: skip
    return NotImplemented if doubt[0] else target


def large_matmul(a: Array, b: Array, out: Array | None = None, plus: Array | None = None) -> Any:
    """`large.large_matmul`."""
    found = matmul(a, b, out)
    if plus is not None and found is not NotImplemented:
        found += plus
    return found


def _large(begin: list[int], steps: tuple[int, ...], terms: int, shape: Shape) -> bool:
    """A single product, of which threads take panel after panel; whether nothing is in doubt."""
    (rows, columns), (row, term, line, column, pitch) = shape, steps
    left, norm = scratch("left", (rows * terms + LANES,), _DOUBLE), np.empty(rows + LANES)
    _pack_left(left, norm, begin[0], row, term, rows, terms, 0, -(-rows // TALL))
    starts, at = panels_of(columns, LANES), _steps(terms, line if column == 1 else None)
    doubt, edge = np.zeros(1, np.uint8), np.empty(3 * TALL * LANES, np.float32)
    _multiply(at, starts, left, norm, begin[1], begin[2], address(edge), terms, rows, line, column,
              pitch, doubt, 0, len(starts) - 1)  # fmt: skip
    return not doubt[0]


@lru_cache(maxsize=256)
def panels_of(columns: int, lanes: int) -> Array:
    """Where each panel of a right matrix begins, and the last one ends; a vector has so many lanes."""
    ends = [0]
    while (left := columns - ends[-1]) > 0:
        vectors = -(-left // lanes)
        ends.append(min(columns, ends[-1] + lanes * min(vectors, 2 if vectors == 4 else 3)))
    return np.array(ends)


@divided_exactly
def _pack_left(
    out: Wide, norm: Wide, x: Address, row: int, term: int, rows: int, terms: int, low: int, high: int
) -> None:
    """Some panels of rows."""
    first, last = low * TALL, min(high * TALL, rows)
    pack_some_rows(x, 0, row, term, first, last, terms, out, norm)


@divided_exactly
def _multiply(
    at: Table, starts: Table, left: Wide, norm: Wide, right: Address, out: Address, edge: Address,
    terms: int, rows: int, line: int, column: int, pitch: int, doubtful: OutBytes, low: int, high: int,
) -> None:  # fmt: skip
    """All rows by some panels of columns."""
    panel, size = np.empty(3 * LANES * (terms + 1) + 8), np.empty(4 * LANES)
    more = np.empty(rows * 3 * LANES if terms > LONG else 0)
    start, doubt = unaligned(panel), 0
    for i in range(low, high):
        q, used = starts[i], starts[i + 1] - starts[i]
        count = (used + LANES - 1) // LANES
        if len(at) and used == 3 * LANES:
            pack_runs(right, panel, size, terms, start, used, 0, q, at, 0, 3)
        else:
            pack(right, q * column, column, line, used, terms, panel, start, count * LANES, size, 0)
        if count == 3 and terms > LONG:
            doubt |= rounded_long_panel(left, norm, panel, size, more, out, edge, terms, rows, start,
                                        q, pitch, used)  # fmt: skip
        else:
            doubt |= rounded_panel(left, norm, panel, size, out, edge, terms, terms, 0, rows,
                                   start, q, pitch, used, count)  # fmt: skip
    if doubt:
        doubtful[0] = 1


@lru_cache(maxsize=1024)
def _steps(terms: int, line: int | None) -> Array:
    """Where each line of the right matrix begins, if few others read it: then none is copied."""
    return np.arange(0 if line is None else terms) * (line or 0)


@lru_cache(maxsize=1024)
def _parts(
    terms: int, count: int, rows: int, columns: int, most: int
) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Which products, rows and columns each thread takes; it does not show in what they give."""
    threads = max(1, min(most, terms * count * rows * columns // _PART))
    sizes = [(count, 1), (rows, TALL), (columns, 3 * LANES)]
    axis = 0 if count >= threads else 1 if rows >= columns else 2
    size, tile = sizes[axis]
    ends = sorted({*(size * i // threads // tile * tile for i in range(threads)), size})
    whole = [(0, size) for size, _ in sizes]
    return tuple((*whole[:axis], pair, *whole[axis + 1 :]) for pair in pairwise(ends))


@lru_cache(maxsize=1024)
def _bounds(parts: tuple[tuple[tuple[int, int], ...], ...]) -> Array:
    """The same, as a table."""
    return np.array(parts, np.int64).ravel()


def prepare(x: Array) -> Array:
    """`_exact.prepare`: compiled products widen what they read."""
    return x


@lru_cache(maxsize=1024)
def _places(stack: Shape, own: Shape, strides: Shape) -> Array:
    """Where each matrix of a stack begins; an axis of size 1 serves all."""
    steps = (0,) * (len(stack) - len(own)) + tuple(
        0 if size == 1 else stride for size, stride in zip(own, strides, strict=False)
    )
    found: Array = np.zeros(1, np.int64)
    for size, step in zip(stack, steps, strict=True):
        found = (found[:, None] + np.arange(size) * (step // 4)).ravel()
    return found


@divided_exactly
def _products(
    at: Table, lefts: Table, rights: Table, outs: Table, bounds: Table, left: Address, right: Address,
    out: Address, edge: Address, terms: int, row: int, term: int, line: int, column: int, pitch: int,
    doubtful: OutBytes, first_part: int, last_part: int,
) -> None:  # fmt: skip
    """Parts of the products of stacks of matrices, and whether one is in doubt."""
    for i in range(first_part, last_part):
        first, last, low, high, start, stop = bounds[6 * i : 6 * i + 6]
        if _some_products(
            at, lefts[first:last], rights[first:last], outs[first:last], left + 4 * low * row,
            right + 4 * start * column, out + 4 * (low * pitch + start),
            edge + 4 * i * (3 * TALL * LANES), terms, high - low, stop - start, row, term, line,
            column, pitch,
        ):  # fmt: skip
            doubtful[0] = 1


@inlined
def _some_products(
    at: Table, lefts: Table, rights: Table, outs: Table, left: Address, right: Address,
    out: Address, edge: Address, terms: int, rows: int, columns: int,
    row: int, term: int, line: int, column: int, pitch: int,
) -> Any:  # fmt: skip
    doubt = 0  # behind what is packed there is room for a vector
    wide, norm = np.empty(rows * terms + LANES), np.empty(rows + LANES)
    panel, size = np.empty(broad(columns) * LANES * (terms + 1) + 8), np.empty(3 * LANES)
    start = unaligned(panel)
    for p in range(len(outs)):
        fresh = p == 0 or lefts[p] != lefts[p - 1]
        if len(at):
            if fresh:
                doubt |= widen(left, lefts[p], row, term, rows, terms, wide, norm)
            doubt |= few_products(right, at, wide, norm, out, rights[p], outs[p], rows, pitch,
                                  columns, LANES)  # fmt: skip
            continue
        if fresh:
            pack_rows(left, lefts[p], row, term, rows, terms, wide, norm)
        q = 0
        while q < columns:
            count = broad(columns - q)
            width = count * LANES
            used = min(width, columns - q)
            pack(right, rights[p] + q * column, column, line, used, terms, panel, start, width, size, 0)
            doubt |= rounded_panel(wide, norm, panel, size, out, edge, terms, terms, 0, rows,
                                   start, outs[p] + q, pitch, used, count)  # fmt: skip
            q += width
    return doubt


# --- sums -----------------------------------------------------------------------------------------


sum = sum_by_halves
"""`_sums.sum`."""


# --- elementary functions -------------------------------------------------------------------------


def each(core: Callable[..., Array], out: Array, *lines: Array) -> Any:
    """`_elementary.each`: the same function, of numbers."""
    kernel = _of_rows(core) if out.dtype == np.float32 else _of_numbers(core)
    if kernel is None or any(x.dtype != out.dtype for x in lines):
        return NotImplemented
    if out.dtype not in (np.float32, np.float64):
        return NotImplemented
    kernel(*lines, out, 0, -(-out.size // _BLOCK))
    return out


@cache
def _of_numbers(core: FunctionType) -> Kernel | None:
    """The loop over a function's arguments; None where it needs more than numbers."""
    if core.__name__ in _OF_ARRAYS:
        return None
    loop = _each if core.__code__.co_argcount == 1 else _each_of_two
    made = FunctionType(loop.__code__, {**globals(), "core": of_numbers(core)}, core.__name__)
    made.__annotations__ = loop.__annotations__
    made.__qualname__ = f"each_{core.__name__}"
    return divided_exactly(made)


@cache
def _of_rows(core: FunctionType) -> Kernel | None:
    """The same of float32 numbers, by rows where the function has a way of its own for them."""
    if core not in of_rows:
        return _of_numbers(core)
    made = FunctionType(_each_row.__code__, {**globals(), "core": of_rows[core]}, core.__name__)
    made.__annotations__ = _each_row.__annotations__
    made.__qualname__ = f"rows_{core.__name__}"
    return divided_exactly(made)


core: Any = None  # which function it is, `_of_numbers` and `_of_rows` say


def _each(x: In, out: Out, low: int, high: int) -> None:
    # Slices: LLVM then knows that no place is counted from the end, and works on vectors.
    x, out = x[low * _BLOCK : high * _BLOCK], out[low * _BLOCK : high * _BLOCK]
    for i in range(len(x)):
        out[i] = core(np.float64(x[i]))


def _each_of_two(x: In, y: In, out: Out, low: int, high: int) -> None:
    x, y = x[low * _BLOCK : high * _BLOCK], y[low * _BLOCK : high * _BLOCK]
    out = out[low * _BLOCK : high * _BLOCK]
    for i in range(len(x)):
        out[i] = core(np.float64(x[i]), np.float64(y[i]))


def _each_row(x: In, out: Out, low: int, high: int) -> None:
    core(x[low * _BLOCK : high * _BLOCK], out[low * _BLOCK : high * _BLOCK])


for _one in ("exp", "expm1", "sigmoid", "tanh", "log", "log1p", "power", "erfc", "_sech2", "rsqrt"):
    _of_numbers(getattr(_elementary, _one).__wrapped__)  # what `funcnn.compile` finds
for _core in of_rows:
    _of_rows(_core)
