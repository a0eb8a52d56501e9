"""What gradients, updates and states must be: arrays that fit the parameters, leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from funcnn import checks, tree
from funcnn.checks import Refusal
from funcnn.types import Array, Params, Shape

State = dict[str, Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# Measured in November 2026 on an AMD EPYC (two cores, AVX-512).
MANY = 1 << 16  # numbers that are worth a kernel for one or two operations
_DICTS = 1 << 12  # in a tree; one that holds itself has more


def match(params: Params, others: Mapping[str, Params]) -> None:
    """Refuse the first of some trees that differs from the parameters, by its name."""
    if not isinstance(params, dict):
        checks.refuse_type(f"`params` must be a dict of arrays, got {type(params).__name__}")
    for name, other in others.items():
        try:
            tree.map(lambda *_: None, params, other)
        except Refusal as refusal:
            checks.refuse(f"`{name}` must match `params`: {refusal.text}")


def fit(
    path: str,
    param: Array,
    parts: Mapping[str, Array],
    shapes: Mapping[str, Callable[[Array], Shape]] | None = None,
) -> None:
    """Refuse a leaf that is no array of numbers, or of another shape or dtype than the parameter."""
    place = tree.place(path)
    kind = checks.array if tree.is_statistic(path) else checks.floating
    kind(param, f"params[{place}]")
    for name, part in parts.items():
        kind(part, f"{name}[{place}]")
        wanted = (shapes or {}).get(name, np.shape)(param)
        for word, want, got in (("shape", wanted, part.shape), ("dtype", param.dtype, part.dtype)):
            if want != got:
                refuse = checks.refuse if word == "shape" else checks.refuse_type
                refuse(f"`{name}` must have the {word}s of `params`, got {got} for {want} at {place}")


def both(
    fn: Callable[[Array, Array], Any],
    params: Params,
    other: Params,
    name: str,
    many: Callable[[Array, Array], Any] | None = None,
) -> Params:
    """``fn(param, part)`` over two trees that must match; `many` does the same with many numbers.

    What is usual takes one short way; `tree.walk`, `fit` and `match` word what is wrong.
    """
    many = many or fn
    whole: dict[str, Params] = {}
    try:
        with np.errstate(all="ignore"):
            found = _usual(fn, many, params, other)
            if found is not None:
                return found
            for keys, names, (own, theirs), (into,) in tree.walk([whole], params, other):
                for leaf in names:
                    param, part = own[leaf], theirs[leaf]
                    fit(tree.path(*keys, leaf), param, {name: part})
                    into[leaf] = np.asarray((many if param.size > MANY else fn)(param, part))
    except Refusal as refusal:
        if refusal.who == "tree":
            match(params, {name: other})
        raise
    return whole[""]


def _usual(
    fn: Callable[[Array, Array], Any], many: Callable[[Array, Array], Any], params: Any, other: Any
) -> Params | None:
    """The same of dicts in dicts of arrays that agree, or None; the walk takes twice the time."""
    whole: Params = {}
    todo = [(params, other, whole)]
    for own, theirs, out in todo:  # which grows meanwhile
        alike = type(own) is type(theirs) is dict and own.keys() == theirs.keys()
        if not alike or len(todo) > _DICTS:
            return None
        for name, param in own.items():
            part = theirs[name]
            if type(param) is dict:
                below: Params = {}
                out[name] = below
                todo.append((param, part, below))
            elif (
                type(param) is type(part) is np.ndarray
                and (param.shape == part.shape and param.dtype is part.dtype and param.dtype in FLOATS)
                and type(name) is str
            ):
                out[name] = np.asarray((many if param.size > MANY else fn)(param, part))
            else:
                return None
    return whole


def alike(path: str, wanted: Any, got: Array) -> None:
    """Refuse a leaf of a state that has another shape or dtype than it must have."""
    place = f"state[{tree.place(path)}]"
    checks.array(got, place)
    if (got.shape, got.dtype) != (wanted.shape, wanted.dtype):
        checks.refuse(
            f"`{place}` must be {wanted.dtype} of shape {wanted.shape}, "
            f"got {got.dtype} of shape {got.shape}"
        )


def hold(state: State, *names: str) -> None:
    """Refuse a state that does not hold just these entries."""
    if not isinstance(state, dict):
        checks.refuse_type(f"`state` must be a dict, got {type(state).__name__}")
    if state.keys() != set(names):
        wanted = ", ".join(names) or "nothing"
        got = ", ".join(checks.shown(name).strip("'") for name in list(state)[:8]) or "nothing"
        checks.refuse(f"`state` must hold {wanted}, got {got}"[:250])


def belong(state: State, names: Mapping[str, Any]) -> None:
    """Refuse a state with an entry for a part that there is not."""
    if not isinstance(state, dict):
        checks.refuse_type(f"`state` must be a dict, got {type(state).__name__}")
    for name in state:
        if name not in names:
            text = f"it has no part {checks.shown(name)}, only {', '.join(names)}"
            checks.refuse(f"`state` must belong to this optimizer: {text}"[:250])


def _number(state: State, name: str, kind: str) -> Array:
    found: Array = state[name]
    if type(found) is not np.ndarray:
        checks.array(found, f"state[{checks.shown(name)}]")
    if found.dtype != kind or found.ndim:
        wanted = f"{'an' if kind == 'int64' else 'a'} {kind} of shape ()"
        got = f"{found.dtype} of shape {found.shape}"
        checks.refuse_type(f"`state[{checks.shown(name)}]` must be {wanted}, got {got}")
    return found


def counter(state: State, name: str = "count", below: int = 2**62) -> int:
    """How often something has happened, from a state."""
    found = _number(state, name, "int64")
    if not 0 <= found < below:
        text = f"must be at least 0 and below {below}, got {found}"
        checks.refuse(f"`state[{checks.shown(name)}]` {text}")
    return int(found)


def real(state: State, name: str) -> float:
    """A finite number that is not negative, from a state."""
    found = _number(state, name, "float64")
    if not 0 <= found < np.inf:
        checks.refuse(f"`state[{checks.shown(name)}]` must be finite and at least 0, got {found}")
    return float(found)


def counted(steps: int) -> Array:
    """A counter's value."""
    return np.array(steps, np.int64)
