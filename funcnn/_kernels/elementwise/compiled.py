"""Functions of every element compiled: one pass. The readable twins are beside this."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn._kernels.jit import In, Out, kernel
from funcnn._kernels.scalars import erfc, exp, scalar, sigmoid as logistic, tail
from funcnn.types import Array

_0, _1, _3, _6, _HALF = map(np.float32, (0, 1, 3, 6, 0.5))
_MOST = np.float32(np.finfo(np.float32).max)
_ROOT, _DENSITY = map(np.float32, (0.7071067811865476, 0.3989422804014327))  # sqrt(1/2), P'(0)
_A, _B = map(np.float32, (1.5957691216057308, 0.07135481627260025))  # as in the twin
_FAR = np.float32(100)  # beyond, the slope of the gate is 0


def _each(run: Any, x: Array, *options: float) -> Any:
    """A new array that lies in memory as `x`; float64 is left to NumPy."""
    if x.dtype != np.float32 or not x.size:
        return NotImplemented
    out = np.empty_like(x)
    line, target = x.ravel("K"), out.ravel("K")
    if not np.may_share_memory(out, target):
        return NotImplemented
    run(line, target, *options)
    return out


def sigmoid(x: Array) -> Any:
    """`funcnn._kernels.elementwise.sigmoid`."""
    return _each(_sigmoid, x)


def sigmoid_slope(x: Array) -> Any:
    """`funcnn._kernels.elementwise.sigmoid_slope`."""
    return _each(_sigmoid_slope, x)


def silu(x: Array) -> Any:
    """`funcnn._kernels.elementwise.silu`."""
    return _each(_silu, x)


def silu_slope(x: Array) -> Any:
    """`funcnn._kernels.elementwise.silu_slope`."""
    return _each(_silu_slope, x)


def gelu(x: Array) -> Any:
    """`funcnn._kernels.elementwise.gelu`."""
    return _each(_gelu, x)


def gelu_slope(x: Array) -> Any:
    """`funcnn._kernels.elementwise.gelu_slope`."""
    return _each(_gelu_slope, x)


def gelu_tanh(x: Array) -> Any:
    """`funcnn._kernels.elementwise.gelu_tanh`."""
    return _each(_gelu_tanh, x)


def gelu_tanh_slope(x: Array) -> Any:
    """`funcnn._kernels.elementwise.gelu_tanh_slope`."""
    return _each(_gelu_tanh_slope, x)


def hard_swish(x: Array) -> Any:
    """`funcnn._kernels.elementwise.hard_swish`."""
    return _each(_hard_swish, x)


def hard_swish_slope(x: Array) -> Any:
    """`funcnn._kernels.elementwise.hard_swish_slope`."""
    return _each(_hard_swish_slope, x)


def leaky_relu(x: Array, slope: float) -> Any:
    """`funcnn._kernels.elementwise.leaky_relu`; of a slope of 0, times infinity, there is none."""
    return _each(_leaky_relu, x, slope) if slope else NotImplemented


def leaky_relu_slope(x: Array, slope: float) -> Any:
    """`funcnn._kernels.elementwise.leaky_relu_slope`."""
    return _each(_leaky_relu_slope, x, slope)


# What is computed stands in functions of numbers, in which no product is reordered: it could overflow.


@scalar
def _clip(x: Any, low: Any, high: Any) -> Any:
    return low if x < low else high if x > high else x


@scalar
def _finite(x: Any) -> Any:
    """Infinity as the largest number."""
    return _clip(x, -_MOST, _MOST)


@scalar
def _gated(x: Any, gate: Any) -> Any:
    """``x`` times a gate that is 0 at minus infinity."""
    return (-_MOST if x < -_MOST else x) * gate


@scalar
def _logistic_slope(x: Any) -> Any:
    e = exp(-abs(x))
    return e / (_1 + e) / (_1 + e)


@scalar
def _probability(x: Any) -> Any:
    """The normal distribution function."""
    return _HALF * erfc(-_ROOT * x)


@kernel
def _sigmoid(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = logistic(x[i])


@kernel
def _sigmoid_slope(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = _logistic_slope(x[i])


@scalar
def _silu_of(x: Any) -> Any:
    return tail(_gated(x, logistic(x)), x, _finite(x))


@kernel
def _silu(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = _silu_of(x[i])


@scalar
def _silu_slope_of(x: Any) -> Any:
    return tail(logistic(x) + _finite(x) * _logistic_slope(x), x, _1 + _finite(x))


@kernel
def _silu_slope(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = _silu_slope_of(x[i])


@scalar
def _gelu_of(x: Any) -> Any:
    return _gated(x, _probability(x))


@kernel
def _gelu(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = _gelu_of(x[i])


@scalar
def _gelu_slope_of(x: Any) -> Any:
    return _probability(x) + _finite(x) * (exp(-_HALF * (x * x)) * _DENSITY)


@kernel
def _gelu_slope(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = _gelu_slope_of(x[i])


@scalar
def _gelu_tanh_of(x: Any) -> Any:
    u = x * (_A + _B * (x * x))
    return tail(_gated(x, logistic(u)), u, _finite(x))


@kernel
def _gelu_tanh(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = _gelu_tanh_of(x[i])


@scalar
def _gelu_tanh_slope_of(x: Any) -> Any:
    u, near = x * (_A + _B * (x * x)), _clip(x, -_FAR, _FAR)
    steep = near * (_A + _3 * _B * (near * near))
    return tail(logistic(u) + steep * _logistic_slope(u), u, _1 + steep)


@kernel
def _gelu_tanh_slope(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = _gelu_tanh_slope_of(x[i])


@scalar
def _hard_swish_of(x: Any) -> Any:
    return _clip(x + _3, _0, _6) / _6 * (-_3 if x < -_3 else x)


@kernel
def _hard_swish(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = _hard_swish_of(x[i])


@scalar
def _hard_swish_slope_of(x: Any) -> Any:
    near = _clip(x, -_3, _3) / _3 + _HALF
    return _1 if x >= _3 else _0 if x <= -_3 else near


@kernel
def _hard_swish_slope(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = _hard_swish_slope_of(x[i])


@kernel
def _leaky_relu(x: In, out: Out, slope: float) -> None:
    for i in range(len(x)):
        out[i] = x[i] if x[i] > 0 else slope * x[i]


@kernel
def _leaky_relu_slope(x: In, out: Out, slope: float) -> None:
    one = x.dtype.type(1)
    for i in range(len(x)):
        out[i] = one if x[i] > 0 else slope
