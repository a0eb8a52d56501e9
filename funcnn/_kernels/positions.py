"""Where a time step is: angles for sinusoidal and rotary positions."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from funcnn import numerics
from funcnn.types import Array

Float = np.dtype[np.floating]

_KEPT = 2**19  # numbers in a table that is kept: a bound on memory, 4 tables of 8 MiB at the most


def sinusoids(steps: int, features: int, base: float, dtype: Float, first: int = 0) -> Array:
    """Sines at even features and cosines at odd ones, ``(T, F)``, from `first` on."""
    waves = _waves(first + steps, features, base, dtype, numerics.mode())
    cos, sin = (wave[first:] for wave in waves)
    table = np.empty((steps, features), dtype)
    table[:, 0::2] = sin
    table[:, 1::2] = cos[:, : features // 2]
    return table


def turns(
    steps: int, features: int, base: float, dtype: Float, interleaved: bool, first: int = 0
) -> tuple[Array, Array]:
    """What `rotate` multiplies each feature and its partner by, ``(T, F)`` each, from `first` on."""
    waves = _waves(first + steps, features, base, dtype, numerics.mode())
    cos, sin = (wave[first:] for wave in waves)
    factors = np.empty((2, steps, features), dtype)
    one, other = _pairs(features, interleaved)
    factors[0][:, one] = factors[0][:, other] = cos
    factors[1][:, one], factors[1][:, other] = -sin, sin
    return factors[0], factors[1]


def rotate(x: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    """Turn each pair of features ``(a, b)`` by its angle: ``(a cos - b sin, b cos + a sin)``.

    The factors are those of `turns`; ``-sin`` turns back. What is not turned sees no partner.
    """
    first, second = _pairs(x.shape[-1], interleaved)
    partner = np.empty(x.shape, x.dtype)
    partner[..., first] = x[..., second]
    partner[..., second] = x[..., first]
    if not sin[:1].any():
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


def distances(steps: int, first: int = 0) -> Array:
    """How far each key is behind each query, ``(T, first + T)``; queries begin at the place `first`."""
    return np.arange(first, first + steps)[:, None] - np.arange(first + steps)


def falling(heads: int, steps: int, dtype: Float, first: int = 0) -> Array:
    """ALiBi's biases of scores, ``(heads, T, first + T)``."""
    away = -np.abs(distances(steps, first)).astype(dtype)
    return slopes(heads).astype(dtype)[:, None, None] * away


def slopes(heads: int) -> Array:
    """Those of ALiBi: powers of ``2**(-8 / heads)``, of the next powers of 2 if it is none."""
    below = 1 << heads.bit_length() - 1
    exact = [-8 * (i + 1) / below for i in range(below)]
    between = [-8 * (i + 0.5) / below for i in range(heads - below)]
    return numerics.power(np.full(heads, 2.0), np.array(exact + between))


def buckets(distances: Array, count: int, furthest: int, both: bool) -> Array:
    """The bucket of each distance: one each while they are small, wider ones up to the furthest.

    If `both`, half of them are for keys ahead of the query; otherwise these are as if at its place.
    """
    ahead = np.where(distances < 0, count // 2, 0) if both else 0
    half = count // 2 if both else count
    distances = np.abs(distances) if both else np.maximum(distances, 0)
    exact = half // 2
    ratio = np.maximum(distances, exact) / max(exact, 1)
    grown = numerics.log(ratio) / numerics.log(np.float64(furthest / max(exact, 1)).reshape(1))
    wide = np.minimum(exact + (grown * (half - exact)).astype(np.int64), half - 1)
    return np.asarray(ahead + np.where(distances < exact, distances, wide))


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
