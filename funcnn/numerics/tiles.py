"""Stacks of small matrix products, and sums, cut so that each part runs at full speed.

This is fast mode's way. With AVX-512, OpenBLAS multiplies in place below a million multiplications;
above, it first copies both matrices into panels, which costs more than it saves when one of them has
few rows. So a product of few filters and many columns is done a tile at a time. With AVX2 it always
copies, and would copy the filters again for each tile. A reduction walks short runs of memory at half
to a quarter of the speed of a product with ones: a large sum becomes such products. The cut depends on
the sizes, and on what the processor has.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn.machine.memory import scratch
from funcnn.machine.processor import ends_at_avx2
from funcnn.types import Array

# Measured in November 2026, on the machines that `funcnn._kernels.convolution.plans` names.
_CUTS = not ends_at_avx2()  # on an AMD EPYC (Zen 3), whole products take 0.6 to 0.9 of the time
_SMALL = 1_000_000  # multiplications of a product that BLAS does in place
_OUTER = 1200  # and the largest result, where both matrices run along the summed axis
_RUN = 64  # columns that fill the widest registers four times
_SHALLOW = 128  # sums too short to pay for tiles
_DEPTH = 768  # longest sum in one product of long rows
_PARTIAL = 1 << 18  # numbers of partial sums that are kept before they are added up
_LARGE = 1 << 14  # numbers from which looking for a faster way to add them up pays
_BLOCK = 1 << 21  # and largest block in which a product adds them up: it reads more than once
_reduce: Any = np.add.reduce
_TERMS = range(16, 1 << 14)  # of one sum; adding more of them up in a row would cost digits


@lru_cache(maxsize=1024)
def tile(rows: int, depth: int, columns: int) -> tuple[int, int]:
    """Height and width of a tile of ``(rows, depth) @ (depth, columns)``.

    The height divides the rows; the last tile may be narrower.

    >>> tile(6, 75, 768), tile(32, 288, 512), tile(64, 576, 512), tile(512, 4608, 512)
    ((6, 768), (32, 64), (16, 64), (512, 512))
    """
    if rows * depth * columns <= _SMALL:
        return rows, columns
    for height in _divisors(rows):
        width = _SMALL // (height * max(depth, 1)) // _RUN * _RUN
        if width and height >= min(rows, 8):
            return height, min(width, columns)
    return rows, columns


@lru_cache(maxsize=1024)
def outer_tile(rows: int, depth: int, columns: int) -> tuple[int, int]:
    """Height and width of a tile of ``(rows, depth) @ (columns, depth).T``; both are divisors.

    >>> outer_tile(6, 768, 75), outer_tile(16, 256, 150), outer_tile(64, 512, 576)
    ((6, 75), (16, 75), (32, 36))
    """
    most = min(_OUTER, _SMALL // max(depth, 1))
    if rows * columns <= most or depth <= _SHALLOW:
        return rows, columns
    tiles = [
        (height * width / (height + width), height, width)
        for height in _divisors(rows)
        for width in _divisors(columns)
        if height * width <= most
    ]
    _, height, width = max(tiles, default=(0.0, 0, 0))
    return (height, width) if height * width >= 256 else (rows, columns)


def _outer(rows: int, depth: int, columns: int) -> tuple[int, int]:
    return outer_tile(rows, depth, columns) if _CUTS else (rows, columns)


@lru_cache(maxsize=1024)
def outer_width(rows: int, columns: int) -> int:
    """The width of tiles for short sums, which pay for a cut in one direction only; a divisor.

    >>> outer_width(6, 75), outer_width(16, 150), outer_width(16, 151)
    (75, 75, 151)
    """
    width = next((n for n in _divisors(columns) if rows * n <= _OUTER), 1)
    return width if width * rows >= 256 else columns


def stacked_matmul(filters: Array, columns: Array, out: Array) -> Array:
    """``out[...] = filters @ columns`` for stacks ``(..., M, K)`` and ``(..., K, N)``."""
    rows, count = out.shape[-2:]
    depth = filters.shape[-1]
    height, width = tile(rows, depth, count)
    if not _CUTS or (height, width) == (rows, count):
        np.matmul(filters, columns, out)
        return out
    left = _cut(filters, height, depth)  # (..., 1, M/m, m, K)
    whole = count // width * width
    for start, stop in ((0, whole), (whole, count)):
        if start < stop:
            step = min(width, stop - start)
            right = _cut(columns[..., start:stop], depth, step)  # (..., N/n, 1, K, n)
            np.matmul(left, right, _cut(out[..., start:stop], height, step))
    return out


def summed_matmul(left: Array, turned: Array, dtype: np.dtype[Any]) -> Array:
    """``sum_p left[..., p] @ turned[..., p]`` for ``(..., P, M, D)`` and ``(..., P, D, N)``.

    Both run along `D`: it is the transpose of `turned` that is contiguous.
    """
    right = turned.swapaxes(-2, -1)
    groups = np.broadcast_shapes(left.shape[:-3], right.shape[:-3])
    places, rows, depth = left.shape[-3:]
    count, several = right.shape[-2], math.prod(groups)
    longest = _DEPTH if _CUTS else depth
    if depth <= longest and _outer(rows, depth, count) == (rows, count):
        if places == 1:
            return np.asarray(np.matmul(left[..., 0, :, :], turned[..., 0, :, :]))
        if several * places * rows * count <= _PARTIAL:
            partial = scratch("partial", (*groups, places, rows, count), dtype)
            return sum(np.matmul(left, turned, partial), -3)
    total = np.zeros((*groups, rows, count), dtype)
    step = min(depth, longest)
    block = max(1, _PARTIAL // (several * rows * count * -(-depth // step)))
    whole = depth // step * step
    for start, stop in ((0, whole), (whole, depth)):
        if start == stop:
            continue
        step = min(step, stop - start)
        height, width = _outer(rows, step, count)
        for first in range(0, places, block):
            some = slice(first, first + block)
            a = _cut(left[..., some, :, start:stop], height, step)  # (..., P, D/d, M/m, m, d)
            b = _cut(right[..., some, :, start:stop], width, step).swapaxes(-2, -1)
            shape = (*groups, *a.shape[-5:-3], rows, count)
            partial = scratch("partial", shape, dtype)
            out = _cut(partial, height, width).swapaxes(-4, -3)  # (..., M/m, N/n, m, n)
            np.matmul(a[..., :, None, :, :], b[..., None, :, :, :], out)
            total += sum(partial, (-4, -3))
            del partial, out  # so that the next part has the same memory
    return total


def _cut(array: Array, height: int, width: int) -> Array:
    """A view of ``(..., M, N)`` in tiles: ``(..., N/n, M/m, m, n)``."""
    rows, columns = array.shape[-2:]
    shape = (*array.shape[:-2], rows // height, height, columns // width, width)
    return array.reshape(shape).swapaxes(-3, -2).swapaxes(-4, -3)


def sum(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """Sum over one axis, several or all."""
    if axis is not None and x.size >= _LARGE and x.dtype.kind == "f":
        way = _blocks(x.shape, x.strides, axis)
        if way is not None and (lined := x.transpose(way.order)).flags.c_contiguous:
            if way.inner == 1:
                total = np.einsum("ij->i", lined.reshape(-1, way.terms))
            else:
                total = np.matmul(np.ones(way.terms, x.dtype), lined.reshape(-1, way.terms, way.inner))
            if way.parts > 1:
                total = _reduce(total.reshape(-1, way.parts, way.inner), 1)
            total = np.asarray(total).reshape(way.kept).transpose(way.back)
            return total if keepdims else total.squeeze(way.axes)
    return np.asarray(_reduce(x, axis, None, None, keepdims))


class _Blocks(NamedTuple):
    """An array in the order of its memory: blocks of `terms` runs of `inner` numbers to be added up.

    So many `parts` of them make one sum. `order` is that of the axes, and `back` the way back from the
    sums, of the shape `kept`.
    """

    axes: tuple[int, ...]
    order: tuple[int, ...]
    terms: int
    parts: int
    inner: int
    kept: tuple[int, ...]
    back: tuple[int, ...]


@lru_cache(maxsize=1024)
def _blocks(
    shape: tuple[int, ...], strides: tuple[int, ...], axis: int | tuple[int, ...]
) -> _Blocks | None:
    """The blocks, where the axes summed over are neighbours in memory and it pays; else None."""
    axes = tuple({k % len(shape) for k in (axis if isinstance(axis, tuple) else (axis,))})
    order = tuple(sorted(range(len(shape)), key=lambda k: (-strides[k], k)))
    summed = [place for place, k in enumerate(order) if k in axes]
    if not summed or summed[-1] + 1 - summed[0] != len(summed):
        return None
    lined = [shape[k] for k in order]
    terms, inner = math.prod(lined[summed[0] : summed[-1] + 1]), math.prod(lined[summed[-1] + 1 :])
    parts = 1
    while terms >= _TERMS.stop and terms % 2 == 0:
        terms, parts = terms // 2, 2 * parts
    if terms not in _TERMS or inner >= _LARGE or terms * inner > _BLOCK:
        return None
    kept = tuple(1 if k in axes else shape[k] for k in order)
    back = sorted(range(len(order)), key=order.__getitem__)
    return _Blocks(axes, order, terms, parts, inner, kept, tuple(back))


@lru_cache(maxsize=256)
def _divisors(number: int) -> tuple[int, ...]:
    return tuple(d for d in range(number, 0, -1) if number % d == 0)
