"""Normalization compiled: groups that lie in one run of memory, each read while it is in the cache.

So lie channels of images, whose batch is last in memory, and the features of a time step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn.machine.lockstep import Shard
from funcnn.numerics.jit import In, Out, inlined, kernel
from funcnn.types import Array

# How exact sums are, and not how fast.
_ROW = 512  # numbers that are added up in their own dtype, before their sum is in float64
_ROWS = 64  # gradients of one scale that are, before their sum is added to others


def _order(x: Array, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes by their strides, if `axes` are the last of them and memory has no gaps."""
    order = sorted(range(x.ndim), key=lambda k: (-x.strides[k], k))
    inner = order[x.ndim - len(axes) :]
    ok = x.size and set(inner) == {k % x.ndim for k in axes} and x.transpose(order).flags.c_contiguous
    return tuple(order) if ok else None


def _back(flat: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    """A flat array in a shape, whose axes lie in memory in some order."""
    return flat.reshape([shape[k] for k in order]).transpose(np.argsort(order))


def deviations(x: Array, axes: tuple[int, ...], centred: bool, shard: Shard | None) -> Any:
    """`funcnn._kernels.normalization.deviations`."""
    order = _order(x, axes)
    if order is None or not centred or shard is not None:
        return NotImplemented
    kept = tuple(1 if k in axes else size for k, size in enumerate(x.shape))
    offset, (mean, variance) = np.empty(x.size, x.dtype), np.empty((2, math.prod(kept)), x.dtype)
    _deviations(x.transpose(order).reshape(-1), offset, mean, variance)
    return _back(offset, x.shape, order), _back(mean, kept, order), _back(variance, kept, order)


def _shared(
    scale: Array, shape: tuple[int, ...], axes: set[int]
) -> tuple[bool, tuple[int, ...]] | None:
    """Whether a scale has one number for each group, or for each number of any, and its full shape."""
    of_groups = all(scale.shape[k] == 1 for k in axes)
    if not of_groups and any(scale.shape[k] != 1 for k in range(len(shape)) if k not in axes):
        return None
    full = tuple(size if (k in axes) != of_groups else 1 for k, size in enumerate(shape))
    return of_groups, full


def _laid(x: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(np.broadcast_to(x, shape).transpose(order)).reshape(-1)


def scaled(offset: Array, rstd: Array, scale: Array | None, bias: Array | None) -> Any:
    """`funcnn._kernels.normalization.scaled`."""
    axes = {k for k, size in enumerate(rstd.shape) if size == 1}
    order = _order(offset, tuple(axes))
    if order is None or scale is None or (bias is not None and bias.shape != scale.shape):
        return NotImplemented
    shared = _shared(scale, offset.shape, axes)
    if shared is None:
        return NotImplemented
    of_groups, shape = shared
    factor = _laid(scale, shape, order)
    shift = np.zeros_like(factor) if bias is None else _laid(bias, shape, order)
    out = np.empty(offset.size, offset.dtype)
    run = _scaled_groups if of_groups else _scaled_numbers
    run(offset.transpose(order).reshape(-1), rstd.transpose(order).reshape(-1), factor, shift, out)
    return _back(out, offset.shape, order)


def centre_gradients(
    dout: Array,
    offset: Array,
    rstd: Array,
    scale: Array,
    shrink: Array | None,
    axes: tuple[int, ...],
    centred: bool = True,
    shard: Shard | None = None,
) -> Any:
    """`funcnn._kernels.normalization.centre_gradients`, for one scale a group, or for all groups."""
    order, shared = _order(offset, axes), _shared(scale, offset.shape, {k % dout.ndim for k in axes})
    if order is None or shared is None or not centred or shard is not None:
        return NotImplemented
    of_groups, shape = shared
    factor = _laid(scale, shape, order)
    slope = np.ascontiguousarray(dout.transpose(order)).reshape(-1)
    dx, (weighted, total) = np.empty(dout.size, dout.dtype), np.zeros((2, factor.size), dout.dtype)
    run = _gradients_of_groups if of_groups else _gradients_of_numbers
    run(
        slope, offset.transpose(order).reshape(-1), rstd.transpose(order).reshape(-1), factor,
        dx, weighted, total,
    )  # fmt: skip
    others = tuple(k for k, size in enumerate(scale.shape) if size == 1)
    dscale, dbias = (
        numerics.sum(_back(each, shape, order), others, keepdims=True) for each in (weighted, total)
    )
    slopes = _back(dx, dout.shape, order)
    if shrink is not None:  # whichever way a group takes, it is the same whatever others hold
        slopes *= shrink
    return slopes, dscale, dbias


@inlined
def _sum(row: In) -> float:
    """In float64, of sums of a few."""
    total = 0.0
    for start in range(0, len(row), _ROW):
        part, some = row.dtype.type(0), row[start : start + _ROW]
        for i in range(len(some)):
            part += some[i]
        total += part
    return total


@inlined
def _dot(a: In, b: In) -> float:
    """In float64, of sums of a few products."""
    total = 0.0
    for start in range(0, len(a), _ROW):
        part, left, right = a.dtype.type(0), a[start : start + _ROW], b[start : start + _ROW]
        for i in range(len(left)):
            part += left[i] * right[i]
        total += part
    return total


@kernel
def _deviations(x: In, offset: Out, mean: Out, variance: Out) -> None:
    size = len(x) // len(mean)
    for g in range(len(mean)):
        row, rest = x[g * size : (g + 1) * size], offset[g * size : (g + 1) * size]
        mean[g] = _sum(row) / size
        middle = mean[g]
        for i in range(size):
            rest[i] = row[i] - middle
        variance[g] = _dot(rest, rest) / size


@kernel
def _gradients_of_groups(
    slope: In, offset: In, rstd: In, scale: In, dx: Out, weighted: Out, total: Out
) -> None:
    size = len(slope) // len(rstd)
    for g in range(len(rstd)):
        here = slice(g * size, (g + 1) * size)
        d, rest, out, r = slope[here], offset[here], dx[here], rstd[g]
        weighted[g], total[g] = _dot(d, rest) * r, _sum(d)
        factor = scale[g] * r
        share, middle = weighted[g] * scale[g] * (r / size * r), total[g] * factor / size
        a, b, c = d.dtype.type(factor), d.dtype.type(share), d.dtype.type(middle)
        for i in range(size):
            out[i] = a * d[i] - b * rest[i] - c


@kernel
def _gradients_of_numbers(
    slope: In, offset: In, rstd: In, scale: In, dx: Out, weighted: Out, total: Out
) -> None:
    size = len(scale)
    parts, products = np.zeros(2 * size, scale.dtype), np.empty(size, scale.dtype)
    some, sums = parts[:size], parts[size:]
    for g in range(len(rstd)):
        here = slice(g * size, (g + 1) * size)
        d, rest, out, r = slope[here], offset[here], dx[here], rstd[g]
        for i in range(size):
            products[i] = d[i] * scale[i]
            some[i] += d[i] * rest[i] * r
            sums[i] += d[i]
        a = d.dtype.type(_sum(products) * r / size)
        b = d.dtype.type(_dot(products, rest) * r * (r / size * r))
        for i in range(size):
            out[i] = r * products[i] - b * rest[i] - a
        if (g + 1) % _ROWS == 0 or g + 1 == len(rstd):
            for i in range(size):
                weighted[i] += some[i]
                total[i] += sums[i]
            parts[:] = 0


@kernel
def _scaled_groups(offset: In, rstd: In, scale: In, bias: In, out: Out) -> None:
    size = len(offset) // len(rstd)
    for g in range(len(rstd)):
        factor, shift = rstd[g] * scale[g], bias[g]
        rest, values = offset[g * size : (g + 1) * size], out[g * size : (g + 1) * size]
        for i in range(size):
            values[i] = rest[i] * factor + shift


@kernel
def _scaled_numbers(offset: In, rstd: In, scale: In, bias: In, out: Out) -> None:
    size = len(scale)
    for g in range(len(rstd)):
        rest, values, r = offset[g * size : (g + 1) * size], out[g * size : (g + 1) * size], rstd[g]
        for i in range(size):
            values[i] = rest[i] * r * scale[i] + bias[i]
