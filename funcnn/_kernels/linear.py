"""Affine maps of feature vectors, in the memory order that their neighbours like best."""

from __future__ import annotations

from funcnn import numerics
from funcnn.types import Array


def _batch_last(x: Array) -> bool:
    """Whether neighbours in memory are neighbours in the batch, as convolutions leave them."""
    return x.ndim == 2 and x.strides[0] < x.strides[1]


def affine(x: Array, weight: Array, bias: Array | None) -> Array:
    """``x Wᵀ + b``: ``(N, F), (O, F), (O,) -> (N, O)``."""
    out = numerics.matmul(x, weight.T)
    if bias is not None:
        out += bias
    return out


def affine_gradients(x: Array, weight: Array, dout: Array) -> tuple[Array, Array]:
    """Gradients of `affine` for the weight and the bias."""
    return numerics.matmul(dout.T, x), numerics.sum(dout, 0)


def affine_input_gradient(x: Array, weight: Array, dout: Array) -> Array:
    """Gradient of `affine` for the input, in the memory order that the input has."""
    if _batch_last(x):
        return numerics.matmul(weight.T, dout.T).T
    return numerics.matmul(dout, weight)
