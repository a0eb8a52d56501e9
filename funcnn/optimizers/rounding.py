"""Optimizers that are right wherever the dtype of the parameters can hold the update.

An optimizer computes in the dtype of its parameters. Where float32 does not have one of its options, or
a number on the way is beyond float32, the step is computed once more in float64, and rounded: an update
of 6e38 that a learning rate of 0.1 brings back, or an epsilon of 1e-46, which would be 0. What a state
keeps is cut at the largest number that its dtype has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from funcnn import checks, tree
from funcnn.checks import Constraint, bare
from funcnn.optimizers.core import Optimizer, State
from funcnn.types import Array, P, Params, Trait

_NARROW = np.dtype(np.float32)


def rounded(made: Optimizer, given: Mapping[str, Any]) -> Optimizer:
    """The optimizer by way of float64 where float32 is not enough; too large an option is refused."""
    beyond = _beyond(given)

    def init(params: Params) -> State:
        state = made.init(params)
        if beyond:
            tree.map(begin, state, made.init(_wide(params)))
        return state

    def begin(found: Array, wide: Array) -> None:
        lost = (found == 0) != (wide == 0)
        if (lost | (np.isfinite(wide) & ~np.isfinite(found))).any():
            checks.refuse_beyond(beyond, _NARROW)

    def update(grads: Params, state: State, params: Params, *more: Any) -> tuple[Params, State]:
        asked = beyond
        try:
            with np.errstate(over="raise"):
                found = made.update(grads, state, params, *more)
            if not beyond:
                return found
        except FloatingPointError:
            found = made.update(grads, state, params, *more)  # refuses what does not fit
            asked = beyond or _rate(state)
        if not any(leaf.dtype == _NARROW for _, leaf in tree.leaves(params)):
            return found
        wide = [_widened(function, params) for function in more]
        updates, new = made.update(_wide(grads), _wide(state), _wide(params), *wide)
        updates = tree.map(lambda param, change: change.astype(param.dtype), params, updates)
        if asked and tree.is_finite((grads, params)) and not tree.is_finite(updates):
            checks.refuse_beyond(asked, _NARROW)
        return updates, tree.map(_kept, state, new)

    vars(update).update(plain=made.update, beyond=beyond)
    return made._replace(init=init if beyond else made.init, update=update)


def optimizer(
    *traits: Trait, **constraints: Constraint
) -> Callable[[Callable[P, Optimizer]], Callable[P, Optimizer]]:
    """As `checks.declared`, of an optimizer that is right wherever float32 can hold the update."""
    return checks.declaring(rounded, traits, constraints)


def plain(whole: Optimizer) -> Optimizer:
    """An optimizer that neither names itself nor rounds, for one that does so for all inside it."""
    inner = bare(whole)
    return inner._replace(update=getattr(inner.update, "plain", inner.update))


def _beyond(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that float32 does not have, of a call and of the optimizers in it, by name."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        inside = value.values() if isinstance(value, Mapping) else value
        one = isinstance(value, Optimizer) or not isinstance(inside, Iterable)
        for part in (value,) if one else inside:
            if isinstance(part, Optimizer):
                found |= getattr(part.update, "beyond", {})
            elif checks.beyond({name: part}, _NARROW):
                found[name] = part
    return found


def _rate(state: State) -> dict[str, Any]:
    """A learning rate that float32 does not have, from a state, where a schedule has put it."""
    found = [float(leaf) for _, leaf in tree.leaves(tree.select(state, "*learning_rate"))]
    return _beyond({"learning_rate": tuple(found)})


def _wide(whole: Params) -> Params:
    return tree.cast(whole, np.float64)


def _kept(old: Array, new: Array) -> Array:
    """What a state keeps, in the dtype that it had."""
    if old.dtype == new.dtype:
        return new
    most = float(np.finfo(old.dtype).max)
    return np.where(np.isfinite(new), np.clip(new, -most, most), new).astype(old.dtype)


def _widened(function: Any, params: Params) -> Any:
    """A ``value_and_grad`` for parameters in float64, from one for parameters as they are."""
    if function is None:
        return None

    def value_and_grad(there: Params) -> tuple[Any, Params]:
        value, grads = function(tree.map(lambda p, x: x.astype(p.dtype), params, there))
        return value, tree.cast(grads, np.float64)

    return value_and_grad
