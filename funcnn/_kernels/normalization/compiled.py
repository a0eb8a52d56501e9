"""Normalization compiled: groups that lie in one run of memory, each read while it is in the cache.

So lie channels of images, whose batch is last in memory, and the features of a time step. Groups of
several channels of one image do not: they lie side by side, a lane for each image. So do the columns of
a batch of rows.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn import numerics
from funcnn._kernels.normalization import FLAT, Centred, lanes as beside, smallest
from funcnn._kernels.normalization.lanes import ROWS
from funcnn._kernels.tiles import RUN, sum_of_run
from funcnn.machine.lockstep import Shard
from funcnn.machine.memory import fresh
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import In, Out, OutBytes, inlined, kernel
from funcnn.types import Array

_MANY = 8  # groups in lanes of which each is worth a thread
# Measured in November 2026 on an AMD EPYC (Zen 3, two cores, AVX2, 512 KiB of second-level cache).
_FEW = 1 << 14  # numbers in lanes that are done sooner in one call, on one thread
_LANES = 4096  # at most, so that their sums stay in the cache
_WIDE = 512  # numbers of a row, if lanes are few: of places that have the same scale

Shape = tuple[int, ...]


class _Layout(NamedTuple):
    """How groups lie in memory; shapes are in the order of axes there, and `back` is the way back.

    Kernels are for one scale a group (0), for one scale for each number of any group (1), or for groups
    in lanes, all of which have the same scales (2), or each of which has one (3). A row of lanes has
    several places with the same scale, and some rows are a chunk.
    """

    order: Shape
    back: Shape
    way: int
    x: Shape
    groups: Shape
    scales: Shape  # of what has a scale of its own: groups, numbers, rows, and groups again
    numbers: int  # of a group
    lanes: int
    wide: int  # numbers of a row
    chunks: int  # of a group

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Of lanes, as kernels want them; a group has so many rows."""
        return self.lanes, self.wide, self.numbers * self.lanes // self.wide


