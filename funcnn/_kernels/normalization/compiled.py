"""Normalization compiled: groups that lie in one run of memory, each read while it is in the cache.

So lie channels of images, whose batch is last in memory, and the features of a time step. Groups of
several channels of one image do not: they lie side by side, a lane for each image.
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
_ROWS = 64  # gradients of one scale that are, and numbers of a lane, before their sum joins others
_LANES = 1024  # at most, so that their sums stay in the cache


def _order(x: Array, axes: tuple[int, ...], lanes: bool = False) -> tuple[int, ...] | None:
    """The axes by their strides, if `axes` are the last of them and memory has no gaps.

    Or if they are the last but one, the batch, whose examples are the lanes.
    """
    order = sorted(range(x.ndim), key=lambda k: (-x.strides[k], k))
    before = order[:-1] if lanes else order
    ok = x.size and set(before[len(before) - len(axes) :]) == {k % x.ndim for k in axes}
    if lanes:
        ok = ok and order[-1] == 0 and 1 < len(x) <= _LANES
    return tuple(order) if ok and x.transpose(order).flags.c_contiguous else None


def _back(flat: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    """A flat array in a shape, whose axes lie in memory in some order."""
    return flat.reshape([shape[k] for k in order]).transpose(np.argsort(order))


def deviations(x: Array, axes: tuple[int, ...], centred: bool, shard: Shard | None) -> Any:
    """`funcnn._kernels.normalization.deviations`."""
    runs = _order(x, axes)
    order = runs or _order(x, axes, lanes=True)
    if order is None or not centred or shard is not None:
        return NotImplemented
    kept = tuple(1 if k in axes else size for k, size in enumerate(x.shape))
    offset, (mean, variance) = np.empty(x.size, x.dtype), np.empty((2, math.prod(kept)), x.dtype)
    flat = x.transpose(order).reshape(-1)
    if runs:
        _deviations(flat, offset, mean, variance)
    else:
        _deviations_of_lanes(flat, offset, mean, variance, len(x))
    return _back(offset, x.shape, order), _back(mean, kept, order), _back(variance, kept, order)


def _way(
    like: Array, axes: tuple[int, ...], scale: Array
) -> tuple[tuple[int, ...], int, tuple[int, ...]] | None:
    """The order of axes, which kernels fit, and the full shape of a scale.

    Kernels are for one scale a group (0), for one scale for each number of any group (1), or for groups
    in lanes, all of which have the same scales (2).
    """
    order, inside, way = _order(like, axes), {k % like.ndim for k in axes}, 2
    alike = {0}  # where a scale has size 1
    if order is None:
        order = _order(like, axes, lanes=True)
    elif all(scale.shape[k] == 1 for k in inside):
        way, alike = 0, inside
    else:
        way, alike = 1, set(range(like.ndim)) - inside
    if order is None or any(scale.shape[k] != 1 for k in alike):
        return None
    return order, way, tuple(1 if k in alike else size for k, size in enumerate(like.shape))


def _laid(x: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(np.broadcast_to(x, shape).transpose(order)).reshape(-1)


def scaled(offset: Array, rstd: Array, scale: Array | None, bias: Array | None) -> Any:
    """`funcnn._kernels.normalization.scaled`."""
    if scale is None or (bias is not None and bias.shape != scale.shape):
        return NotImplemented
    found = _way(offset, tuple(k for k, size in enumerate(rstd.shape) if size == 1), scale)
    if found is None:
        return NotImplemented
    order, way, shape = found
    factor, out = _laid(scale, shape, order), np.empty(offset.size, offset.dtype)
    shift = np.zeros_like(factor) if bias is None else _laid(bias, shape, order)
    (_scaled_groups, _scaled_numbers, _scaled_lanes)[way](
        offset.transpose(order).reshape(-1), rstd.transpose(order).reshape(-1), factor, shift, out
    )
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
    """`funcnn._kernels.normalization.centre_gradients`, for scales as `_way` knows them."""
    found = _way(offset, axes, scale)
    if found is None or not centred or shard is not None:
        return NotImplemented
    order, way, shape = found
    factor = _laid(scale, shape, order)
    slope = np.ascontiguousarray(dout.transpose(order)).reshape(-1)
    dx, (weighted, total) = np.empty(dout.size, dout.dtype), np.zeros((2, factor.size), dout.dtype)
    (_gradients_of_groups, _gradients_of_numbers, _gradients_of_lanes)[way](
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


# Groups in lanes, which all have the same scales.


@kernel
def _deviations_of_lanes(x: In, offset: Out, mean: Out, variance: Out, lanes: int) -> None:
    size, total, part = len(x) // len(mean), np.empty(lanes), np.empty(lanes, x.dtype)
    for g in range(0, len(mean), lanes):
        middle, spread = mean[g : g + lanes], variance[g : g + lanes]
        total[:] = 0
        for start in range(0, size, _ROWS):
            part[:] = 0
            for i in range(start, min(start + _ROWS, size)):
                row = x[g * size + i * lanes : g * size + (i + 1) * lanes]
                for k in range(lanes):
                    part[k] += row[k]
            for k in range(lanes):
                total[k] += part[k]
        for k in range(lanes):
            middle[k] = total[k] / size
        total[:] = 0
        for start in range(0, size, _ROWS):
            part[:] = 0
            for i in range(start, min(start + _ROWS, size)):
                here = slice(g * size + i * lanes, g * size + (i + 1) * lanes)
                row, rest = x[here], offset[here]
                for k in range(lanes):
                    difference = row[k] - middle[k]
                    rest[k] = difference
                    part[k] += difference * difference
            for k in range(lanes):
                total[k] += part[k]
        for k in range(lanes):
            spread[k] = total[k] / size


@kernel
def _gradients_of_lanes(
    slope: In, offset: In, rstd: In, scale: In, dx: Out, weighted: Out, total: Out
) -> None:
    size, lanes = len(slope) // len(rstd), len(slope) // len(scale)
    sums, dots = np.empty(lanes), np.empty(lanes)
    some, others = np.empty(lanes, slope.dtype), np.empty(lanes, slope.dtype)
    for g in range(0, len(rstd), lanes):
        r, first = rstd[g : g + lanes], g // lanes * size
        sums[:] = 0
        dots[:] = 0
        for start in range(0, size, _ROWS):
            some[:] = 0
            others[:] = 0
            for i in range(start, min(start + _ROWS, size)):
                here = slice((first + i) * lanes, (first + i + 1) * lanes)
                d, rest, factor = slope[here], offset[here], scale[first + i]
                for k in range(lanes):
                    some[k] += factor * d[k]
                    others[k] += factor * d[k] * rest[k]
                product = plain = slope.dtype.type(0)
                for k in range(lanes):
                    product += d[k] * rest[k] * r[k]
                    plain += d[k]
                weighted[first + i], total[first + i] = product, plain
            for k in range(lanes):
                sums[k] += some[k]
                dots[k] += others[k]
        for k in range(lanes):
            some[k] = sums[k] * r[k] / size
            others[k] = dots[k] * r[k] * (r[k] / size * r[k])
        for i in range(size):
            here = slice((first + i) * lanes, (first + i + 1) * lanes)
            d, rest, out, factor = slope[here], offset[here], dx[here], scale[first + i]
            for k in range(lanes):
                out[k] = factor * r[k] * d[k] - others[k] * rest[k] - some[k]


@kernel
def _scaled_lanes(offset: In, rstd: In, scale: In, bias: In, out: Out) -> None:
    size, lanes = len(offset) // len(rstd), len(offset) // len(scale)
    for p in range(len(scale)):
        here = slice(p * lanes, (p + 1) * lanes)
        rest, values, r = offset[here], out[here], rstd[p // size * lanes : (p // size + 1) * lanes]
        for k in range(lanes):
            values[k] = rest[k] * r[k] * scale[p] + bias[p]
