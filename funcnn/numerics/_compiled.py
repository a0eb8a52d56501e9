"""Portable mode compiled, with the same bits. The twins are in `_exact`, `_sums` and `_elementary`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from types import FunctionType
from typing import Any

import numpy as np

from funcnn.numerics import _elementary
from funcnn.numerics.jit import (
    Address,
    In,
    Kernel,
    Out,
    OutBytes,
    Table,
    Wide,
    address,
    exact,
    inlined_exactly,
)
from funcnn.numerics.rounded import rounded_product, widen
from funcnn.numerics.vectors import VECTOR
from funcnn.types import Array

Shape = tuple[int, ...]
_OF_ARRAYS = {"sin", "cos", "erf", "erfc"}  # of integers of any size, a table, a long series
_COLUMNS = VECTOR // 8 * 16  # of the right matrix, which stay in the cache for all rows of the left one


def matmul(a: Array, b: Array, out: Array | None = None) -> Any:
    """`_exact.matmul`, of matrices of float32 numbers."""
    if not (a.dtype == b.dtype == np.float32 and a.ndim > 1 and b.ndim > 1):
        return NotImplemented
    terms, stack = a.shape[-1], a.shape[:-2]
    if terms != b.shape[-2]:
        return NotImplemented
    if stack != b.shape[:-2]:
        stack = np.broadcast_shapes(stack, b.shape[:-2])
    shape = (*stack, a.shape[-2], b.shape[-1])
    if out is not None:
        shared = np.may_share_memory(out, a) or np.may_share_memory(out, b)
        if shared or out.shape != shape or out.dtype != np.float32:
            return NotImplemented
    target = np.empty(shape, a.dtype) if out is None else out
    if not terms or not target.size:
        return NotImplemented
    left, right, to = a, b, target
    if to.strides[-1] != 4 or (right.strides[-1] != 4 and left.strides[-2] == 4 == to.strides[-2]):
        left, right, to = b.swapaxes(-1, -2), a.swapaxes(-1, -2), target.swapaxes(-1, -2)
    if to.strides[-1] != 4:
        return NotImplemented
    if right.strides[-1] != 4:
        right = np.ascontiguousarray(right)
    rows, columns = to.shape[-2:]
    doubt = np.zeros(1, np.uint8)
    _products(
        _steps(terms, right.strides[-2]), _places(stack, left.shape[:-2], left.strides),
        _places(stack, right.shape[:-2], right.strides), _places(stack, stack, to.strides),
        address(left), address(right), address(to), rows, columns,
        left.strides[-2] // 4, left.strides[-1] // 4, to.strides[-2] // 4, VECTOR // 8, _COLUMNS, doubt,
    )  # fmt: skip
    return NotImplemented if doubt[0] else target


def prepare(x: Array) -> Array:
    """`_exact.prepare`: compiled products widen what they read."""
    return x


@lru_cache(maxsize=1024)
def _steps(terms: int, stride: int) -> Array:
    return np.arange(terms) * (stride // 4)


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


@exact
def _products(
    at: Table, lefts: Table, rights: Table, outs: Table, left: Address, right: Address, out: Address,
    rows: int, columns: int, row: int, term: int, pitch: int, vector: int, step: int,
    doubtful: OutBytes,
) -> None:  # fmt: skip
    """Products of stacks of matrices, and whether one is in doubt."""
    terms, doubt = len(at), 0
    wide, norm = np.empty(rows * terms), np.empty(rows)
    for p in range(len(outs)):
        if p == 0 or lefts[p] != lefts[p - 1]:
            doubt |= widen(left, lefts[p], row, term, rows, terms, wide, norm)
        for q in range(0, columns, step):
            doubt |= rounded_product(
                right, at, wide, norm, out, 0, terms, rights[p], outs[p], 0, rows, pitch,
                q, min(q + step, columns), columns, vector,
            )  # fmt: skip
    doubtful[0] = doubt


# --- sums -----------------------------------------------------------------------------------------


def sum(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Any:
    """`_sums.sum`, of memory without gaps."""
    if x.dtype not in (np.float32, np.float64) or not x.size or not x.ndim:
        return NotImplemented
    found = _passes(x.shape, x.strides, axis)
    if found is None or not (lined := x.transpose(found[0])).flags.c_contiguous:
        return NotImplemented
    _, back, passes, kept, axes = found
    total = lined.reshape(-1)
    for outer, terms, inner in passes:
        more = np.empty(outer * inner)
        _halve(total, more, outer, terms, inner)
        total = more
    out = total.astype(x.dtype, copy=False).reshape(kept).transpose(back)
    return out if keepdims else out.squeeze(axes)


@lru_cache(maxsize=1024)
def _passes(shape: Shape, strides: Shape, axis: int | Shape | None) -> Any:
    """The order of the axes in memory, and back; blocks to be added up in turn; what is left."""
    rank = len(shape)
    chosen = range(rank) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = {k % rank for k in chosen}
    if not axes or len(axes) < len(chosen) or any(not -rank <= k < rank for k in chosen):
        return None
    order = sorted(range(rank), key=lambda k: (-strides[k], k))
    sizes, passes = [shape[k] for k in order], []
    for place in (order.index(k) for k in sorted(axes, reverse=True)):
        passes.append((math.prod(sizes[:place]), sizes[place], math.prod(sizes[place + 1 :])))
        sizes[place] = 1
    back = sorted(range(rank), key=order.__getitem__)
    return tuple(order), tuple(back), tuple(passes), tuple(sizes), tuple(axes)


@exact
def _halve(x: In, out: Wide, outer: int, terms: int, inner: int) -> None:
    """Of each block, its second half is added to its first until a run is left."""
    rows = np.empty((terms + 1) // 2 * inner)
    for o in range(outer):
        block, half, keep = x[o * terms * inner : (o + 1) * terms * inner], terms // 2, (terms + 1) // 2
        second = block[keep * inner :]
        for i in range(half * inner):
            rows[i] = np.float64(block[i]) + np.float64(second[i])
        for i in range(half * inner, keep * inner):
            rows[i] = block[i]
        while keep > 1:
            half, keep = keep // 2, (keep + 1) // 2
            more = rows[keep * inner :]
            for i in range(half * inner):
                rows[i] += more[i]
        for i in range(inner):
            out[o * inner + i] = rows[i]


# --- elementary functions -------------------------------------------------------------------------


def each(core: Callable[..., Array], out: Array, *lines: Array) -> Any:
    """`_elementary.each`: the same function, of numbers."""
    kernel = _of_numbers(core)
    if kernel is None or any(x.dtype != out.dtype for x in lines):
        return NotImplemented
    if out.dtype not in (np.float32, np.float64):
        return NotImplemented
    kernel(*lines, out)
    return out


@cache
def _of_numbers(core: FunctionType) -> Kernel | None:
    """The loop over a function's arguments; None where it needs more than numbers."""
    if core.__name__ in _OF_ARRAYS:
        return None
    loop = _each if core.__code__.co_argcount == 1 else _each_of_two
    made = FunctionType(loop.__code__, {**globals(), "core": _jitted(core)}, core.__name__)
    made.__annotations__ = loop.__annotations__
    made.__qualname__ = f"each_{core.__name__}"
    return exact(made)


