"""Weights made of other arrays: direction times magnitude, and shares of a singular value."""

from __future__ import annotations

import numpy as np

from funcnn import numerics
from funcnn.types import Array


def _norm(x: Array, axes: tuple[int, ...]) -> Array:
    """``sqrt(sum x^2)``, these axes kept; of ``x`` times a power of 2, so that no square overflows."""
    exponent = np.frexp(np.max(np.abs(x), axes, keepdims=True, initial=0))[1]
    part = np.ldexp(x, -exponent)
    return np.asarray(np.ldexp(np.sqrt(numerics.sum(part * part, axes, keepdims=True)), exponent))


def divided(x: Array, norm: Array) -> Array:
    """``x / norm``, and 0 where the norm is 0: nothing has no direction."""
    return np.asarray(x / np.where(norm == 0, 1, norm))


def slice_norms(weight: Array, axis: int) -> Array:
    """The norm of each slice along an axis, the others kept with size 1."""
    return _norm(weight, tuple(other for other in range(weight.ndim) if other != axis))


def weight_norm(direction: Array, magnitude: Array, axis: int) -> tuple[Array, Array]:
    """``w = g v / |v|`` slice by slice, and ``|v|``; 0 where ``v`` is 0."""
    norms = slice_norms(direction, axis)
    return magnitude.reshape(norms.shape) * divided(direction, norms), norms


def weight_norm_gradient(
    direction: Array, magnitude: Array, norms: Array, dweight: Array, axis: int
) -> tuple[Array, Array]:
    """``dg = <dw, u>`` and ``dv = g / |v| (dw - dg u)`` with ``u = v / |v|``; 0 where ``v`` is 0."""
    others = tuple(other for other in range(direction.ndim) if other != axis)
    unit = divided(direction, norms)
    dmagnitude = numerics.sum(dweight * unit, others, keepdims=True)
    slope = magnitude.reshape(norms.shape) * (dweight - dmagnitude * unit)
    ddirection = np.where(norms == 0, slope.dtype.type(0), divided(slope, norms))
    return ddirection, dmagnitude.reshape(magnitude.shape)


def as_matrix(weight: Array, axis: int) -> Array:
    """The weight with one row for each slice along an axis."""
    rows = np.moveaxis(weight, axis, 0)
    return rows.reshape(len(rows), -1)


def unit(vector: Array, epsilon: float) -> tuple[Array, Array]:
    """A vector of norm 1, or shorter if it was shorter than `epsilon`; and what it was divided by."""
    norm = np.maximum(_norm(vector, (0,)), vector.dtype.type(epsilon))
    return divided(vector, norm), norm[0]


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
    return np.moveaxis(divided(rows - outer.reshape(rows.shape), s), 0, axis)
