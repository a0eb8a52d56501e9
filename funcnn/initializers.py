"""How parameters begin: values that draw an array of a given shape from a key.

An `Initializer` is data: it can be pickled, compared and printed, and any layer takes any of them.

Examples
--------
>>> from funcnn import initializers, random
>>> start = initializers.he_normal()
>>> start
he_normal()
>>> start(random.key(0), (64, 32, 3, 3)).shape
(64, 32, 3, 3)

Notes
-----
Fans follow the layout of the weights, ``(out, in, *kernel)``:
``fan_in = in * prod(kernel)`` and ``fan_out = out * prod(kernel)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from funcnn import _checks, random
from funcnn.types import Array, Key

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "Initializer",
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "uniform",
    "zeros",
]


class Initializer(NamedTuple):
    """A way to begin: call it with a key and a shape.

    Parameters
    ----------
    draw : callable
        ``(key, shape, dtype, *options) -> array``: a function at the top of a module, so that the
        initializer can be pickled.
    options : tuple
        What `draw` takes beyond key, shape and dtype.
    shown : str
        How it prints: the call that made it.

    Examples
    --------
    >>> from funcnn import random
    >>> he_normal()(random.key(0), (3, 2)).dtype
    dtype('float32')
    >>> he_normal() == he_normal(), he_normal() == he_uniform()
    (True, False)
    """

    draw: Callable[..., Array]
    options: tuple[Any, ...] = ()
    shown: str = ""

    def __call__(
        self, key: Key, shape: tuple[int, ...], dtype: DTypeLike = np.float32
    ) -> Array:
        """Draw an array; with `random.NO_DRAW`, zeros that take no memory."""
        who = repr(self).partition("(")[0]
        shape, kind = _checks.sizes(who, shape), _checks.float_dtype(who, dtype)
        if _checks.key(who, key) == random.NO_DRAW:
            return random.uniform(key, shape, dtype=kind)
        return self.draw(key, shape, kind, *self.options)

    def __repr__(self) -> str:
        return self.shown or f"{self.draw.__name__}({', '.join(map(repr, self.options))})"


def _constant(key: Key, shape: tuple[int, ...], dtype: DTypeLike, value: float) -> Array:  # noqa: ARG001
    return np.full(shape, value, dtype)


def zeros() -> Initializer:
    """All 0."""
    return Initializer(_constant, (0.0,), "zeros()")


def ones() -> Initializer:
    """All 1."""
    return Initializer(_constant, (1.0,), "ones()")


def constant(value: float) -> Initializer:
    """All the same."""
    number = _checks.number("constant", "value", value)
    return Initializer(_constant, (number,), f"constant({number!r})")


def _normal(key: Key, shape: tuple[int, ...], dtype: DTypeLike, std: float) -> Array:
    return random.normal(key, shape, 0.0, std, dtype)


def normal(std: float = 0.01) -> Initializer:
    """Normal."""
    number = _checks.number("normal", "std", std, minimum=0.0)
    return Initializer(_normal, (number,), f"normal({number!r})")


def _uniform(key: Key, shape: tuple[int, ...], dtype: DTypeLike, scale: float) -> Array:
    return random.uniform(key, shape, -scale, scale, dtype)


def uniform(scale: float = 0.01) -> Initializer:
    """Uniform."""
    number = _checks.number("uniform", "scale", scale, above=0.0)
    return Initializer(_uniform, (number,), f"uniform({number!r})")


def _fans(who: str, shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2:
        _checks.refuse(who, f"`shape` must have at least 2 axes (out, in, ...), got {shape}")
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def _variance_scaling(
    key: Key,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    who: str,
    scale: float,
    mode: str,
    distribution: str,
) -> Array:
    fan_in, fan_out = _fans(who, shape)
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    std = math.sqrt(scale / max(fan, 1.0))
    if distribution == "uniform":
        bound = math.sqrt(3.0) * std
        return random.uniform(key, shape, -bound, bound, dtype)
    return random.normal(key, shape, 0.0, std, dtype)


def he_normal() -> Initializer:
    """Normal with variance ``2 / fan_in``."""
    return Initializer(
        _variance_scaling, ("he_normal", 2.0, "fan_in", "normal"), "he_normal()"
    )


def he_uniform() -> Initializer:
    """Uniform with variance ``2 / fan_in``."""
    return Initializer(
        _variance_scaling, ("he_uniform", 2.0, "fan_in", "uniform"), "he_uniform()"
    )


def glorot_normal() -> Initializer:
    """Normal with variance ``2 / (fan_in + fan_out)``."""
    return Initializer(
        _variance_scaling, ("glorot_normal", 1.0, "fan_avg", "normal"), "glorot_normal()"
    )


def glorot_uniform() -> Initializer:
    """Uniform with variance ``2 / (fan_in + fan_out)``."""
    return Initializer(
        _variance_scaling, ("glorot_uniform", 1.0, "fan_avg", "uniform"), "glorot_uniform()"
    )


def lecun_normal() -> Initializer:
    """Normal with variance ``1 / fan_in``."""
    return Initializer(
        _variance_scaling, ("lecun_normal", 1.0, "fan_in", "normal"), "lecun_normal()"
    )


def lecun_uniform() -> Initializer:
    """Uniform with variance ``1 / fan_in``."""
    return Initializer(
        _variance_scaling, ("lecun_uniform", 1.0, "fan_in", "uniform"), "lecun_uniform()"
    )
