"""Softmax and its logarithm along one axis, stable for any finite input."""

from __future__ import annotations

import numpy as np

from funcnn import numerics
from funcnn.types import Array


def softmax(x: Array, axis: int = -1) -> Array:
    """``exp(x) / sum(exp(x))``; an empty axis is the caller's to refuse."""
    shifted = numerics.exp(x - np.max(x, axis, keepdims=True))
    return shifted / numerics.sum(shifted, axis, keepdims=True)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """``x - log(sum(exp(x)))``."""
    shifted = x - np.max(x, axis, keepdims=True)
    return shifted - numerics.log(numerics.sum(numerics.exp(shifted), axis, keepdims=True))


def softmax_gradient(out: Array, dout: Array, axis: int = -1) -> Array:
    """``dx = y * (dy - sum(dy * y))``."""
    return out * (dout - numerics.sum(dout * out, axis, keepdims=True))


def log_softmax_gradient(out: Array, dout: Array, axis: int = -1) -> Array:
    """``dx = dy - softmax(x) * sum(dy)``."""
    return dout - numerics.exp(out) * numerics.sum(dout, axis, keepdims=True)
