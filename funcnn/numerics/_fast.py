"""Fast mode: NumPy's own functions, and what it lacks."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn.types import Array

exp: Any = np.exp
expm1: Any = np.expm1
log: Any = np.log
log1p: Any = np.log1p
tanh: Any = np.tanh
sin: Any = np.sin
cos: Any = np.cos
power: Any = np.power
matmul: Any = np.matmul
_reduce: Any = np.add.reduce


def prepare(x: Array) -> Array:
    """The array itself."""
    return x


def sum(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """Sum over one axis, several or all."""
    return np.asarray(_reduce(x, axis, None, None, keepdims))


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, without overflow."""
    x = np.asarray(x)
    least = -88.0 if x.dtype == np.float32 else -709.0
    return np.asarray(1 / (1 + np.exp(-np.maximum(x, least))))


def rsqrt(x: Array) -> Array:
    """``1 / sqrt(x)``."""
    return np.asarray(1 / np.sqrt(x))


# erf(x) = x P(x**2) / Q(x**2) up to |x| = 4, fitted by reweighted least squares of the relative error
_ERF_ABOVE = (
    1.1283791065216064,
    0.19354379177093506,
    0.05310157686471939,
    0.003883290570229292,
    0.0002845649141818285,
    1.9867941318807425e-06,
)
_ERF_BELOW = (
    1.0,
    0.504856288433075,
    0.11534947156906128,
    0.015207142569124699,
    0.0011855586199089885,
    3.742024637176655e-05,
)


def erf(x: Array) -> Array:
    """The error function: in float32 to 7 units in the last place, in float64 to 1."""
    x = np.asarray(x)
    if x.dtype != np.float32:
        from funcnn.numerics import _elementary  # deferred: it makes tables

        return _elementary.erf(x)
    size = np.clip(x, -4, 4)
    square = size * size
    above, below = (np.full_like(square, c[-1]) for c in (_ERF_ABOVE, _ERF_BELOW))
    for p, q in zip(_ERF_ABOVE[-2::-1], _ERF_BELOW[-2::-1], strict=True):
        above *= square
        above += p
        below *= square
        below += q
    return np.asarray(np.clip(size * above / below, -1, 1))