@cache
def _jitted(function: FunctionType) -> Any:
    """A function of arrays as one of numbers, and with it those of the same module that it calls."""
    known, needed = function.__globals__, {*function.__code__.co_names, "__name__"}
    names = {name: known[name] for name in needed & known.keys()}
    for name, value in names.items():
        if name in _FORMS:
            names[name] = _FORMS[name]
        elif isinstance(value, FunctionType):
            names[name] = _jitted(getattr(value, "__wrapped__", value))
    made = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    return inlined_exactly(made)


@inlined_exactly
def _clip(x: float, least: float, most: float) -> float:
    x = most if x > most else x  # NaN stays
    return least if x < least else x


@inlined_exactly
def _everywhere(condition: bool) -> bool:
    return condition


@inlined_exactly
def _bits(x: float) -> Any:
    return np.float64(x).view(np.int64)


@inlined_exactly
def _number(bits: int) -> Any:
    return np.int64(bits).view(np.float64)


@inlined_exactly
def _taken(table: Array, j: int) -> float:
    found: float = table[np.uint64(j)]  # asks nothing
    return found


@inlined_exactly
def _where(condition: bool, yes: float, no: float) -> float:
    return yes if condition else no


_FORMS = {
    "_bits": _bits, "_clip": _clip, "_everywhere": _everywhere, "_number": _number, "_taken": _taken,
    "_where": _where,
}  # fmt: skip


core: Any = None  # which function it is, `_of_numbers` says


def _each(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = core(np.float64(x[i]))


def _each_of_two(x: In, y: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = core(np.float64(x[i]), np.float64(y[i]))


for _one in ("exp", "expm1", "sigmoid", "tanh", "log", "log1p", "power", "erfc", "_sech2", "rsqrt"):
    _of_numbers(getattr(_elementary, _one).__wrapped__)  # what `funcnn.compile` finds
