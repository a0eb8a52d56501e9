"""Updates compiled: one pass over each leaf, with the bits of the readable twins in `moments`."""

from __future__ import annotations

from operator import methodcaller
from typing import Any

import numpy as np

from funcnn.numerics.handover import PART, divided_exactly, tiles
from funcnn.numerics.jit import In, Out, OutBytes
from funcnn.optimizers.moments import HIGH, SMALL
from funcnn.types import Array

_flat = methodcaller("ravel")


def adam(
    gradient: Array, mean: Array, code: Array, beta1: float, beta2: float, epsilon: float,
    factor: float, shift: float, rate: float = 1.0,
) -> Any:  # fmt: skip
    """`funcnn.optimizers.moments.adam`, where all squares are ordinary, and all updates finite."""
    if epsilon < SMALL or not 1e-30 < abs(rate) <= 1:
        return NotImplemented
    new = [np.empty(gradient.shape, gradient.dtype) for _ in range(3)]
    beyond = np.zeros(1, np.uint8)
    _adam(
        *map(_flat, (gradient, mean, code, *new)), beyond, beta1, 1 - beta1, beta2, 1 - beta2,
        HIGH * beta2 if beta2 else HIGH, factor, shift, rate, 0, tiles(1, gradient.size),
    )  # fmt: skip
    return NotImplemented if beyond[0] else new


def many_times(x: Array, factor: float) -> Any:
    """`funcnn.optimizers.moments.many_times`, where all results are finite."""
    return _elsewhere(_times, x, factor=factor)


def many_moved(x: Array, change: Array, factor: float) -> Any:
    """`funcnn.optimizers.moments.many_moved`, where all results are finite."""
    return _elsewhere(_moved, x, change, factor=factor)


def _elsewhere(kernel: Any, *arrays: Array, factor: float) -> Any:
    """What a kernel makes of arrays and a number, in fresh memory; what is beyond, NumPy tells."""
    if not 1e-30 < abs(factor) < 1e30:
        return NotImplemented
    out, beyond = np.empty(arrays[0].shape, arrays[0].dtype), np.zeros(1, np.uint8)
    kernel(*map(_flat, (*arrays, out)), beyond, factor, 0, tiles(1, out.size))
    return NotImplemented if beyond[0] else out


@divided_exactly
def _times(x: In, out: Out, beyond: OutBytes, factor: float, low: int, high: int) -> None:
    x, out, finite = x[low * PART : high * PART], out[low * PART : high * PART], True
    for i in range(len(x)):
        out[i] = x[i] * factor
        finite &= abs(out[i]) < np.inf
    if not finite:
        beyond[0] = 1


@divided_exactly
def _moved(x: In, change: In, out: Out, beyond: OutBytes, factor: float, low: int, high: int) -> None:
    x, change = x[low * PART : high * PART], change[low * PART : high * PART]
    out, finite = out[low * PART : high * PART], True
    for i in range(len(x)):
        out[i] = x[i] + change[i] * factor
        finite &= abs(out[i]) < np.inf
    if not finite:
        beyond[0] = 1


@divided_exactly
def _adam(
    gradient: In, mean: In, square: In, update: Out, new_mean: Out, new_square: Out, beyond: OutBytes,
    keep_mean: float, take_mean: float, keep: float, take: float, limit: float,
    factor: float, shift: float, rate: float, low: int, high: int,
) -> None:  # fmt: skip
    """``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``, ``rate factor m / (sqrt(v) + shift)``."""
    # Of slices: LLVM then knows that no place is counted from the end, and works on vectors.
    first, end, ordinary = low * PART, min(high * PART, len(gradient)), True
    gradient, mean, square = gradient[first:end], mean[first:end], square[first:end]
    update, new_mean, new_square = update[first:end], new_mean[first:end], new_square[first:end]
    for i in range(len(gradient)):
        m = keep_mean * mean[i] + take_mean * gradient[i]
        v = keep * square[i] + take * (gradient[i] * gradient[i])
        new_mean[i], new_square[i] = m, v
        update[i] = m / (np.sqrt(v) + shift) * factor * rate
        ordinary &= (v < limit) & (abs(update[i]) < np.inf)
    if not ordinary:
        beyond[0] = 1
