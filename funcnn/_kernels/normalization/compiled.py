"""Normalization compiled: groups that lie in one run of memory, each read while it is in the cache.

So lie channels of images, whose batch is last in memory, and the features of a time step. Groups of
several channels of one image do not: they lie side by side, a lane for each image.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import takewhile
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn.machine.lockstep import Shard
from funcnn.machine.memory import fresh
from funcnn.numerics.jit import In, Out, Wide, inlined, kernel
from funcnn.types import Array

# How exact sums are, and not how fast.
_ROW = 512  # numbers that are added up in their own dtype, before their sum is in float64
_ROWS = 64  # gradients of one scale that are, and numbers of a lane, before their sum joins others
_LANES = 1024  # at most, so that their sums stay in the cache
_WIDE = 512  # numbers of a row, if lanes are few: of places that have the same scale


def _order(x: Array, axes: tuple[int, ...], lanes: bool = False) -> tuple[int, ...] | None:
    """The axes by their strides, if `axes` are the last of them, whatever lies between numbers.

    Or if they are the last but one, the batch, whose examples are the lanes.
    """
    return _found_order(x.shape, x.strides, axes, lanes)


@lru_cache(maxsize=1024)
def _found_order(
    shape: tuple[int, ...], strides: tuple[int, ...], axes: tuple[int, ...], lanes: bool
) -> tuple[int, ...] | None:
    # What a copy changes does not count: gaps, signs of strides, and strides of axes of size 1.
    order = sorted(range(len(shape)), key=lambda k: (shape[k] > 1, -abs(strides[k]), k))
    inside = {k % len(shape) for k in axes if shape[k % len(shape)] != 1}
    before = order[:-1] if lanes else order
    ok = 0 not in shape and set(before[len(before) - len(inside) :]) == inside
    ok &= not lanes or (order[-1] == 0 and 1 < shape[0] <= _LANES)
    return tuple(order) if ok else None


def _flat(x: Array, order: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(x.transpose(order)).reshape(-1)


def _back(flat: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    """A flat array in a shape, whose axes lie in memory in some order."""
    places = sorted(range(len(order)), key=order.__getitem__)
    return flat.reshape([shape[k] for k in order]).transpose(places)


def deviations(x: Array, axes: tuple[int, ...], centred: bool, shard: Shard | None) -> Any:
    """`funcnn._kernels.normalization.deviations`."""
    runs = _order(x, axes)
    order = runs or _order(x, axes, lanes=True)
    if order is None or not (centred or runs) or shard is not None:
        return NotImplemented
    kept = tuple(1 if k in axes else size for k, size in enumerate(x.shape))
    offset, (mean, variance) = np.empty(x.size, x.dtype), np.empty((2, math.prod(kept)), x.dtype)
    flat = _flat(x, order)
    if not centred:
        _squares(flat, variance)
        return x, np.zeros((1,) * x.ndim, x.dtype), _back(variance, kept, order)
    if runs:
        _deviations(flat, offset, mean, variance)
    else:
        alike = math.prod(x.shape[k] for k in axes)
        _deviations_of_lanes(flat, offset, mean, variance, len(x), _wide(len(x), alike))
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


def _wide(lanes: int, alike: int) -> int:
    """How long rows are of lanes with so many places alike."""
    return lanes * math.gcd(alike, _WIDE // lanes or 1)


def _wide_of(x: Array, scale: Array, rstd: Array, order: tuple[int, ...]) -> tuple[int, ...]:
    """The lanes of groups in lanes, and how long rows are of places of a group with the same scale."""
    others = takewhile(lambda k: scale.shape[k] == rstd.shape[k] == 1, order[-2::-1])
    return len(x), _wide(len(x), math.prod(x.shape[k] for k in others))


def _laid(x: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    out = np.empty([shape[k] for k in order], x.dtype)
    out[...] = x.transpose(order)
    return out.reshape(-1)


def scaled(offset: Array, rstd: Array, scale: Array | None, bias: Array | None) -> Any:
    """`funcnn._kernels.normalization.scaled`."""
    if scale is None or (bias is not None and bias.shape != scale.shape):
        return NotImplemented
    found = _way(offset, tuple(k for k, size in enumerate(rstd.shape) if size == 1), scale)
    if found is None:
        return NotImplemented
    order, way, shape = found
    factor, out = _laid(scale, shape, order), fresh((offset.size,), offset.dtype)
    lanes = _wide_of(offset, scale, rstd, order) if way == 2 else ()
    shift = np.zeros_like(factor) if bias is None else _laid(bias, shape, order)
    (_scaled_groups, _scaled_numbers, _scaled_lanes)[way](
        _flat(offset, order), _flat(rstd, order), factor, shift, out,
        *lanes,
    )  # fmt: skip
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
    if found is None or shard is not None:
        return NotImplemented
    order, way, shape = found
    factor = _laid(scale, shape, order)
    slope = _flat(dout, order)
    dx, (weighted, total) = fresh((dout.size,), dout.dtype), np.zeros((2, factor.size), dout.dtype)
    (_gradients_of_groups, _gradients_of_numbers, _gradients_of_lanes)[way](
        slope, _flat(offset, order), _flat(rstd, order), factor,
        dx, weighted, total, int(centred), *(_wide_of(offset, scale, rstd, order) if way == 2 else ()),
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
def _squares(x: In, variance: Out) -> None:
    size = len(x) // len(variance)
    for g in range(len(variance)):
        row = x[g * size : (g + 1) * size]
        variance[g] = _dot(row, row) / size


@kernel
def _gradients_of_groups(
    slope: In, offset: In, rstd: In, scale: In, dx: Out, weighted: Out, total: Out, centred: int
) -> None:
    size = len(slope) // len(rstd)
    for g in range(len(rstd)):
        here = slice(g * size, (g + 1) * size)
        d, rest, out, r = slope[here], offset[here], dx[here], rstd[g]
        weighted[g], total[g] = _dot(d, rest) * r, _sum(d)
        factor = scale[g] * r
        share = weighted[g] * scale[g] * (r / size * r)
        middle = total[g] * factor / size if centred else 0.0
        a, b, c = d.dtype.type(factor), d.dtype.type(share), d.dtype.type(middle)
        for i in range(size):
            out[i] = a * d[i] - b * rest[i] - c


@kernel
def _gradients_of_numbers(
    slope: In, offset: In, rstd: In, scale: In, dx: Out, weighted: Out, total: Out, centred: int
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
        a = d.dtype.type(_sum(products) * r / size if centred else 0.0)
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


@inlined
def _fold(row: In, total: Wide) -> None:
    """To the sums of lanes."""
    for start in range(0, len(row), len(total)):
        part = row[start : start + len(total)]
        for k in range(len(total)):
            total[k] += part[k]


@inlined
def _spread(lanes: In, row: Out) -> None:
    for start in range(0, len(row), len(lanes)):
        part = row[start : start + len(lanes)]
        for k in range(len(lanes)):
            part[k] = lanes[k]


@kernel
def _deviations_of_lanes(x: In, offset: Out, mean: Out, variance: Out, lanes: int, wide: int) -> None:
    size, total = len(x) // len(mean) * lanes // wide, np.empty(lanes)
    part, centre = np.empty(wide, x.dtype), np.empty(wide, x.dtype)
    for g in range(0, len(mean), lanes):
        middle, spread, first = mean[g : g + lanes], variance[g : g + lanes], g // lanes * size
        total[:] = 0
        for start in range(0, size, _ROWS):
            part[:] = 0
            for i in range(first + start, first + min(start + _ROWS, size)):
                row = x[i * wide : (i + 1) * wide]
                for k in range(wide):
                    part[k] += row[k]
            _fold(part, total)
        for k in range(lanes):
            middle[k] = total[k] / (size * wide // lanes)
        _spread(middle, centre)
        total[:] = 0
        for start in range(0, size, _ROWS):
            part[:] = 0
            for i in range(first + start, first + min(start + _ROWS, size)):
                row, rest = x[i * wide : (i + 1) * wide], offset[i * wide : (i + 1) * wide]
                for k in range(wide):
                    difference = row[k] - centre[k]
                    rest[k] = difference
                    part[k] += difference * difference
            _fold(part, total)
        for k in range(lanes):
            spread[k] = total[k] / (size * wide // lanes)


@kernel
def _gradients_of_lanes(
    slope: In, offset: In, rstd: In, scale: In, dx: Out, weighted: Out, total: Out,
    centred: int, lanes: int, wide: int,
) -> None:  # fmt: skip
    count, places = len(slope) // len(rstd), wide // lanes
    size, sums, dots = count // places, np.empty(lanes), np.empty(lanes)
    some, others = np.empty(wide, slope.dtype), np.empty(wide, slope.dtype)
    roots = np.empty(wide, slope.dtype)
    for g in range(0, len(rstd), lanes):
        r, first = rstd[g : g + lanes], g // lanes * size
        _spread(r, roots)
        sums[:] = 0
        dots[:] = 0
        for start in range(0, size, _ROWS):
            some[:] = 0
            others[:] = 0
            for i in range(first + start, first + min(start + _ROWS, size)):
                here, factor = slice(i * wide, (i + 1) * wide), scale[i * places]
                d, rest = slope[here], offset[here]
                product = plain = slope.dtype.type(0)
                for k in range(wide):
                    some[k] += factor * d[k]
                    others[k] += factor * d[k] * rest[k]
                    product += d[k] * rest[k] * roots[k]
                    plain += d[k]
                weighted[i * places], total[i * places] = product, plain
            _fold(some, sums)
            _fold(others, dots)
        for k in range(lanes):
            some[k] = sums[k] * r[k] / count if centred else 0.0
            others[k] = dots[k] * r[k] * (r[k] / count * r[k])
        _spread(some[:lanes], some[lanes:])
        _spread(others[:lanes], others[lanes:])
        for i in range(first, first + size):
            here, factor = slice(i * wide, (i + 1) * wide), scale[i * places]
            d, rest, out = slope[here], offset[here], dx[here]
            for k in range(wide):
                out[k] = factor * roots[k] * d[k] - others[k] * rest[k] - some[k]


@kernel
def _scaled_lanes(offset: In, rstd: In, scale: In, bias: In, out: Out, lanes: int, wide: int) -> None:
    places, roots = wide // lanes, np.empty(wide, offset.dtype)
    size = len(offset) // len(rstd) // places
    for i in range(len(offset) // wide):
        if i % size == 0:
            _spread(rstd[i // size * lanes : (i // size + 1) * lanes], roots)
        rest, values = offset[i * wide : (i + 1) * wide], out[i * wide : (i + 1) * wide]
        factor, shift = scale[i * places], bias[i * places]
        for k in range(wide):
            values[k] = rest[k] * roots[k] * factor + shift
