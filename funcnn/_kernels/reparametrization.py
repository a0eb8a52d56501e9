"""Weights made of other arrays: direction times magnitude, and shares of a singular value."""

from __future__ import annotations

import numpy as np

from funcnn import numerics
from funcnn.types import Array


def slice_norms(weight: Array, axis: int) -> Array:
    """The norm of each slice along an axis, the others kept with size 1."""
    others = tuple(other for other in range(weight.ndim) if other != axis)
    return np.asarray(np.sqrt(numerics.sum(weight * weight, others, keepdims=True)))


def weight_norm(direction: Array, magnitude: Array, axis: int) -> tuple[Array, Array]:
    """``w = g v / |v|`` slice by slice, and ``|v|``."""
    norms = slice_norms(direction, axis)
    return direction * (magnitude.reshape(norms.shape) / norms), norms


def weight_norm_gradient(
    direction: Array, magnitude: Array, norms: Array, dweight: Array, axis: int
) -> tuple[Array, Array]:
    """``dg = <dw, v> / |v|`` and ``dv = g / |v| (dw - dg v / |v|)``."""
    others = tuple(other for other in range(direction.ndim) if other != axis)
    dmagnitude = numerics.sum(dweight * direction, others, keepdims=True) / norms
    ddirection = (magnitude.reshape(norms.shape) / norms) * (dweight - (dmagnitude / norms) * direction)
    return ddirection, dmagnitude.reshape(magnitude.shape)


def as_matrix(weight: Array, axis: int) -> Array:
    """The weight with one row for each slice along an axis."""
    rows = np.moveaxis(weight, axis, 0)
    return rows.reshape(len(rows), -1)


def unit(vector: Array, epsilon: float) -> tuple[Array, Array]:
    """A vector of norm 1, or shorter if it was shorter than `epsilon`; and the norm that it had."""
    norm = np.sqrt(numerics.sum(vector * vector))
    return np.asarray(vector / np.maximum(norm, vector.dtype.type(epsilon))), norm


def row_times(u: Array, matrix: Array) -> Array:
    """``Wᵀ u``."""
    return np.asarray(numerics.matmul(u[None], matrix)[0])


def power_iteration(matrix: Array, u: Array, iterations: int, epsilon: float) -> Array:
    """A better left singular vector of the largest singular value: ``u <- W Wᵀ u``, to norm 1."""
    for _ in range(iterations):
        v, _ = unit(row_times(u, matrix), epsilon)
        u, _ = unit(numerics.matmul(matrix, v[:, None])[:, 0], epsilon)
    return u


def spectral_norm_gradient(
    dweight: Array, weight: Array, u: Array, v: Array, s: Array, axis: int
) -> Array:
    """``dw = (dŵ - <dŵ, ŵ> u vᵀ) / s``."""
    share = numerics.sum(dweight * weight)
    rows = np.moveaxis(dweight, axis, 0)
    outer = (share * u)[:, None] * v
    return np.moveaxis((rows - outer.reshape(rows.shape)) / s, 0, axis)
