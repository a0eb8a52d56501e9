"""Pairs of compiled kernels: a function of every element, and its slope times a gradient.

What is computed stands in functions of numbers, in which no product is reordered: it could overflow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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
from funcnn.numerics.handover import PART, divided_numbers, tile
from funcnn.numerics.jit import In, Kernel, Out

_0, _1, _2, _3, _4, _6, _HALF = map(np.float32, (0, 1, 2, 3, 4, 6, 0.5))
_MOST, _EPS = map(np.float32, (np.finfo(np.float32).max, np.finfo(np.float32).eps))
_ROOT, _DENSITY = map(np.float32, (0.7071067811865476, 0.3989422804014327))  # sqrt(1/2), P'(0)
_A, _B = map(np.float32, (1.5957691216057308, 0.07135481627260025))  # as in the twin
_FAR, _NORMAL = np.float32(12), np.finfo(np.float32).smallest_normal  # the gate has no slope beyond

pairs: dict[str, tuple[Kernel, Kernel]] = {}
gates: dict[str, tuple[Kernel, Kernel]] = {}


def _pair(name: str, value: Any, slope: Any, dead: bool = False) -> None:
    """Kernels for a function of a number and options, and for its slope times a gradient."""

    def run(x: In, out: Out, o: In, low: int, high: int) -> None:
        options = (o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7])
        here = slice(low * PART, high * PART)
        row, values = x[here], out[here]
        for i in range(len(row)):
            values[i] = value(row[i], options)

    def back(x: In, dout: In, out: Out, o: In, low: int, high: int) -> None:
        options = (o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7])
        here = slice(low * PART, high * PART)
        row, slopes, dx = x[here], dout[here], out[here]
        for i in range(len(row)):
            d = slope(row[i], options)
            dx[i] = _0 if dead and d == _0 else slopes[i] * d

    run.__qualname__, back.__qualname__ = name, f"{name}_back"
    pairs[name] = divided_numbers(run), divided_numbers(back)


def _gate(name: str, value: Any, first: Any, second: Any) -> None:
    """Kernels for a function of two numbers, and for its slopes times a gradient."""

    def run(x: In, out: Out, size: int, low: int, high: int) -> None:
        for p in range(low, high):
            r, start, stop = tile(p, size)
            one = slice(2 * r * size + start, 2 * r * size + stop)
            other = slice((2 * r + 1) * size + start, (2 * r + 1) * size + stop)
            a, b, values = x[one], x[other], out[r * size + start : r * size + stop]
            for i in range(len(values)):
                values[i] = value(a[i], b[i])

    def back(x: In, dout: In, out: Out, size: int, low: int, high: int) -> None:
        for p in range(low, high):
            r, start, stop = tile(p, size)
            one = slice(2 * r * size + start, 2 * r * size + stop)
            other = slice((2 * r + 1) * size + start, (2 * r + 1) * size + stop)
            a, b, da, db = x[one], x[other], out[one], out[other]
            d = dout[r * size + start : r * size + stop]
            for i in range(len(d)):
                da[i] = d[i] * first(a[i], b[i])
                db[i] = d[i] * second(a[i], b[i])

    run.__qualname__, back.__qualname__ = name, f"{name}_back"
    gates[name] = divided_numbers(run), divided_numbers(back)


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
    return e / ((_1 + e) * (_1 + e))


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
def _tanh(x: Any, o: Any) -> Any:
    return tanh(x)


@scalar
def _tanh_slope(x: Any, o: Any) -> Any:
    return _4 * _logistic_slope(x + x)


@scalar
def _tanh_shrink(x: Any, o: Any) -> Any:
    return tanh_rest(x) + _0 if abs(x) < _1 else x - tanh(x)  # 0 for -0.0


@scalar
def _tanh_shrink_slope(x: Any, o: Any) -> Any:
    t = tanh(x)
    return t * t


_pair("elu", _elu, _elu_slope)
_pair("mish", _mish, _mish_slope)
_pair("tanh", _tanh, _tanh_slope)
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
