"""Where a time step is: angles for sinusoidal and rotary positions."""

from __future__ import annotations

import numpy as np

from funcnn import numerics
from funcnn.types import Array


def angles(steps: int, features: int, base: float) -> Array:
    """``t / base**(2i / features)`` in float64, ``(T, ceil(features / 2))``."""
    exponents = np.arange(0, features, 2) / np.float64(-features)
    frequencies = numerics.power(np.full_like(exponents, base), exponents)
    result: Array = np.arange(steps, dtype=np.float64)[:, None] * frequencies
    return result


def sinusoids(steps: int, features: int, base: float) -> Array:
    """Sines at even features and cosines at odd ones, ``(T, F)`` in float64."""
    turn = angles(steps, features, base)
    table = np.empty((steps, features))
    table[:, 0::2] = numerics.sin(turn)
    table[:, 1::2] = numerics.cos(turn[:, : features // 2])
    return table


def turns(steps: int, features: int, base: float, dtype: np.dtype[np.floating]) -> tuple[Array, Array]:
    """Cosine and sine of every rotary angle, ``(T, features / 2)`` each."""
    turn = angles(steps, features, base)
    return numerics.cos(turn).astype(dtype), numerics.sin(turn).astype(dtype)


def rotate(x: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    """Turn each pair of features ``(a, b)`` by its angle: ``(a cos - b sin, a sin + b cos)``.

    The pairs are neighbours, or lie half of the features apart; ``-sin`` turns back.
    """
    half = x.shape[-1] // 2
    first, second = (
        (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(0, half), slice(half, None))
    )
    a, b = x[..., first], x[..., second]
    out = np.empty_like(x)
    out[..., first] = a * cos - b * sin
    out[..., second] = a * sin + b * cos
    return out
