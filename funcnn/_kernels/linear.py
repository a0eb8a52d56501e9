"""Affine maps of feature vectors, in the memory order that their neighbours like best."""

from __future__ import annotations

from funcnn import numerics
from funcnn._kernels.images import is_batch_last
from funcnn.numerics import arithmetic
from funcnn.numerics.large import LARGE, MANY, added_rows, large_matmul
from funcnn.types import Array

# Measured in November 2026, on the machines that `convolution.plans` names.
_FEW_ROWS = 128  # up to here `W xᵀ` is faster than `x Wᵀ`, by a third at 64 rows: W is read in order


def affine(x: Array, weight: Array, bias: Array | None) -> Array:
    """``x Wᵀ + b``: ``(N, F), (O, F), (O,) -> (N, O)``, batch-last in memory for small batches."""
    turns = len(x) <= _FEW_ROWS or is_batch_last(x)
    a, b = (weight, x.T) if turns else (x, weight.T)
    if bias is not None and turns:
        bias = bias[:, None]
    if weight.size * len(x) >= LARGE:
        out = large_matmul(a, b, None, bias)
    else:
        out = arithmetic().matmul(a, b)
        if bias is not None:
            out += bias
    return out.T if turns else out


def affine_gradients(x: Array, weight: Array, dout: Array) -> tuple[Array, Array]:
    """Gradients of `affine` for the weight and the bias."""
    if len(x) == 1:  # one example has an outer product and no sums: BLAS takes four times as long
        return dout.T * x, dout[0].copy()
    now = arithmetic()
    product = numerics.matmul if weight.size * len(x) >= LARGE else now.matmul
    return product(dout.T, x), now.sum(dout, 0) if dout.size < MANY else added_rows(dout)


def affine_input_gradient(x: Array, weight: Array, dout: Array, more: Array | None = None) -> Array:
    """Gradient of `affine` for the input, in the memory order that the input has; plus another one."""
    turns = x.T.flags.c_contiguous and len(x) > 1
    a, b = (weight.T, dout.T) if turns else (dout, weight)
    if more is not None and turns:
        more = more.T
    if weight.size * len(x) >= LARGE:
        out = large_matmul(a, b, None, more)
    else:
        out = arithmetic().matmul(a, b)
        if more is not None:
            out += more
    return out.T if turns else out


def _products(x1: Array, x2: Array) -> Array:
    """All products of a feature of one with a feature of the other, ``(N, I * J)``."""
    pairs: Array = x1[:, :, None] * x2[:, None, :]
    return pairs.reshape(len(x1), x1.shape[1] * x2.shape[1])


def bilinear(x1: Array, x2: Array, weight: Array, bias: Array | None) -> Array:
    """``x1ᵀ W x2 + b``: ``(N, I), (N, J), (O, I, J), (O,) -> (N, O)``."""
    return affine(_products(x1, x2), weight.reshape(len(weight), -1), bias)


def bilinear_gradients(
    x1: Array, x2: Array, weight: Array, dout: Array
) -> tuple[Array, Array, Array, Array]:
    """Gradients of `bilinear` for the weight, the bias and both inputs."""
    pairs, flat = _products(x1, x2), weight.reshape(len(weight), -1)
    dweight, dbias = affine_gradients(pairs, flat, dout)
    dpairs = numerics.matmul(dout, flat).reshape(len(x1), *weight.shape[1:])
    dx1 = numerics.matmul(dpairs, x2[:, :, None])[:, :, 0]
    dx2 = numerics.matmul(x1[:, None, :], dpairs)[:, 0]
    return dweight.reshape(weight.shape), dbias, dx1, dx2
