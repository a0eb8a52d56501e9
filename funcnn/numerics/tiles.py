"""Stacks of small matrix products, cut so that BLAS runs each at full speed.

This is fast mode's way. Below a million multiplications OpenBLAS multiplies in place; above, it
first copies both matrices into panels, which costs more than it saves when one of them has few rows.
So a product of few filters and many columns is done a tile at a time. The cut depends on the sizes
alone.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from funcnn.machine.memory import scratch
from funcnn.numerics import _fast
from funcnn.types import Array

# Measured in November 2026, on the machines that `funcnn._kernels.convolution.plans` names.
_SMALL = 1_000_000  # multiplications of a product that BLAS does in place
_OUTER = 1200  # and the largest result, where both matrices run along the summed axis
_RUN = 64  # columns that fill the widest registers four times
_SHALLOW = 128  # sums too short to pay for tiles
_DEPTH = 768  # longest sum in one product of long rows
_PARTIAL = 1 << 18  # numbers of partial sums that are kept before they are added up


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
    height, width = tile(rows, filters.shape[-1], count)
    if (height, width) == (rows, count):
        return _fast.matmul(filters, columns, out)
    left = _split(filters, -2, height)[..., None, :, :, :]  # (..., 1, M/m, m, K)
    whole = count // width * width
    for start, stop in ((0, whole), (whole, count)):
        if start < stop:
            step = min(width, stop - start)
            right = _split(columns[..., start:stop], -1, step).swapaxes(-3, -2)  # (..., N/n, K, n)
            cut = _split(_split(out[..., start:stop], -1, step), -3, height)  # (.., M/m, m, N/n, n)
            axes = range(cut.ndim - 4)
            result = cut.transpose(*axes, -2, -4, -3, -1)  # (..., N/n, M/m, m, n)
            _fast.matmul(left, right[..., None, :, :], result)
    return out


def summed_matmul(left: Array, turned: Array, dtype: np.dtype[Any]) -> Array:
    """``sum_p left[..., p] @ turned[..., p]`` for ``(..., P, M, D)`` and ``(..., P, D, N)``.

    Both run along `D`: it is the transpose of `turned` that is contiguous.
    """
    right = turned.swapaxes(-2, -1)
    groups = np.broadcast_shapes(left.shape[:-3], right.shape[:-3])
    places, rows, depth = left.shape[-3:]
    count, several = right.shape[-2], math.prod(groups)
    if depth <= _DEPTH and outer_tile(rows, depth, count) == (rows, count):
        if places == 1:
            return _fast.matmul(left[..., 0, :, :], turned[..., 0, :, :])
        if several * places * rows * count <= _PARTIAL:
            partial = scratch("partial", (*groups, places, rows, count), dtype)
            return _fast.sum(_fast.matmul(left, turned, partial), -3)
    total = np.zeros((*groups, rows, count), dtype)
    step = min(depth, _DEPTH)
    block = max(1, _PARTIAL // (several * rows * count * -(-depth // step)))
    whole = depth // step * step
    for start, stop in ((0, whole), (whole, depth)):
        if start == stop:
            continue
        step = min(step, stop - start)
        height, width = outer_tile(rows, step, count)
        for first in range(0, places, block):
            some = slice(first, first + block)
            a = _split(_split(left[..., some, :, start:stop], -1, step), -3, height)
            b = _split(_split(right[..., some, :, start:stop], -1, step), -3, width)
            a, b = _last(a, -2, -4, -3, -1), _last(b, -2, -4, -1, -3)  # (..., P, D/d, M/m, m, d)
            shape = (*groups, *a.shape[-5:-3], rows, count)
            partial = scratch("partial", shape, dtype)
            cut = _split(_split(partial, -1, width), -3, height)  # (..., M/m, m, N/n, n)
            out = _last(cut, -4, -2, -3, -1)
            _fast.matmul(a[..., :, None, :, :], b[..., None, :, :, :], out)
            total += _fast.sum(partial, (-4, -3))
    return total


def _last(array: Array, *order: int) -> Array:
    """A view with the last axes in another order."""
    return array.transpose(*range(array.ndim - len(order)), *(array.ndim + k for k in order))


def _split(array: Array, axis: int, size: int) -> Array:
    """A view with an axis cut in two: how many pieces, and the `size` of each."""
    axis %= array.ndim
    pieces = array.shape[axis] // size
    return array.reshape(*array.shape[:axis], pieces, size, *array.shape[axis + 1 :])


@lru_cache(maxsize=256)
def _divisors(number: int) -> tuple[int, ...]:
    return tuple(d for d in range(number, 0, -1) if number % d == 0)
