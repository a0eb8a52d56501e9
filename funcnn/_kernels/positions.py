"""Where a time step is: angles for sinusoidal and rotary positions."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from funcnn import numerics
from funcnn.types import Array

Float = np.dtype[np.floating]

_KEPT = 2**19  # numbers in a table that is kept: at most 4 tables, 32 MiB


def sinusoids(steps: int, features: int, base: float, dtype: Float) -> Array:
    """Sines at even features and cosines at odd ones, ``(T, F)``."""
    cos, sin = _waves(steps, features, base, dtype, numerics.mode())
    table = np.empty((steps, features), dtype)
    table[:, 0::2] = sin
    table[:, 1::2] = cos[:, : features // 2]
    return table


def turns(
    steps: int, features: int, base: float, dtype: Float, interleaved: bool
) -> tuple[Array, Array]:
    """What `rotate` multiplies each feature and its partner by, ``(T, F)`` each."""
    cos, sin = _waves(steps, features, base, dtype, numerics.mode())
    factors = np.empty((2, steps, features), dtype)
    first, second = _pairs(features, interleaved)
    factors[0][:, first] = factors[0][:, second] = cos
    factors[1][:, first], factors[1][:, second] = -sin, sin
    return factors[0], factors[1]


def rotate(x: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    """Turn each pair of features ``(a, b)`` by its angle: ``(a cos - b sin, b cos + a sin)``.

    The factors are those of `turns`; ``-sin`` turns back. The first step stays where it is, and sees
    no partner.
    """
    first, second = _pairs(x.shape[-1], interleaved)
    partner = np.empty(x.shape, x.dtype)
    partner[..., first] = x[..., second]
    partner[..., second] = x[..., first]
    partner[..., 0, :] = 0
    partner *= sin
    out: Array = x * cos
    out += partner
    return out


def _pairs(features: int, interleaved: bool) -> tuple[slice, slice]:
    """The features that have a partner, and their partners: neighbours, or half of all apart."""
    if interleaved:
        return slice(0, None, 2), slice(1, None, 2)
    return slice(0, features // 2), slice(features // 2, None)


def _waves(
    steps: int, features: int, base: float, dtype: Float, mode: numerics.Mode
) -> tuple[Array, Array]:
    """Cosine and sine of ``t / base**(2i / features)``, ``(T, ceil(features / 2))`` each.

    Small tables are kept, and serve all lengths up to the next power of 2.
    """
    if steps * features > _KEPT:
        return _computed(steps, features, base, dtype)
    cos, sin = _remembered(1 << (steps - 1).bit_length(), features, base, dtype, mode)
    return cos[:steps], sin[:steps]


@lru_cache(4)
def _remembered(
    steps: int, features: int, base: float, dtype: Float, mode: numerics.Mode
) -> tuple[Array, Array]:
    waves = _computed(steps, features, base, dtype)
    for wave in waves:
        wave.flags.writeable = False
    return waves


def _computed(steps: int, features: int, base: float, dtype: Float) -> tuple[Array, Array]:
    exponents = np.arange(0, features, 2) / np.float64(-features)
    speeds = numerics.power(np.full_like(exponents, base), exponents)
    angles: Array = np.arange(steps, dtype=np.float64)[:, None] * speeds
    return numerics.cos(angles).astype(dtype), numerics.sin(angles).astype(dtype)
