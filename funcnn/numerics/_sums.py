"""Sums in portable mode: an order that depends on the shape alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_reduce: Any = np.add.reduce
_compiled = compiled_in(portable="funcnn.numerics._compiled")


@_compiled
def sum(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """Sum over axes, the last one first, each by adding its second half to its first.

    Every addition is in float64 and between whole slices, so the memory order cannot matter. After
    ``log2(n)`` additions the error is at most ``log2(n) * 2**-53`` of the sum of absolute values.
    """
    x = np.asarray(x)
    if x.dtype.kind != "f":  # integers add up exactly
        return np.asarray(_reduce(x, axis=axis, keepdims=keepdims))
    axes = range(x.ndim) if axis is None else np.atleast_1d(np.asarray(axis)).tolist()
    places = sorted((_place(k, x.ndim) for k in axes), reverse=True)
    total = x
    for place in places:
        total = _halve(total, place)
    if keepdims:
        total = np.expand_dims(total, places[::-1])
    return total.astype(x.dtype) if places else x.copy()


def _place(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise np.exceptions.AxisError(axis, rank)
    return axis % rank


def _halve(x: Array, axis: int) -> Array:
    """The sum over one axis, in float64."""
    rows = x.transpose(axis, *range(axis), *range(axis + 1, x.ndim))
    n = len(rows)
    if not n:
        return np.zeros(rows.shape[1:])
    # Halves of the axis that runs fastest through memory would be short runs: turn it to the front.
    fastest = abs(x.strides[axis]) <= min(map(abs, x.strides))
    terms = rows.astype(np.float64, order="C" if fastest else "K")
    while n > 1:
        half, keep = n // 2, (n + 1) // 2
        np.add(terms[:half], terms[keep:n], out=terms[:half])
        n = keep
    return np.asarray(terms[0])
