"""Affine maps of feature vectors, in the memory order that their neighbours like best."""

from __future__ import annotations

from typing import Any

from funcnn import numerics
from funcnn._kernels.images import is_batch_last
from funcnn.machine.threads import share
from funcnn.numerics import arithmetic
from funcnn.numerics.large import LARGE
from funcnn.types import Array

# Measured in November 2026, on the machines that `convolution.plans` names.
_FEW_ROWS = 128  # up to here `W xᵀ` is faster than `x Wᵀ`, by a third at 64 rows: W is read in order
_SHARED = 1 << 24  # multiplications of two products that are done sooner on two threads


def affine(x: Array, weight: Array, bias: Array | None) -> Array:
    """``x Wᵀ + b``: ``(N, F), (O, F), (O,) -> (N, O)``, batch-last in memory for small batches."""
    product = numerics.matmul if weight.size * len(x) >= LARGE else arithmetic().matmul
    if len(x) <= _FEW_ROWS or is_batch_last(x):
        turned = product(weight, x.T)
        if bias is not None:
            turned += bias[:, None]
        return turned.T
    out = product(x, weight.T)
    if bias is not None:
        out += bias
    return out


def affine_gradients(x: Array, weight: Array, dout: Array) -> tuple[Array, Array]:
    """Gradients of `affine` for the weight and the bias."""
    if len(x) == 1:  # one example has an outer product and no sums: BLAS takes four times as long
        return dout.T * x, dout[0].copy()
    now = arithmetic()
    product = numerics.matmul if weight.size * len(x) >= LARGE else now.matmul
    return product(dout.T, x), now.sum(dout, 0)


def affine_input_gradient(x: Array, weight: Array, dout: Array) -> Array:
    """Gradient of `affine` for the input, in the memory order that the input has."""
    product = numerics.matmul if weight.size * len(x) >= LARGE else arithmetic().matmul
    if x.T.flags.c_contiguous and len(x) > 1:
        return product(weight.T, dout.T).T
    return product(dout, weight)


def affine_vjp(x: Array, weight: Array, dout: Array) -> tuple[Array, Array, Array]:
    """Gradients of `affine` for the weight, the bias and the input.

    They take two products of one size: if large, one on each of two threads, but for compiled ones,
    each of which is shared.
    """
    if weight.size * len(x) < _SHARED or numerics.compiling():
        return *affine_gradients(x, weight, dout), affine_input_gradient(x, weight, dout)
    found: list[Any] = share(lambda i: (affine_gradients, affine_input_gradient)[i](x, weight, dout), 2)
    return *found[0], found[1]


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
