"""Losses that are right wherever their dtype can hold the answer.

A loss is computed in the dtype of its prediction. Where float32 does not have one of the options, or
what comes out is not finite, it is computed once more in float64, and rounded: a mean of numbers whose
sum is beyond float32, or a temperature of 1e-40, which would be 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

import numpy as np

from funcnn import checks
from funcnn.checks import Constraint, declared, finished
from funcnn.types import Array, Cache, Loss, Trait

P = ParamSpec("P")

_NARROW, _WIDE = np.dtype(np.float32), np.dtype(np.float64)


class TooNarrow(Exception):
    """What a loss raises where float32 would not do, though all comes out finite."""


def enough(holds: Any, x: Array) -> None:
    """Go on in float64 unless this holds everywhere."""
    if x.dtype == _NARROW and not np.all(holds):
        raise TooNarrow


def loss(*traits: Trait, **constraints: Constraint) -> Callable[[Callable[P, Loss]], Callable[P, Loss]]:
    """As `checks.declared`, of a loss that is right wherever float32 can hold the answer."""

    def declare(constructor: Callable[P, Loss]) -> Callable[P, Loss]:
        return declared(*traits, **constraints)(finished(constructor, rounded))

    return declare


def rounded(made: Loss, options: Mapping[str, Any]) -> Loss:
    """The loss by way of float64 where float32 is not enough; an option that is too much is refused."""
    beyond = checks.beyond(options, _NARROW)

    def narrow(wide: Any, given: Any) -> Any:
        found = cast(wide, _NARROW)
        if beyond and _finite(given) and not _finite(found):
            checks.refuse_beyond(options, _NARROW)
        return found

    def apply(prediction: Any, target: Any) -> tuple[Any, Cache]:
        try:
            value, cache = made.apply(prediction, target)
            if value.dtype == _WIDE or (not beyond and _finite(value)):
                return value, cache
        except TooNarrow:
            pass
        wide, cache = made.apply(cast(prediction, _WIDE), cast(target, _WIDE))
        return narrow(wide, prediction), {"wide": cache}

    def vjp(cache: Cache) -> Any:
        if "wide" in cache:
            wide = made.vjp(cache["wide"])
            return narrow(wide, wide)
        slopes = made.vjp(cache)
        first = slopes[0] if isinstance(slopes, tuple) else slopes
        if first.dtype == _WIDE or _finite(slopes):
            return slopes
        return cast(made.vjp(cast(cache, _WIDE)), _NARROW)

    return made._replace(apply=apply, vjp=vjp)


def cast(whole: Any, dtype: np.dtype[Any]) -> Any:
    """All numbers of a prediction, a target or a cache in another float dtype."""
    if isinstance(whole, (np.ndarray, np.generic)):
        return whole.astype(dtype) if whole.dtype.kind == "f" else whole
    if isinstance(whole, tuple):
        return tuple([cast(part, dtype) for part in whole])
    if isinstance(whole, dict):
        return {name: cast(part, dtype) for name, part in whole.items()}
    return dtype if isinstance(whole, np.dtype) else whole


def _finite(found: Any) -> bool:
    """Whether all numbers are finite."""
    if isinstance(found, tuple):
        return all(map(_finite, found))
    return bool(np.isfinite(found).all())
