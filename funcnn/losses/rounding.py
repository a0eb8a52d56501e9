"""Losses that are right wherever their dtype can hold the answer.

A loss is computed in the dtype of its prediction. Where float32 does not have one of the options, such
as a temperature of 1e-40, it is computed in float64, and rounded. So are the examples for which what
comes out is not finite, and a mean of numbers whose sum is beyond float32; all others keep their bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import reduce
from typing import Any

import numpy as np

from funcnn import checks
from funcnn.checks import Constraint
from funcnn.types import Array, Cache, Loss, P, Trait

_NARROW, _WIDE = np.dtype(np.float32), np.dtype(np.float64)


_lost: ContextVar[list[Any]] = ContextVar("_lost")


def enough(holds: Array, x: Array) -> None:
    """Have the examples in float64 for which this does not hold, though all may come out finite."""
    if x.dtype == _NARROW and not holds.all():
        _lost.get().append(~holds.reshape(len(holds), -1).all(1))


def loss(*traits: Trait, **constraints: Constraint) -> Callable[[Callable[P, Loss]], Callable[P, Loss]]:
    """As `checks.declared`, of a loss that is right wherever float32 can hold the answer."""
    return checks.declaring(rounded, traits, constraints)


def rounded(made: Loss, options: Mapping[str, Any]) -> Loss:
    """The loss by way of float64 where float32 is not enough; an option that is too much is refused."""
    beyond = checks.beyond(options, _NARROW)

    def narrow(wide: Any, given: Any) -> Any:
        found = cast(wide, _NARROW)
        if beyond and _finite(given) and not _finite(found):
            checks.refuse_beyond(options, _NARROW)
        return found

    def apply(prediction: Any, target: Any) -> tuple[Any, Cache]:
        lost: list[Any] = []
        before = _lost.set(lost)
        try:
            value, cache = made.apply(prediction, target)
        finally:
            _lost.reset(before)
        if value.dtype == _WIDE or (not beyond and not lost and _finite(value)):
            return value, cache
        wide, wide_cache = made.apply(cast(prediction, _WIDE), cast(target, _WIDE))
        wide = narrow(wide, prediction)
        if beyond:
            return wide, {"wide": wide_cache}
        where = reduce(np.logical_or, lost, _not_finite(value) if value.ndim else np.False_)
        own = where if value.ndim else where.any() or not _finite(value)
        return _chosen(own, wide, value), {"narrow": cache, "wide": wide_cache, "where": where}

    def vjp(cache: Cache) -> Any:
        if "wide" not in cache:
            slopes, where = made.vjp(cache), np.False_
            first = slopes[0] if isinstance(slopes, tuple) else slopes
            if first.dtype == _WIDE or _finite(slopes):
                return slopes
            wide = made.vjp(cast(cache, _WIDE))
        else:
            wide = made.vjp(cache["wide"])
            if beyond:
                return narrow(wide, wide)
            slopes, where = made.vjp(cache["narrow"]), cache["where"]
        parts = slopes if isinstance(slopes, tuple) else (slopes,)
        where = reduce(np.logical_or, map(_not_finite, parts), where)
        return _chosen(where, cast(wide, _NARROW), slopes)

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
    return bool(np.isfinite(found).all()) if found.ndim else math.isfinite(found)


def _not_finite(found: Any) -> Any:
    """The examples that have a number which is not finite."""
    return ~np.isfinite(found).reshape(len(found), -1).all(1)


def _chosen(where: Any, there: Any, elsewhere: Any) -> Any:
    """Some examples of one and the others of another."""
    if isinstance(elsewhere, tuple):
        return tuple(_chosen(where, *both) for both in zip(there, elsewhere, strict=True))
    rows = np.reshape(where, (-1, *(1,) * (elsewhere.ndim - 1))) if elsewhere.ndim else where
    return np.where(rows, there, elsewhere)[()]
