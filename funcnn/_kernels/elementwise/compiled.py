"""Functions of every element compiled: one pass. The readable twins are beside this."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn._kernels.jit import In, Out, kernel
from funcnn._kernels.scalars import erfc, exp, scalar, sigmoid as logistic, tail
from funcnn.types import Array


def _each(run: Any, x: Array) -> Any:
    """A new array that lies in memory as `x`; float64 is left to NumPy."""
    if x.dtype != np.float32 or not x.size:
        return NotImplemented
    out = np.empty_like(x)
    line, target = x.ravel("K"), out.ravel("K")
    if not np.may_share_memory(out, target):
        return NotImplemented
    run(line, target)
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


@scalar
def _finite(x: Any) -> Any:
    """Infinity as the largest number."""
    most = np.float32(3.4028234663852886e38)
    return most if x > most else -most if x < -most else x


@scalar
def _probability(x: Any) -> Any:
    """The normal distribution function."""
    return np.float32(0.5) * erfc(np.float32(-0.7071067811865476) * x)


@scalar
def _slope(x: Any) -> Any:
    e = exp(-abs(x))
    return e / (np.float32(1) + e) / (np.float32(1) + e)


@kernel
def _sigmoid(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = logistic(x[i])


@kernel
def _sigmoid_slope(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = _slope(x[i])


@kernel
def _silu(x: In, out: Out) -> None:
    for i in range(len(x)):
        fits = _finite(x[i])
        low = fits if x[i] < 0 else x[i]
        out[i] = tail(low * logistic(x[i]), x[i], fits)


@kernel
def _silu_slope(x: In, out: Out) -> None:
    one = np.float32(1)
    for i in range(len(x)):
        fits = _finite(x[i])
        out[i] = tail(logistic(x[i]) + fits * _slope(x[i]), x[i], one + fits)


@kernel
def _gelu(x: In, out: Out) -> None:
    for i in range(len(x)):
        out[i] = (_finite(x[i]) if x[i] < 0 else x[i]) * _probability(x[i])


@kernel
def _gelu_slope(x: In, out: Out) -> None:
    for i in range(len(x)):
        density = exp(np.float32(-0.5) * (x[i] * x[i])) * np.float32(0.3989422804014327)
        out[i] = _probability(x[i]) + _finite(x[i]) * density
