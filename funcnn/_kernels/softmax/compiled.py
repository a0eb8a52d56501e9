"""Softmax compiled: a row at a time, while it is in the cache. The readable twins are beside this."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn._kernels.scalars import exp, larger, log1p_from_0
from funcnn._kernels.softmax import SURE
from funcnn.numerics.handover import divided_numbers
from funcnn.numerics.jit import In, Out, Table, inlined
from funcnn.types import Array

_LANES = 128  # that are computed side by side, so that what is kept of them stays in the cache


def _along(rows: Any, axis: int, arrays: tuple[Array, ...], *more: float, lanes: Any) -> Any:
    """Of rows that are neighbours in memory, or lanes side by side, in a new array that lies alike."""
    first = arrays[0]
    order = sorted(range(first.ndim), key=lambda k: (-first.strides[k], k))
    neighbours = order[-1] == axis % first.ndim
    if not first.size or not first.transpose(order).flags.c_contiguous:
        return NotImplemented
    out, size = np.empty_like(first), first.shape[axis]
    flat = [np.ascontiguousarray(x.transpose(order)) for x in (*arrays, out)]
    if neighbours:
        rows(*flat, size, *more, 0, first.size // size)
    else:
        run = first.strides[axis] // first.itemsize
        count = first.size // (size * run) * -(-run // _LANES)
        lanes(*flat, size, run, *more, 0, count)
    return out


def softmax(x: Array, axis: int = -1) -> Any:
    """`funcnn._kernels.softmax.softmax`."""
    return _along(_softmax, axis, (x,), lanes=_softmax_of_lanes)


def log_softmax(x: Array, axis: int = -1) -> Any:
    """`funcnn._kernels.softmax.log_softmax`."""
    return _along(_log_softmax, axis, (x,), lanes=_log_softmax_of_lanes)


def softmax_gradient(out: Array, dout: Array, axis: int = -1) -> Any:
    """`funcnn._kernels.softmax.softmax_gradient`."""
    lanes = _softmax_gradient_of_lanes
    return _along(_softmax_gradient, axis, (out, dout), 1 - SURE, lanes=lanes)


def log_softmax_gradient(out: Array, dout: Array, axis: int = -1) -> Any:
    """`funcnn._kernels.softmax.log_softmax_gradient`."""
    lanes = _log_softmax_gradient_of_lanes
    return _along(_log_softmax_gradient, axis, (out, dout), 1 - SURE, lanes=lanes)


def cross_entropy(logits: Array, labels: Array) -> Any:
    """`funcnn._kernels.softmax.cross_entropy`, where the record is the gradient."""
    z = np.ascontiguousarray(logits)
    values, slope = np.empty(labels.shape, z.dtype), np.empty_like(z)
    classes = labels.reshape(-1).astype(np.int64)  # a copy has no gaps
    _cross_entropy(
        z, classes, values, slope, z.shape[-1], SURE,
        0, classes.size,
    )  # fmt: skip
    return values, (slope,)


@inlined
def _largest(row: In) -> Any:
    top = row[0]
    for i in range(1, len(row)):
        top = larger(top, row[i])
    return top


@inlined
def _exponentials(row: In, top: Any, out: Out) -> Any:
    """Of numbers less the largest of them, infinity less itself being 0; and their sum."""
    zero, infinite = row.dtype.type(0), row.dtype.type(np.inf)
    for i in range(len(row)):
        out[i] = exp(zero if row[i] == infinite else row[i] - top)
    return _sum(out)  # in a loop of its own: else its order would depend on where the two rows lie


@inlined
def _sum(row: In) -> Any:
    total = row.dtype.type(0)
    for i in range(len(row)):
        total += row[i]
    return total


@divided_numbers
def _softmax(x: In, out: Out, size: int, low: int, high: int) -> None:
    for r in range(low, high):
        seen, row = x[r * size : (r + 1) * size], out[r * size : (r + 1) * size]
        total = _exponentials(seen, _largest(seen), row)
        share = x.dtype.type(1) / total
        for i in range(size):
            row[i] *= share


@divided_numbers
def _log_softmax(x: In, out: Out, size: int, low: int, high: int) -> None:
    zero, one, infinite = x.dtype.type(0), x.dtype.type(1), x.dtype.type(np.inf)
    for r in range(low, high):
        seen, row = x[r * size : (r + 1) * size], out[r * size : (r + 1) * size]
        top, others, largest = _largest(seen), zero, zero  # the first of the largest is no other
        for i in range(size):
            row[i] = zero if seen[i] == infinite else seen[i] - top
        for i in range(size):
            others += zero if row[i] == zero else exp(row[i])
            largest += one if row[i] == zero else zero
        rest = log1p_from_0(others + (largest - one))
        for i in range(size):
            row[i] -= rest


@divided_numbers
def _cross_entropy(
    z: In, labels: Table, values: Out, slopes: Out, size: int, sure: float,
    low: int, high: int,
) -> None:  # fmt: skip
    zero, one = z.dtype.type(0), z.dtype.type(1)
    for i in range(low, high):
        seen, row = z[i * size : (i + 1) * size], slopes[i * size : (i + 1) * size]
        at, top = labels[i], _largest(seen)
        total = _exponentials(seen, top, row)
        share = one / total
        for k in range(size):
            row[k] *= share
        values[i] = np.log(total) - (zero if seen[at] == np.inf else seen[at] - top)
        row[at] -= one
        if values[i] < sure:  # what the others sum to is what the logarithm has lost
            row[at] = zero
            wrong = _sum(row)
            values[i], row[at] = zero - np.log1p(-wrong), zero - wrong


@inlined
def _balance(slopes: Out, p: In, sure: float) -> None:
    """The slope of an element that is all but sure is minus the sum of the others'."""
    if not _largest(p) > sure:
        return
    for i in range(len(p)):
        if p[i] > sure:
            slopes[i] = 0
            slopes[i] = p.dtype.type(0) - _sum(slopes)


