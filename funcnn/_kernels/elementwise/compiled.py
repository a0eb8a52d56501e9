"""Functions of every element compiled: one pass. The readable twins are beside this."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import takewhile
from typing import Any

import numpy as np

from funcnn._kernels.elementwise import Twin
from funcnn._kernels.elementwise.pairs import gates, pairs
from funcnn.numerics.handover import PART, divided_numbers, tile, tiles
from funcnn.numerics.jit import Bytes, In, Out, OutBytes, Wide, kernel
from funcnn.types import Array

_OPTIONS = 8  # of a pair, at most


def applied(x: Array, function: Any, twin: Twin) -> Any:
    """`funcnn._kernels.elementwise.applied`; float64 is left to NumPy."""
    if x.dtype != np.float32 or not x.size:
        return NotImplemented
    out = np.empty_like(x)
    if x.strides != out.strides and not x.flags.forc:
        x = x.copy("K")  # as `out` lies; `ravel` has its own order for axes of stride 0
    line, target = x.ravel("K"), out.ravel("K")
    if not np.may_share_memory(out, target):
        return NotImplemented
    pairs[twin[0]][0](line, target, _options(twin), 0, -(-line.size // PART))
    return out


def sloped(x: Array, dout: Array, slope: Any, twin: Twin, dead: bool = False) -> Any:
    """`funcnn._kernels.elementwise.sloped`."""
    if x.dtype != np.float32 or not x.size:
        return NotImplemented
    target = out = np.empty_like(x)
    if not (x.flags.c_contiguous and dout.flags.c_contiguous):
        if dout.strides != out.strides:  # in the same order
            np.copyto(out, dout)
            dout = out
        if x.strides != out.strides and not x.flags.forc:
            x = x.copy("K")
        x, dout, target = x.ravel("K"), dout.ravel("K"), out.ravel("K")
        if not np.may_share_memory(out, target):
            return NotImplemented
    parts = -(-x.size // PART)
    pairs[twin[0]][1](x, dout, target, _options(twin), 0, parts)
    return out


@lru_cache(maxsize=256)
def _options(twin: Twin) -> Array:
    return np.array([*twin[1:], *[0] * (_OPTIONS + 1 - len(twin))], np.float32)


def large_sum(a: Array, b: Array) -> Any:
    """`funcnn._kernels.elementwise.large_sum`."""
    if a.strides != b.strides or a.dtype != b.dtype or a.dtype not in (np.float32, np.float64):
        return NotImplemented  # the order of bytes is part of a dtype
    out = np.empty_like(a)
    if a.shape != b.shape or a.strides != out.strides:
        return NotImplemented
    _add(a.ravel("K"), b.ravel("K"), out.ravel("K"), 0, -(-a.size // PART))
    return out


@divided_numbers
def _add(a: In, b: In, out: Out, low: int, high: int) -> None:
    here = slice(low * PART, high * PART)
    left, right, values = a[here], b[here], out[here]
    for i in range(len(values)):
        values[i] = left[i] + right[i]


def all_finite(x: Array) -> Any:
    """`funcnn._kernels.elementwise.all_finite`, of numbers without gaps."""
    line = x.ravel("K")
    if not x.size or not np.may_share_memory(line, x):
        return NotImplemented
    odd = np.zeros(1, np.uint8)
    _find_odd(line, odd, 0, -(-line.size // PART))
    return not odd[0]


@divided_numbers
def _find_odd(x: In, odd: OutBytes, low: int, high: int) -> None:
    """Whether some are infinite or NaN: 0 times any other number is 0."""
    part, total = x[low * PART : high * PART], x.dtype.type(0)
    for i in range(len(part)):
        total += part[i] * x.dtype.type(0)
    if total != 0:
        odd[0] = 1


_RUN = 16  # so many short masks are laid side by side; and neighbours, at least, share a slope
_ADDED = 512  # numbers that are added up in their own dtype, before their sum is in float64


def dropped(x: Array, mask: Array, scale: float, shift: float = 0.0, floor: float = 0.0) -> Any:
    """`funcnn._kernels.elementwise.dropped`, of a mask that is repeated, or whose numbers are."""
    order = sorted(range(x.ndim), key=lambda k: (-x.strides[k], k))
    if not x.size or not x.transpose(order).flags.c_contiguous:
        return NotImplemented
    groups: list[tuple[bool, int]] = []  # neighbouring axes that the mask has, or has not
    for has, size in ((mask.shape[k] > 1, x.shape[k]) for k in order if x.shape[k] > 1):
        last = groups.pop() if groups and groups[-1][0] == has else (has, 1)
        groups.append((has, last[1] * size))
    flags = mask.transpose(order).reshape(-1).view(np.uint8)
    if len(groups) > 3 or (len(groups) == 3 and not groups[0][0]):
        return NotImplemented
    run = groups[-1][1] if groups and groups[-1][0] else 1
    times = x.size // flags.size
    if run > 1:
        count = math.gcd(times, _RUN)
        flags = np.tile(flags.reshape(-1, run), count).reshape(-1)
        run, times = run * count, times // count
    out, size = np.empty_like(x), times if run == 1 else run
    _dropped(
        x.transpose(order).reshape(-1), flags, out.transpose(order).reshape(-1), run, times,
        scale, shift, floor, 0, tiles(x.size // size, size),
    )  # fmt: skip
    return out


@divided_numbers
def _dropped(
    x: In, mask: Bytes, out: Out, run: int, times: int, scale: float, shift: float, floor: float,
    low: int, high: int,
) -> None:  # fmt: skip
    """Each run of the mask so many times; runs of one number as one long run."""
    size = times if run == 1 else run
    for p in range(low, high):
        r, start, stop = tile(p, size)
        row, values = x[r * size + start : r * size + stop], out[r * size + start : r * size + stop]
        if run == 1:
            for i in range(len(row)):
                values[i] = row[i] * scale + shift if mask[r] else floor
        else:
            flags = mask[r // times * run + start : r // times * run + stop]
            for i in range(len(row)):
                values[i] = row[i] * scale + shift if flags[i] else floor


def prelu(x: Array, slopes: Array) -> Any:
    """`funcnn._kernels.elementwise.prelu`, of slopes for long runs of memory."""
    order, run = _runs(x, slopes)
    if run < _RUN:
        return NotImplemented
    out, factors = np.empty_like(x), np.ascontiguousarray(slopes).reshape(-1)
    _prelu(x.transpose(order).reshape(-1), factors, out.transpose(order).reshape(-1), run)
    return out


def prelu_gradients(x: Array, slopes: Array, dout: Array) -> Any:
    """`funcnn._kernels.elementwise.prelu_gradients`."""
    order, run = _runs(x, slopes)
    if run < _RUN:
        return NotImplemented
    dx, dslope = np.empty_like(x), np.zeros(slopes.size)
    factors = np.ascontiguousarray(slopes).reshape(-1)
    slope = np.ascontiguousarray(dout.transpose(order)).reshape(-1)
    _prelu_back(
        x.transpose(order).reshape(-1), factors, slope, dx.transpose(order).reshape(-1),
        dslope, run,
    )  # fmt: skip
    return dx, dslope.astype(x.dtype)


def _runs(x: Array, slopes: Array) -> tuple[list[int], int]:
    """The order of axes in memory, and how many neighbours have the same slope; 0 if there are gaps."""
    order = sorted(range(x.ndim), key=lambda k: (-x.strides[k], k))
    if not x.size or not x.transpose(order).flags.c_contiguous:
        return order, 0
    alike = takewhile(lambda k: slopes.shape[k] == 1, reversed(order))
    return order, math.prod(x.shape[k] for k in alike)


@kernel
def _prelu(x: In, slopes: In, out: Out, run: int) -> None:
    zero = x.dtype.type(0)
    for r in range(len(x) // run):
        here, s = slice(r * run, (r + 1) * run), slopes[r % len(slopes)]
        row, values = x[here], out[here]
        for i in range(run):
            low = zero if s == zero else row[i] * s
            values[i] = low if row[i] <= zero else row[i]


@kernel
def _prelu_back(x: In, slopes: In, dout: In, dx: Out, dslope: Wide, run: int) -> None:
    zero = x.dtype.type(0)
    for r in range(len(x) // run):
        s, k = slopes[r % len(slopes)], r % len(slopes)
        for start in range(r * run, (r + 1) * run, _ADDED):
            here = slice(start, min(start + _ADDED, (r + 1) * run))
            row, d, slope, part = x[here], dout[here], dx[here], zero
            for i in range(len(row)):
                low = zero if s == zero else d[i] * s
                slope[i] = d[i] if row[i] > zero else low
            for i in range(len(row)):  # alone: a sum's order must not depend on where `slope` lies
                part += zero if row[i] >= zero else d[i] * row[i]
            dslope[k] += part


def glu(x: Array, axis: int) -> Any:
    """`funcnn._kernels.elementwise.glu`."""
    return _halves("glu", x, axis)


def glu_gradient(x: Array, dout: Array, axis: int) -> Any:
    """`funcnn._kernels.elementwise.glu_gradient`."""
    return _halves("glu", x, axis, dout)


def swiglu(x: Array, axis: int) -> Any:
    """`funcnn._kernels.elementwise.swiglu`."""
    return _halves("swiglu", x, axis)


def swiglu_gradient(x: Array, dout: Array, axis: int) -> Any:
    """`funcnn._kernels.elementwise.swiglu_gradient`."""
    return _halves("swiglu", x, axis, dout)


def _halves(name: str, x: Array, axis: int, dout: Array | None = None) -> Any:
    """A gate, or the way back, of an array without gaps: the halves of its axis take turns."""
    order = sorted(range(x.ndim), key=lambda k: (-x.strides[k], k))
    if x.dtype != np.float32 or not x.size or not x.transpose(order).flags.c_contiguous:
        return NotImplemented
    sizes = [x.shape[k] for k in order]
    place = order.index(axis % x.ndim)
    run = math.prod(sizes[place:]) // 2
    seen, count = x.transpose(order).reshape(-1), tiles(x.size // (2 * run), run)
    if dout is not None:
        out = np.empty_like(x)
        slope = np.ascontiguousarray(dout.transpose(order)).reshape(-1)
        gates[name][1](seen, slope, out.transpose(order).reshape(-1), run, 0, count)
        return out
    sizes[place] //= 2
    values = np.empty(sizes, x.dtype)
    gates[name][0](seen, values.reshape(-1), run, 0, count)
    return values.transpose(np.argsort(order))
