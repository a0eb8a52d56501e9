"""Fast mode: NumPy's own functions, and what it lacks."""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import numpy as np

from funcnn.types import Array

word: Literal["fast", "portable"] = "fast"
exp: Any = np.exp
expm1: Any = np.expm1
log: Any = np.log
log1p: Any = np.log1p
tanh: Any = np.tanh
sin: Any = np.sin
cos: Any = np.cos
power: Any = np.power
_reduce: Any = np.add.reduce


def prepare(x: Array) -> Array:
    """The array itself."""
    return x


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """NumPy's product; of sums of five terms, without its warning of invalid values.

    OpenBLAS 0.3.31 multiplies a float32 matrix of five columns by a vector with AVX-512 in registers
    that it fills from uninitialised memory in part. The product is right, but what lay there may set
    the flag from which NumPy takes its warning: now and then, `dense` on five features would warn.
    """
    product: Array
    if a.shape[-1] != 5:
        product = np.matmul(a, b, out)
    else:
        with np.errstate(invalid="ignore"):
            product = np.matmul(a, b, out)
    return product


_LARGE = 1 << 14  # numbers from which looking for a faster way pays
_TERMS = range(16, 1 << 14)  # of one sum; adding more of them up in a row would cost digits


def sum(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """Sum over one axis, several or all."""
    if axis is not None and x.size >= _LARGE and x.dtype.kind == "f":
        axes = {k % x.ndim for k in (axis if isinstance(axis, tuple) else (axis,))}
        total = _sum_of_blocks(x, axes)
        if total is not None:
            return total if keepdims else total.squeeze(tuple(axes))
    return np.asarray(_reduce(x, axis, None, None, keepdims))


def _sum_of_blocks(x: Array, axes: set[int]) -> Array | None:
    """The sum, axes kept, where those summed over are neighbours in memory; else None.

    A reduction walks short runs at half to a quarter of the speed of these two.
    """
    order = sorted(range(x.ndim), key=lambda k: (-x.strides[k], k))
    lined = x.transpose(order)
    summed = [place for place, k in enumerate(order) if k in axes]
    if not lined.flags.c_contiguous or len(summed) != len(axes):
        return None
    first, after = summed[0], summed[-1] + 1
    terms, inner = prod(lined.shape[first:after]), prod(lined.shape[after:])
    if after - first != len(summed) or terms not in _TERMS or inner >= _LARGE:
        return None
    if inner == 1:
        total = np.einsum("ij->i", lined.reshape(-1, terms))
    else:
        total = np.matmul(np.ones(terms, x.dtype), lined.reshape(-1, terms, inner))
    kept = [1 if k in axes else x.shape[k] for k in order]
    return np.asarray(total).reshape(kept).transpose(np.argsort(order))


def sigmoid(x: Array) -> Array:
    """With ``e = exp(-|x|)``: ``1 / (1 + e)`` or, below 0, ``e / (1 + e)``."""
    e = np.exp(-np.abs(x))
    out = np.asarray(np.maximum(e, np.greater_equal(x, 0)))
    e += 1
    out /= e
    return out


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
    size = np.asarray(np.abs(x)).clip(0, 30)
    t = (size - 3) / (size + 3)
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
