"""Updates compiled: one pass over each leaf. The readable twins are in `moments`."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn.numerics.handover import PART, divided_numbers, tiles
from funcnn.numerics.jit import In, Out, OutBytes
from funcnn.optimizers.moments import HIGH, SMALL
from funcnn.types import Array


def adam(
    gradient: Array, mean: Array, code: Array, beta1: float, beta2: float, epsilon: float,
    factor: float, shift: float,
) -> Any:  # fmt: skip
    """`funcnn.optimizers.moments.adam`, where all squares are ordinary."""
    if epsilon < SMALL:
        return NotImplemented
    gradient = np.asarray(gradient, order="C")
    limit = HIGH * beta2 if beta2 else HIGH
    update, new_mean, new_code = (np.empty_like(gradient) for _ in range(3))
    beyond = np.zeros(1, np.uint8)
    _adam(
        gradient.reshape(-1), np.ascontiguousarray(mean).reshape(-1),
        np.ascontiguousarray(code).reshape(-1), update.reshape(-1), new_mean.reshape(-1),
        new_code.reshape(-1), beyond, beta1, 1 - beta1, beta2, 1 - beta2, limit, factor, shift,
        0, tiles(1, gradient.size),
    )  # fmt: skip
    return NotImplemented if beyond[0] else (update, new_mean, new_code)


@divided_numbers
def _adam(
    gradient: In, mean: In, square: In, update: Out, new_mean: Out, new_square: Out, beyond: OutBytes,
    keep_mean: float, take_mean: float, keep: float, take: float, limit: float,
    factor: float, shift: float, low: int, high: int,
) -> None:  # fmt: skip
    """``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2`` and ``factor m / (sqrt(v) + shift)``."""
    # Of slices: LLVM then knows that no place is counted from the end, and works on vectors.
    first, end, ordinary = low * PART, min(high * PART, len(gradient)), True
    gradient, mean, square = gradient[first:end], mean[first:end], square[first:end]
    update, new_mean, new_square = update[first:end], new_mean[first:end], new_square[first:end]
    for i in range(len(gradient)):
        m = keep_mean * mean[i] + take_mean * gradient[i]
        v = keep * square[i] + take * (gradient[i] * gradient[i])
        ordinary &= v < limit
        new_mean[i], new_square[i] = m, v
        update[i] = m / (np.sqrt(v) + shift) * factor
    if not ordinary:
        beyond[0] = 1
