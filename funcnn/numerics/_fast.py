"""Fast mode: NumPy's own functions, and what it lacks."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from funcnn.numerics.tiles import (
    stacked_matmul as stacked_matmul,
    sum as sum,
    summed_matmul as summed_matmul,
)
from funcnn.types import Array

word: Literal["fast", "portable"] = "fast"

# what is NumPy's own, or nothing at all, enters no Python frame
prepare: Any = np.asarray
matmul: Any = np.matmul
exp: Any = np.exp
expm1: Any = np.expm1
log: Any = np.log
log1p: Any = np.log1p
tanh: Any = np.tanh
sin: Any = np.sin
cos: Any = np.cos
power: Any = np.power


_LOW, _HIGH = np.array(-np.inf, np.float32), np.array(80, np.float32)  # faster than Python's numbers


def sigmoid(x: Array) -> Array:
    """``e / (1 + e)`` with ``e = exp(x)``; of 80 where `x` is larger: the value is 1 long before."""
    e = np.asarray(x.clip(_LOW, _HIGH))
    np.exp(e, out=e)
    e /= e + 1
    return e


def tanh_slope(x: Array) -> Array:
    """With ``e = exp(-2 |x|)``: ``4 e / (1 + e)**2``."""
    e = np.abs(x)
    e *= -2
    e = np.asarray(np.exp(e))
    d = e + 1
    e /= d
    e /= d
    e *= 4
    return e


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
    above *= size
    above /= below
    return np.asarray(np.clip(above, -1, 1, out=above))


# (1 + 2 x) exp(x**2) erfc(x) for x >= 0, by powers of (x - 3) / (x + 3): Chebyshev's series; the last
# coefficient is 5e-8 lower, which makes erfc(0) exactly 1
_ERFC = (
    1.2530080582534238, -0.13562110449402126, -0.04756229269565379, 0.12964509696901552,
    -0.11927369132068086, 0.06830870677166787, -0.023770334675484502, 0.002526068867800054,
    0.0018881128646091804, -0.0007713736760225472, -0.00010413071427975631, 0.0001132462398315594,
    3.861849136839874e-06, -1.1107230027933141e-05,
)  # fmt: skip


def erfc(x: Array) -> Array:
    """``1 - erf(x)``: in float32 to ``4 + x**2`` units in the last place, in float64 to 3."""
    x = np.asarray(x)
    if x.dtype != np.float32:
        from funcnn.numerics import _elementary  # deferred: it makes tables

        return _elementary.erfc(x)
    size = np.asarray(np.abs(x).clip(0, 30))
    t = np.asarray((size - 3) / (size + 3))
    tail = np.full_like(t, _ERFC[-1])
    for c in _ERFC[-2::-1]:
        tail *= t
        tail += c
    np.multiply(size, size, out=t)
    np.negative(t, out=t)
    tail *= np.exp(t, out=t)
    size *= 2
    size += 1
    tail /= size
    tail -= 2 * (x < 0)  # ``2 - tail`` below 0
    return np.asarray(np.abs(tail, out=tail))