@lru_cache(maxsize=1024)
def _layout(shape: Shape, strides: Shape, axes: Shape, scale: Shape) -> _Layout | None:
    """Where kernels are for groups of all numbers along some axes, with a scale of some shape."""
    every, inside = set(range(len(shape))), {k % len(shape) for k in axes}
    order, lanes = _order(shape, strides, inside, 0), 1
    way, alike = (0, inside) if all(scale[k] == 1 for k in inside) else (1, every - inside)
    if order is None:
        order = _order(shape, strides, inside, 1)
        if order is None or not 1 < (lanes := shape[order[-1]]) <= _LANES:
            return None
        last = {order[-1]}
        way, alike = (2, last) if scale[order[-1]] == 1 else (3, every - last)
    if any(scale[k] != 1 for k in alike):
        return None
    whole, count = tuple(shape[k] for k in order), math.prod(shape[k] for k in inside)
    groups = tuple(1 if k in inside else shape[k] for k in order)
    scales = tuple(1 if k in alike else shape[k] for k in order)
    wide = lanes
    if way > 1:
        outer = len(order) - 1
        while outer and groups[outer - 1] == 1 and (way == 3 or scale[order[outer - 1]] == 1):
            outer -= 1
        places = math.prod(whole[outer:-1])
        wide *= math.gcd(places, _WIDE // lanes or 1)
        rows = *whole[:outer], places * lanes // wide, *(1,) * (len(order) - 1 - outer)
        scales = rows if way == 2 else groups
    back = tuple(map(order.index, sorted(every)))
    chunks = -(-(count * lanes // wide) // ROWS)
    return _Layout(order, back, way, whole, groups, scales, count, lanes, wide, chunks)


def _order(shape: Shape, strides: Shape, inside: set[int], last: int) -> Shape | None:
    """The axes by their strides, if all but so many of the last are averaged over, and no others.

    What a copy changes does not count: gaps, signs of strides, and strides of axes of size 1.
    """
    order = sorted(range(len(shape)), key=lambda k: (shape[k] > 1, -abs(strides[k]), k))
    inside = {k for k in inside if shape[k] != 1}
    before = order[: len(order) - last]
    ok = 0 not in shape and set(before[len(before) - len(inside) :]) == inside
    return tuple(order) if ok else None


def _flat(x: Array, at: _Layout) -> Array:
    return np.ascontiguousarray(x.transpose(at.order)).reshape(-1)


def _back(flat: Array, shape: Shape, at: _Layout) -> Array:
    return flat.reshape(shape).transpose(at.back)


def _laid(x: Array, at: _Layout) -> Array:
    """One number for each that has a scale of its own."""
    out = np.empty(at.scales, x.dtype)
    out[...] = x.transpose(at.order)
    return out.reshape(-1)


@lru_cache(maxsize=64)
def _filled(size: int, number: int, dtype: np.dtype[Any]) -> Array:
    out = np.full(size, number, dtype)
    out.flags.writeable = False
    return out


def deviations(x: Array, axes: tuple[int, ...], centred: bool, shard: Shard | None) -> Any:
    """`funcnn._kernels.normalization.deviations`."""
    at = _layout(x.shape, x.strides, axes, (1,) * x.ndim)
    if at is None or not (centred or at.way == 0) or shard is not None:
        return NotImplemented
    flat, (mean, variance) = _flat(x, at), np.empty((2, x.size // at.numbers), x.dtype)
    if not centred:
        _squares(flat, variance, 0, len(variance))
        return x, np.zeros((1,) * x.ndim, x.dtype), _back(variance, at.groups, at)
    offset = fresh((x.size,), x.dtype)
    if at.way == 0:
        _deviations(flat, offset, mean, variance, 0, len(mean))
    else:
        groups, joint = len(mean) // at.lanes, (at.lanes, at.chunks, at.numbers, 0, len(mean))
        chunks = groups * at.chunks
        totals = np.empty(chunks * at.lanes)
        if groups >= _MANY or flat.size <= _FEW:
            sizes = *at.sizes, at.chunks, at.numbers
            beside.deviations_of_groups(flat, offset, mean, variance, totals, *sizes, 0, groups)
        else:
            beside.shared_sums(flat, totals, *at.sizes, 0, chunks)
            beside.joined(mean, totals, *joint)
            beside.shared_squares(flat, mean, offset, totals, *at.sizes, 0, chunks)
            beside.joined(variance, totals, *joint)
    return _back(offset, at.x, at), _back(mean, at.groups, at), _back(variance, at.groups, at)


def at_once(
    x: Array, axes: tuple[int, ...], epsilon: float, scale: Array | None, bias: Array | None
) -> Any:
    """`funcnn._kernels.normalization.at_once`, of groups that have one scale each."""
    factor = _filled(1, 1, x.dtype).reshape((1,) * x.ndim) if scale is None else scale
    at = _layout(x.shape, x.strides, axes, factor.shape)
    if at is None or at.way or (bias is not None and bias.shape != factor.shape):
        return NotImplemented
    offset, out = (fresh((x.size,), x.dtype) for _ in range(2))
    statistics = np.empty((3, x.size // at.numbers), x.dtype)
    shift, odd = np.zeros(1, x.dtype) if bias is None else _laid(bias, at), np.zeros(1, np.uint8)
    groups = statistics.shape[1]
    _normalize(
        _flat(x, at), offset, out, *statistics, odd, _laid(factor, at), shift, epsilon,
        smallest(x.dtype, epsilon), FLAT, 0, groups,
    )  # fmt: skip
    if odd[0]:
        return None
    mean, variance, rstd = (_back(each, at.groups, at) for each in statistics)
    return Centred(_back(offset, at.x, at), rstd, mean, variance, None), _back(out, at.x, at)


def plain_roots(mean: Array, variance: Array, epsilon: float) -> Any:
    """`funcnn._kernels.normalization.plain_roots`."""
    out, odd = np.empty(variance.shape, variance.dtype), np.zeros(1, np.uint8)
    least = smallest(variance.dtype, epsilon)
    _roots(mean.reshape(-1), variance.reshape(-1), out.reshape(-1), odd, epsilon, least, FLAT)
    return None if odd[0] else out


def scaled(offset: Array, rstd: Array, scale: Array | None, bias: Array | None) -> Any:
    """`funcnn._kernels.normalization.scaled`."""
    if scale is None:
        scale = _filled(1, 1, offset.dtype).reshape((1,) * offset.ndim)
    axes = tuple(k for k, size in enumerate(rstd.shape) if size == 1)
    at = _layout(offset.shape, offset.strides, axes, scale.shape)
    if at is None or (bias is not None and bias.shape != scale.shape):
        return NotImplemented
    out, roots, dtype = fresh((offset.size,), offset.dtype), _flat(rstd, at), offset.dtype
    if at.way == 3:
        factor = scale.ravel()
        shift = _filled(at.lanes, 0, dtype) if bias is None else bias.ravel()
    else:
        factor = _laid(scale, at)
        shift = _filled(len(factor), 0, dtype) if bias is None else _laid(bias, at)
    if at.way < 2:
        run = (_scaled_groups, _scaled_numbers)[at.way]
        run(_flat(offset, at), roots, factor, shift, out, 0, len(roots))
    else:
        rows = len(out) // at.wide
        others = _filled(at.lanes if at.way == 2 else rows, 1, dtype)
        none = _filled(len(others), 0, dtype)
        each = (others, none, factor, shift) if at.way == 2 else (factor, shift, others, none)
        beside.scaled_lanes(_flat(offset, at), roots, *each, out, *at.sizes, 0, rows)
    return _back(out, at.x, at)


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
    """`funcnn._kernels.normalization.centre_gradients`, for scales as `_Layout` knows them."""
    at = _layout(offset.shape, offset.strides, axes, scale.shape)
    if at is None or shard is not None:
        return NotImplemented
    given = _flat(dout, at), _flat(offset, at), _flat(rstd, at)
    dx, parts, groups = fresh((dout.size,), dout.dtype), 1, len(given[2])
    if at.way > 1:
        sums = _gradients_of_lanes(at, *given, scale, dx, int(centred))
    else:
        factor = _laid(scale, at)
        parts = -(-groups // ROWS) if at.way else 1
        sums = np.empty((2, parts * len(factor)), dout.dtype)
        run = (_gradients_of_groups, _gradients_of_numbers)[at.way]
        run(*given, factor, dx, *sums, int(centred), 0, parts if at.way else groups)
    sums = sums.reshape(2, parts, *at.scales)
    summed = [k + 2 for k, axis in enumerate(at.order) if scale.shape[axis] == 1 < at.scales[k]]
    if parts > 1 or summed:
        sums = numerics.sum(sums, (1, *summed), keepdims=True)
    dscale, dbias = (each[0].transpose(at.back) for each in sums)
    slopes = _back(dx, at.x, at)
    if shrink is not None:  # whichever way a group takes, it is the same whatever others hold
        slopes *= shrink
    return slopes, dscale, dbias


def _gradients_of_lanes(
    at: _Layout, slope: Array, offset: Array, rstd: Array, scale: Array, dx: Array, centred: int
) -> Array:
    """Write ``dx``; and of ``dscale`` and ``dbias`` what comes from each row, or each group."""
    rows, groups, dtype = len(dx) // at.wide, len(rstd) // at.lanes, dx.dtype
    of_rows = _laid(scale, at) if at.way == 2 else _filled(rows, 1, dtype)
    of_lanes = _filled(at.lanes, 1, dtype) if at.way == 2 else scale.ravel()
    chunks = groups * at.chunks
    totals, by_row = np.empty((2, chunks * at.lanes)), np.empty((2, rows), dtype)
    by_lane, given = np.empty((5, len(rstd)), dtype), (slope, offset, rstd)
    joint = at.chunks, at.numbers, centred
    if groups >= _MANY or dx.size <= _FEW:
        beside.gradients_of_groups(
            *given, of_rows, of_lanes, *totals, *by_row, *by_lane, dx, *at.sizes, *joint, 0, groups
        )
    else:
        beside.shared_slope_sums(*given, of_rows, *totals, *by_row, *at.sizes, 0, chunks)
        beside.joined_slopes(rstd, of_lanes, *totals, *by_lane, *joint, 0, len(rstd))
        slopes, shares, middle = by_lane[:3]
        beside.shared_slopes(slope, offset, slopes, of_rows, shares, middle, dx, *at.sizes, 0, rows)
    return by_row if at.way == 2 else by_lane[3:]


@inlined
def _dot(a: In, b: In) -> float:
    """In float64, of sums of a few products."""
    total = 0.0
    for start in range(0, len(a), RUN):
        part, left, right = a.dtype.type(0), a[start : start + RUN], b[start : start + RUN]
        for i in range(len(left)):
            part += left[i] * right[i]
        total += part
    return total


@inlined
def _centre(x: In, offset: Out, mean: Out, variance: Out) -> None:
    """One group."""
    mean[0] = sum_of_run(x) / len(x)
    middle = mean[0]
    for i in range(len(x)):
        offset[i] = x[i] - middle
    variance[0] = _dot(offset, offset) / len(x)


@kernel
def _roots(
    mean: In, variance: In, out: Out, odd: OutBytes, epsilon: float, least: float, flat: float
) -> None:
    one, strange = variance.dtype.type(1), 0
    for g in range(len(variance)):
        v = variance[g]
        out[g] = one / np.sqrt(v + epsilon)
        strange += not (least <= v < np.inf)
    for g in range(len(mean)):  # a single 0 if nothing was centred
        strange += np.sqrt(variance[g]) < flat * abs(mean[g])
    odd[0] = strange > 0


@divided
def _deviations(x: In, offset: Out, mean: Out, variance: Out, low: int, high: int) -> None:
    size = len(x) // len(mean)
    for g in range(low, high):
        here = slice(g * size, (g + 1) * size)
        _centre(x[here], offset[here], mean[g : g + 1], variance[g : g + 1])


@divided
def _normalize(
    x: In, offset: Out, out: Out, mean: Out, variance: Out, rstd: Out, odd: OutBytes, scale: In,
    bias: In, epsilon: float, least: float, flat: float, low: int, high: int,
) -> None:  # fmt: skip
    """Each group while it is in the cache."""
    size, one = len(x) // len(mean), x.dtype.type(1)
    for g in range(low, high):
        here = slice(g * size, (g + 1) * size)
        rest, values = offset[here], out[here]
        _centre(x[here], rest, mean[g : g + 1], variance[g : g + 1])
        v = variance[g]
        rstd[g] = one / np.sqrt(v + epsilon)
        if not (least <= v < np.inf) or np.sqrt(v) < flat * abs(mean[g]):
            odd[0] = 1
        factor, shift = rstd[g] * scale[g % len(scale)], bias[g % len(bias)]
        for i in range(size):
            values[i] = rest[i] * factor + shift


@divided
def _squares(x: In, variance: Out, low: int, high: int) -> None:
    size = len(x) // len(variance)
    for g in range(low, high):
        row = x[g * size : (g + 1) * size]
        variance[g] = _dot(row, row) / size


@divided
def _gradients_of_groups(
    slope: In, offset: In, rstd: In, scale: In, dx: Out, weighted: Out, total: Out, centred: int,
    low: int, high: int,
) -> None:  # fmt: skip
    size = len(slope) // len(rstd)
    for g in range(low, high):
        here = slice(g * size, (g + 1) * size)
        d, rest, out, r = slope[here], offset[here], dx[here], rstd[g]
        weighted[g], total[g] = _dot(d, rest) * r, sum_of_run(d)
        factor = scale[g] * r
        share = weighted[g] * scale[g] * (r / size * r)
        middle = total[g] * factor / size if centred else 0.0
        a, b, c = d.dtype.type(factor), d.dtype.type(share), d.dtype.type(middle)
        for i in range(size):
            out[i] = a * d[i] - b * rest[i] - c


@divided
def _gradients_of_numbers(
    slope: In, offset: In, rstd: In, scale: In, dx: Out, weighted: Out, total: Out, centred: int,
    low: int, high: int,
) -> None:  # fmt: skip
    """Of some groups at a time: the gradients of scale and bias, which are sums, are parts of them."""
    size = len(scale)
    products = np.empty(size, scale.dtype)
    for part in range(low, high):
        here = slice(part * size, (part + 1) * size)
        some, sums = weighted[here], total[here]
        some[:] = 0
        sums[:] = 0
        for g in range(part * ROWS, min((part + 1) * ROWS, len(rstd))):
            here = slice(g * size, (g + 1) * size)
            d, rest, out, r = slope[here], offset[here], dx[here], rstd[g]
            for i in range(size):
                products[i] = d[i] * scale[i]
                some[i] += d[i] * rest[i] * r
                sums[i] += d[i]
            a = d.dtype.type(sum_of_run(products) * r / size if centred else 0.0)
            b = d.dtype.type(_dot(products, rest) * r * (r / size * r))
            for i in range(size):
                out[i] = r * products[i] - b * rest[i] - a


@divided
def _scaled_groups(offset: In, rstd: In, scale: In, bias: In, out: Out, low: int, high: int) -> None:
    size = len(offset) // len(rstd)
    for g in range(low, high):
        factor, shift = rstd[g] * scale[g], bias[g]
        rest, values = offset[g * size : (g + 1) * size], out[g * size : (g + 1) * size]
        for i in range(size):
            values[i] = rest[i] * factor + shift


@divided
def _scaled_numbers(offset: In, rstd: In, scale: In, bias: In, out: Out, low: int, high: int) -> None:
    size = len(scale)
    for g in range(low, high):
        rest, values, r = offset[g * size : (g + 1) * size], out[g * size : (g + 1) * size], rstd[g]
        for i in range(size):
            values[i] = rest[i] * r * scale[i] + bias[i]
