"""Fast mode: NumPy's own functions, and what it lacks."""

from __future__ import annotations

from math import prod
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
    """``1 / (1 + exp(-x))``, without overflow."""
    x = np.asarray(x)
    least = -88.0 if x.dtype == np.float32 else -709.0
    out = np.asarray(x.clip(least, np.inf))  # much faster than the maximum of both
    np.negative(out, out=out)
    np.exp(out, out=out)
    out += 1
    return np.asarray(np.divide(1, out, out=out))


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
