"""Softmax and its logarithm along one axis, stable for any finite input."""

from __future__ import annotations

import numpy as np

from funcnn import numerics
from funcnn.types import Array


def softmax(x: Array, axis: int = -1) -> Array:
    """``exp(x) / sum(exp(x))``; an empty axis is the caller's to refuse."""
    out: Array = numerics.exp(x - np.max(x, axis, keepdims=True))
    out /= numerics.sum(out, axis, keepdims=True)
    return out


def log_softmax(x: Array, axis: int = -1) -> Array:
    """``x - log(sum(exp(x)))``."""
    out: Array = x - np.max(x, axis, keepdims=True)
    out -= numerics.log(numerics.sum(numerics.exp(out), axis, keepdims=True))
    return out


def softmax_gradient(out: Array, dout: Array, axis: int = -1) -> Array:
    """``dx = y * (dy - sum(dy * y))``."""
    dx: Array = out * (dout - numerics.sum(dout * out, axis, keepdims=True))
    return dx


def log_softmax_gradient(out: Array, dout: Array, axis: int = -1) -> Array:
    """``dx = dy - softmax(x) * sum(dy)``."""
    dx: Array = dout - numerics.exp(out) * numerics.sum(dout, axis, keepdims=True)
    return dx
