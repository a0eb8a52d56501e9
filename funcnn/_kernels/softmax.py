"""Softmax and its logarithm along one axis, right for all numbers, and infinity.

Minus infinity counts for nothing, and plus infinity for everything; nothing but minus infinity along
an axis gives NaN.
"""

from __future__ import annotations

import numpy as np

from funcnn import numerics
from funcnn.types import Array


def softmax(x: Array, axis: int = -1) -> Array:
    """``exp(x) / sum(exp(x))``; an empty axis is the caller's to refuse."""
    out: Array = numerics.exp(_shifted(x, axis))
    out /= numerics.sum(out, axis, keepdims=True)
    return out


def log_softmax(x: Array, axis: int = -1) -> Array:
    """``x - log(sum(exp(x)))``: the largest term is 1, and ``log1p`` adds it to the others."""
    out = _shifted(x, axis)
    others = np.asarray(numerics.exp(out))
    np.put_along_axis(others, np.argmax(x, axis, keepdims=True), 0, axis)
    out -= numerics.log1p(numerics.sum(others, axis, keepdims=True))
    return out


def softmax_gradient(out: Array, dout: Array, axis: int = -1) -> Array:
    """``dx = y * (dy - sum(dy * y))``."""
    dx: Array = dout * out
    total = numerics.sum(dx, axis, keepdims=True)
    np.subtract(dout, total, out=dx)
    dx *= out
    return dx


def log_softmax_gradient(out: Array, dout: Array, axis: int = -1) -> Array:
    """``dx = dy - softmax(x) * sum(dy)``."""
    dx: Array = numerics.exp(out)
    dx *= numerics.sum(dout, axis, keepdims=True)
    return np.subtract(dout, dx, out=dx)


def _shifted(x: Array, axis: int) -> Array:
    """Less the maximum."""
    top = _largest(x, axis)
    out: Array = x - top
    if np.isposinf(top).any():
        np.copyto(out, 0, where=np.isposinf(x))
    return out


def _largest(x: Array, axis: int) -> Array:
    """The maximum, axis kept. Along neighbours in memory `argmax` is two to three times faster."""
    if x.strides[axis] != x.itemsize:
        return np.asarray(np.max(x, axis, keepdims=True))
    return np.take_along_axis(x, np.argmax(x, axis, keepdims=True), axis)
