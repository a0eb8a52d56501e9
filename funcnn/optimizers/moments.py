"""Mean gradients and mean squares, and one over the root of the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import numerics
from funcnn.types import Array


def averaged(old: Array, new: Array, decay: float, scratch: Array | None = None) -> Any:
    """``decay old + (1 - decay) new``; `scratch` is overwritten, and may be `new`."""
    out = old * decay
    out += np.multiply(new, 1 - decay, out=scratch)
    return out


def moments(
    gradient: Array, mean: Array, square: Array, beta1: float, beta2: float
) -> tuple[Array, Array, Array]:
    """The new mean and mean square, and scratch memory: fresh memory costs more than arithmetic."""
    scratch: Array = np.empty_like(gradient)
    mean = averaged(mean, gradient, beta1, scratch)
    square = averaged(square, np.multiply(gradient, gradient, out=scratch), beta2, scratch)
    return mean, square, scratch


def over_root(
    mean: Array, square: Array, shift: float, factor: float = 1.0, out: Array | None = None
) -> Array:
    """``factor mean / (sqrt(square) + shift)``, in the memory of `out`."""
    out = np.sqrt(square, out=out)
    out += shift
    np.divide(mean, out, out=out)
    if factor != 1:
        out *= factor
    return out


def squared_norm(x: Array) -> float:
    """The sum of squares of all elements, in float64."""
    wide = x.reshape(-1).astype(np.float64)
    return float(numerics.matmul(wide, wide)) if wide.size else 0.0
