"""Sums by halves compiled: the twin is `_sums`, whose order and bits these are.

A sum over several axes is one pass for each, the last axis first. Of each block, the second half of its
lines is added to the first until one line is left. So the order does not depend on memory, or on who
takes which columns of a block.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from funcnn.numerics.handover import divided_exactly
from funcnn.numerics.jit import In, Wide, inlined_exactly
from funcnn.types import Array

Shape = tuple[int, ...]
_PIECES, _SHORT = 8, 64  # of the blocks of a sum, at least, if runs remain as long


def sum_by_halves(
    x: Array, axis: int | Shape | None = None, keepdims: bool = False, times: Array | None = None
) -> Any:
    """The sum of memory without gaps, or of its products with other memory that lies alike."""
    if x.dtype not in (np.float32, np.float64) or not x.size or not x.ndim:
        return NotImplemented
    found = _passes(x.shape, x.strides, axis)
    if found is None or not (lined := x.transpose(found[0])).flags.c_contiguous:
        return NotImplemented
    order, back, passes, kept, axes = found
    total, factors = lined.reshape(-1), None
    if times is not None:
        factors = times.transpose(order)
        if times.shape != x.shape or times.dtype != x.dtype or not factors.flags.c_contiguous:
            return NotImplemented
    for outer, terms, inner in passes:
        more = np.empty(outer * inner)
        pieces = max(1, min(-(-_PIECES // outer), inner // _SHORT))
        cut = more, terms, inner, -(-inner // pieces), pieces, 0, outer * pieces
        if factors is None:
            _halve(total, *cut)
        else:
            _halve_products(total, factors.reshape(-1), *cut)
        total, factors = more, None
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


@inlined_exactly
def fold(rows: Wide, keep: int, width: int) -> None:
    """Add up so many rows of a width by halves, into the first."""
    while keep > 1:
        half, keep = keep // 2, (keep + 1) // 2
        more = rows[keep * width :]
        for q in range(half * width):
            rows[q] += more[q]


@divided_exactly
def _halve(
    x: In, out: Wide, terms: int, inner: int, size: int, pieces: int, low: int, high: int
) -> None:
    rows = np.empty((terms + 1) // 2 * size)
    for i in range(low, high):
        o, start = i // pieces, i % pieces * size
        width, half, keep = min(size, inner - start), terms // 2, (terms + 1) // 2
        block = x[o * terms * inner + start :]
        lines, run = (1, half * inner) if width == inner else (half, width)
        for t in range(lines):
            to, one, other = rows[t * width :], block[t * inner :], block[(t + keep) * inner :]
            for q in range(run):
                to[q] = np.float64(one[q]) + np.float64(other[q])
        for q in range(width if half < keep else 0):
            rows[half * width + q] = block[half * inner + q]
        fold(rows, keep, width)
        for q in range(width):
            out[o * inner + start + q] = rows[q]


@divided_exactly
def _halve_products(
    x: In, y: In, out: Wide, terms: int, inner: int, size: int, pieces: int, low: int, high: int
) -> None:
    """The same of products, each of them rounded."""
    rows = np.empty((terms + 1) // 2 * size)
    for i in range(low, high):
        o, start = i // pieces, i % pieces * size
        width, half, keep = min(size, inner - start), terms // 2, (terms + 1) // 2
        block, factors = x[o * terms * inner + start :], y[o * terms * inner + start :]
        lines, run = (1, half * inner) if width == inner else (half, width)
        for t in range(lines):
            to, one, other = rows[t * width :], block[t * inner :], block[(t + keep) * inner :]
            by, times = factors[t * inner :], factors[(t + keep) * inner :]
            for q in range(run):
                to[q] = np.float64(one[q] * by[q]) + np.float64(other[q] * times[q])
        for q in range(width if half < keep else 0):
            rows[half * width + q] = block[half * inner + q] * factors[half * inner + q]
        fold(rows, keep, width)
        for q in range(width):
            out[o * inner + start + q] = rows[q]