@divided_numbers
def _softmax_gradient(p: In, dout: In, dx: Out, size: int, sure: float, low: int, high: int) -> None:
    for r in range(low, high):
        here = slice(r * size, (r + 1) * size)
        weight, slope, row = p[here], dout[here], dx[here]
        total = p.dtype.type(0)
        for i in range(size):
            total += slope[i] * weight[i]
        for i in range(size):
            row[i] = (slope[i] - total) * weight[i]
        _balance(row, weight, sure)


@divided_numbers
def _log_softmax_gradient(
    out: In, dout: In, dx: Out, size: int, sure: float, low: int, high: int
) -> None:
    p = np.empty(size, out.dtype)
    for r in range(low, high):
        here = slice(r * size, (r + 1) * size)
        value, slope, row = out[here], dout[here], dx[here]
        for i in range(size):
            p[i] = exp(value[i])
        total = _sum(slope)
        for i in range(size):
            row[i] = slope[i] - p[i] * total
        _balance(row, p, sure)


# Of lanes, element `i` of each stands `run` numbers behind element `i - 1`.


@inlined
def _lanes(block: int, size: int, run: int) -> Any:
    """Where a block of lanes that are neighbours begins, and how many they are."""
    blocks = -(-run // _LANES)
    at = block % blocks * _LANES
    return block // blocks * size * run + at, min(_LANES, run - at)


@inlined
def _tops(x: In, top: Out, at: int, size: int, run: int) -> None:
    """The maximum of each lane."""
    top[:] = -x.dtype.type(np.inf)
    for i in range(size):
        row = x[at + i * run : at + i * run + len(top)]
        for k in range(len(top)):
            top[k] = larger(top[k], row[k])


@inlined
def _balance_lanes(
    dx: Out, p: In, top: In, at: int, run: int, place: int, step: int, size: int, sure: float
) -> None:
    """`_balance`, of lanes whose slopes begin at one place, and whose `p` at another."""
    zero = dx.dtype.type(0)
    for k in range(len(top)):
        if top[k] > sure:
            for i in range(size):
                if p[place + i * step + k] > sure:
                    rest = zero
                    for j in range(size):
                        rest += zero if j == i else dx[at + j * run + k]
                    dx[at + i * run + k] = zero - rest


@divided_numbers
def _softmax_of_lanes(x: In, out: Out, size: int, run: int, low: int, high: int) -> None:
    zero, one, infinite = x.dtype.type(0), x.dtype.type(1), x.dtype.type(np.inf)
    tops, sums = np.empty(_LANES, x.dtype), np.empty(_LANES, x.dtype)
    for block in range(low, high):
        at, wide = _lanes(block, size, run)
        top, total = tops[:wide], sums[:wide]
        _tops(x, top, at, size, run)
        total[:] = 0
        for i in range(size):
            here = slice(at + i * run, at + i * run + wide)
            row, values = x[here], out[here]
            for k in range(wide):
                values[k] = exp(zero if row[k] == infinite else row[k] - top[k])
                total[k] += values[k]
        for k in range(wide):
            total[k] = one / total[k]
        for i in range(size):
            values = out[at + i * run : at + i * run + wide]
            for k in range(wide):
                values[k] *= total[k]


@divided_numbers
def _softmax_gradient_of_lanes(
    p: In, dout: In, dx: Out, size: int, run: int, sure: float, low: int, high: int
) -> None:
    sums, tops = np.empty(_LANES, p.dtype), np.empty(_LANES, p.dtype)
    for block in range(low, high):
        at, wide = _lanes(block, size, run)
        total, top = sums[:wide], tops[:wide]
        _tops(p, top, at, size, run)
        total[:] = 0
        for i in range(size):
            here = slice(at + i * run, at + i * run + wide)
            weight, slope = p[here], dout[here]
            for k in range(wide):
                total[k] += slope[k] * weight[k]
        for i in range(size):
            here = slice(at + i * run, at + i * run + wide)
            weight, slope, row = p[here], dout[here], dx[here]
            for k in range(wide):
                row[k] = (slope[k] - total[k]) * weight[k]
        _balance_lanes(dx, p, top, at, run, at, run, size, sure)


@divided_numbers
def _log_softmax_of_lanes(x: In, out: Out, size: int, run: int, low: int, high: int) -> None:
    zero, one, infinite = x.dtype.type(0), x.dtype.type(1), x.dtype.type(np.inf)
    tops, sums, counts = np.empty(_LANES, x.dtype), np.empty(_LANES, x.dtype), np.empty(_LANES, x.dtype)
    for block in range(low, high):
        at, wide = _lanes(block, size, run)
        top, others, largest = tops[:wide], sums[:wide], counts[:wide]
        _tops(x, top, at, size, run)
        others[:] = zero
        largest[:] = -one  # the first of the largest is none of the others
        for i in range(size):
            here = slice(at + i * run, at + i * run + wide)
            row, rest = x[here], out[here]
            for k in range(wide):
                rest[k] = zero if row[k] == infinite else row[k] - top[k]
            for k in range(wide):
                others[k] += zero if rest[k] == zero else exp(rest[k])
                largest[k] += one if rest[k] == zero else zero
        for k in range(wide):
            others[k] = log1p_from_0(others[k] + largest[k])
        for i in range(size):
            rest = out[at + i * run : at + i * run + wide]
            for k in range(wide):
                rest[k] -= others[k]


@divided_numbers
def _log_softmax_gradient_of_lanes(
    out: In, dout: In, dx: Out, size: int, run: int, sure: float, low: int, high: int
) -> None:
    p = np.empty(size * _LANES, out.dtype)
    sums, tops = np.empty(_LANES, out.dtype), np.empty(_LANES, out.dtype)
    for block in range(low, high):
        at, wide = _lanes(block, size, run)
        total, top = sums[:wide], tops[:wide]
        total[:] = 0
        top[:] = 0
        for i in range(size):
            here, weight = at + i * run, p[i * wide : (i + 1) * wide]
            value, slope = out[here : here + wide], dout[here : here + wide]
            for k in range(wide):
                weight[k] = exp(value[k])
            for k in range(wide):
                top[k] = larger(top[k], weight[k])
                total[k] += slope[k]
        for i in range(size):
            here, weight = at + i * run, p[i * wide : (i + 1) * wide]
            slope, row = dout[here : here + wide], dx[here : here + wide]
            for k in range(wide):
                row[k] = slope[k] - weight[k] * total[k]
        _balance_lanes(dx, p, top, at, run, 0, wide, size, sure)
