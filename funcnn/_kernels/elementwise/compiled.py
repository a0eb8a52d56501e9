"""Functions of every element compiled: one pass. The readable twins are beside this."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import takewhile
from typing import Any

import numpy as np

from funcnn._kernels.elementwise import Twin
from funcnn._kernels.scalars import (
    LEAST,
    erfc,
    erfc_and_power,
    exp,
    expm1,
    log1p,
    power,
    scalar,
    scaled,
    sigmoid as logistic,
    tanh,
    tanh_rest,
)
from funcnn.numerics.jit import Bytes, In, Kernel, Out, Wide, kernel
from funcnn.types import Array

_0, _1, _2, _3, _4, _6, _HALF = map(np.float32, (0, 1, 2, 3, 4, 6, 0.5))
_MOST, _EPS = map(np.float32, (np.finfo(np.float32).max, np.finfo(np.float32).eps))
_ROOT, _DENSITY = map(np.float32, (0.7071067811865476, 0.3989422804014327))  # sqrt(1/2), P'(0)
_A, _B = map(np.float32, (1.5957691216057308, 0.07135481627260025))  # as in the twin
_FAR, _NORMAL = np.float32(12), np.finfo(np.float32).smallest_normal  # the gate has no slope beyond


_OPTIONS = 8  # of a pair, at most
_pairs: dict[str, tuple[Kernel, Kernel]] = {}


def applied(x: Array, function: Any, twin: Twin) -> Any:
    """`funcnn._kernels.elementwise.applied`; float64 is left to NumPy."""
    if x.dtype != np.float32 or not x.size:
        return NotImplemented
    out = np.empty_like(x)
    line, target = x.ravel("K"), out.ravel("K")
    if not np.may_share_memory(out, target):
        return NotImplemented
    _pairs[twin[0]][0](line, target, _options(twin))
    return out


def sloped(x: Array, dout: Array, slope: Any, twin: Twin, dead: bool = False) -> Any:
    """`funcnn._kernels.elementwise.sloped`."""
    if x.dtype != np.float32 or not x.size:
        return NotImplemented
    out = np.empty_like(x)
    if dout.strides != out.strides:  # in the same order
        np.copyto(out, dout)
        dout = out
    line, target = x.ravel("K"), out.ravel("K")
    if not np.may_share_memory(out, target):
        return NotImplemented
    _pairs[twin[0]][1](line, dout.ravel("K"), target, _options(twin))
    return out


@lru_cache(maxsize=256)
def _options(twin: Twin) -> Array:
    return np.array([*twin[1:], *[0] * (_OPTIONS + 1 - len(twin))], np.float32)


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
    out = np.empty_like(x)
    _dropped(
        x.transpose(order).reshape(-1), flags, out.transpose(order).reshape(-1), run, times,
        scale, shift, floor,
    )  # fmt: skip
    return out


@kernel
def _dropped(
    x: In, mask: Bytes, out: Out, run: int, times: int, scale: float, shift: float, floor: float
) -> None:
    """Each run of the mask so many times; runs of one number as one long run."""
    for first in range(0, len(mask), run):
        flags, place = mask[first : first + run], first * times
        if run == 1:
            row, values = x[place : place + times], out[place : place + times]
            for i in range(times):
                values[i] = row[i] * scale + shift if flags[0] else floor
            continue
        for start in range(place, place + run * times, run):
            row, values = x[start : start + run], out[start : start + run]
            for i in range(run):
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
                part += zero if row[i] >= zero else d[i] * row[i]
            dslope[k] += part


_gates: dict[str, tuple[Kernel, Kernel]] = {}


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
    seen = x.transpose(order).reshape(-1)
    if dout is not None:
        out = np.empty_like(x)
        slope = np.ascontiguousarray(dout.transpose(order)).reshape(-1)
        _gates[name][1](seen, slope, out.transpose(order).reshape(-1), run)
        return out
    sizes[place] //= 2
    values = np.empty(sizes, x.dtype)
    _gates[name][0](seen, values.reshape(-1), run)
    return values.transpose(np.argsort(order))


def _gate(name: str, value: Any, first: Any, second: Any) -> None:
    """Kernels for a function of two numbers, and for its slopes times a gradient."""

    def run(x: In, out: Out, size: int) -> None:
        for start in range(0, len(out), size):
            a, b = x[2 * start : 2 * start + size], x[2 * start + size : 2 * start + 2 * size]
            values = out[start : start + size]
            for i in range(size):
                values[i] = value(a[i], b[i])

    def back(x: In, dout: In, out: Out, size: int) -> None:
        for start in range(0, len(dout), size):
            one = slice(2 * start, 2 * start + size)
            other = slice(2 * start + size, 2 * start + 2 * size)
            a, b, da, db, d = x[one], x[other], out[one], out[other], dout[start : start + size]
            for i in range(size):
                da[i] = d[i] * first(a[i], b[i])
                db[i] = d[i] * second(a[i], b[i])

    run.__qualname__, back.__qualname__ = name, f"{name}_back"
    _gates[name] = kernel(run), kernel(back)


def _pair(name: str, value: Any, slope: Any, dead: bool = False) -> None:
    """Kernels for a function of a number and options, and for its slope times a gradient."""

    def run(x: In, out: Out, o: In) -> None:
        options = (o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7])
        for i in range(len(x)):
            out[i] = value(x[i], options)

    def back(x: In, dout: In, out: Out, o: In) -> None:
        options = (o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7])
        for i in range(len(x)):
            d = slope(x[i], options)
            out[i] = _0 if dead and d == _0 else dout[i] * d

    run.__qualname__, back.__qualname__ = name, f"{name}_back"
    _pairs[name] = kernel(run), kernel(back)


# What is computed stands in functions of numbers, in which no product is reordered: it could overflow.


@scalar
def _clip(x: Any, low: Any, high: Any) -> Any:
    return low if x < low else high if x > high else x


@scalar
def _finite(x: Any) -> Any:
    """Infinity as the largest number."""
    return _clip(x, -_MOST, _MOST)


# Where the exponential alone would be below normal numbers, its factor comes before its power of 2.


@scalar
def _swish(x: Any, u: Any) -> Any:
    """``x sigmoid(u)``, where `u` grows with `x`, and faster."""
    p, k = power(-abs(u))
    small = LEAST if x < LEAST else x
    return (x if u >= _0 else scaled(small * p, k)) / (_1 + scaled(p, k))


@scalar
def _swish_slope(m: Any, u: Any) -> Any:
    """``s + m s (1 - s)`` with ``s = sigmoid(u)``; where `u` is below `LEAST`, `m` is below 1e28."""
    p, k = power(-abs(u))
    e = scaled(p, k)
    s = _1 / (_1 + e)
    return s + m * (e * s) * s if u >= _0 else scaled((_1 + m * s) * p, k) * s


@scalar
def _logistic_slope(x: Any) -> Any:
    e = exp(-abs(x))
    return e / (_1 + e) / (_1 + e)


@scalar
def _relu(x: Any, o: Any) -> Any:
    return _0 if x < _0 else x


@scalar
def _relu_slope(x: Any, o: Any) -> Any:
    return _1 if x > _0 else _0


@scalar
def _sigmoid(x: Any, o: Any) -> Any:
    return logistic(x)


@scalar
def _sigmoid_slope(x: Any, o: Any) -> Any:
    return _logistic_slope(x)


@scalar
def _probability(x: Any) -> Any:
    """The normal distribution function."""
    return _HALF * erfc(-_ROOT * x)


@scalar
def _silu(x: Any, o: Any) -> Any:
    return _swish(x, x)


@scalar
def _silu_slope(x: Any, o: Any) -> Any:
    return _swish_slope(_clip(x, LEAST, _MOST), x)


@scalar
def _gelu(x: Any, o: Any) -> Any:
    return (-_MOST if x < -_MOST else x) * _probability(x)


@scalar
def _gelu_slope(x: Any, o: Any) -> Any:
    p, e = erfc_and_power(-_ROOT * x)
    return _HALF * p + _finite(x) * (e * _DENSITY)


@scalar
def _gelu_tanh(x: Any, o: Any) -> Any:
    return _swish(x, x * (_A + _B * (x * x)))


@scalar
def _gelu_tanh_slope(x: Any, o: Any) -> Any:
    u, near = x * (_A + _B * (x * x)), _clip(x, -_FAR, _FAR)
    return _swish_slope(near * (_A + _3 * _B * (near * near)), u)


@scalar
def _hard_swish(x: Any, o: Any) -> Any:
    return _clip(x + _3, _0, _6) / _6 * (-_3 if x < -_3 else x)


@scalar
def _hard_swish_slope(x: Any, o: Any) -> Any:
    near = _clip(x, -_3, _3) / _3 + _HALF
    return _1 if x >= _3 else _0 if x <= -_3 else near


@scalar
def _softplus(x: Any, o: Any) -> Any:
    """The options are beta, its inverse, and the sign of `x` and the value: -1 for `log_sigmoid`."""
    x, u = o[2] * x, -abs(o[0] * x)
    p, k = power(u)
    e = scaled(p, k)
    rest = log1p(e) / o[0] if e >= _NORMAL else _0 if u < LEAST else scaled(o[1] * p, k)
    return o[2] * ((x if x > _0 else _0) + rest)


@scalar
def _softplus_slope(x: Any, o: Any) -> Any:
    return logistic(o[0] * o[2] * x)


@scalar
def _lines(x: Any, o: Any) -> Any:
    """``(x + shift) factor`` of three pieces: up to a bound, from another on, and between.

    The options are these bounds, and factor and shift of each piece; of factor 0, the shift itself.
    """
    low, high = x <= o[0], x >= o[1]
    factor = o[2] if low else o[6] if high else o[4]
    shift = o[3] if low else o[7] if high else o[5]
    y = shift if factor == _0 else (x + shift) * factor
    return y if x == x else x


@scalar
def _lines_slope(x: Any, o: Any) -> Any:
    return o[6] if x >= o[1] else o[4] if x > o[0] else o[2]


@scalar
def _elu(x: Any, o: Any) -> Any:
    """The options are the slope above 0, minus the limit, the unit of `x`, and the slope below 0."""
    u = x / o[2]
    return o[0] * x if x > _0 else o[3] * x if u > -_EPS else o[1] * expm1(u)


@scalar
def _elu_slope(x: Any, o: Any) -> Any:
    p, k = power(x / o[2])
    large = abs(o[3]) > _1  # so that the product does not overflow where `p` is more than 1
    low = scaled(o[3] * (_HALF * p if large else p), k + _1 if large else k)
    return o[0] if x > _0 else low


@scalar
def _mish(x: Any, o: Any) -> Any:
    """``x w / (w + 2)`` with ``w = e (e + 2)``, ``e = exp(x)``; above 0 both times ``exp(-2 x)``."""
    p, k = power(-abs(x))
    e = scaled(p, k)
    small, w = LEAST if x < LEAST else x, e * (e + _2)
    high = x * (_1 + _2 * e) / (_1 + _2 * (e + e * e))
    return high if x > _0 else scaled(small * p, k) * (e + _2) / (w + _2)


@scalar
def _mish_slope(x: Any, o: Any) -> Any:
    """``w / (w + 2) + 4 x e (e + 1) / (w + 2)^2``, in the same way."""
    x = _clip(x, LEAST, _MOST)
    p, k = power(-abs(x))
    e = scaled(p, k)
    w, d = e * (e + _2) + _2, _1 + _2 * (e + e * e)
    high = (_1 + _2 * e) / d + x * (_4 * (e * e)) * ((_1 + e) / d / d)
    return high if x > _0 else scaled(p * ((e + _2) / w + x * (_4 * (e + _1)) / w / w), k)


@scalar
def _tanh_shrink(x: Any, o: Any) -> Any:
    return tanh_rest(x) + _0 if abs(x) < _1 else x - tanh(x)  # 0 for -0.0


@scalar
def _tanh_shrink_slope(x: Any, o: Any) -> Any:
    t = tanh(x)
    return t * t


_pair("elu", _elu, _elu_slope)
_pair("mish", _mish, _mish_slope)
_pair("tanh_shrink", _tanh_shrink, _tanh_shrink_slope)
_pair("relu", _relu, _relu_slope, dead=True)
_pair("sigmoid", _sigmoid, _sigmoid_slope)
_pair("silu", _silu, _silu_slope)
_pair("gelu", _gelu, _gelu_slope)
_pair("gelu_tanh", _gelu_tanh, _gelu_tanh_slope)
_pair("hard_swish", _hard_swish, _hard_swish_slope, dead=True)
_pair("softplus", _softplus, _softplus_slope)
_pair("lines", _lines, _lines_slope, dead=True)


@scalar
def _glu(a: Any, b: Any) -> Any:
    return a * logistic(b)


@scalar
def _glu_first(a: Any, b: Any) -> Any:
    return logistic(b)


@scalar
def _glu_second(a: Any, b: Any) -> Any:
    return a * _logistic_slope(b)


@scalar
def _swiglu(a: Any, b: Any) -> Any:
    return _silu(a, b) * b


@scalar
def _swiglu_first(a: Any, b: Any) -> Any:
    return b * _silu_slope(a, b)


@scalar
def _swiglu_second(a: Any, b: Any) -> Any:
    return _silu(a, b)


_gate("glu", _glu, _glu_first, _glu_second)
_gate("swiglu", _swiglu, _swiglu_first, _swiglu_second)
