"""What an optimizer is, how two of them make one, and how its updates reach the parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from funcnn import _checks, tree
from funcnn.types import Array, Params, Spec, rebuild

__all__ = ["Optimizer", "State", "apply_updates", "chain", "learning_rate", "sgd_update"]

State: TypeAlias = dict[str, Any]
"""What an optimizer remembers: nested dicts of arrays, to be saved and loaded as parameters are."""


class Optimizer(NamedTuple):
    """An optimizer, or a part of one: two pure functions, and the data that says what it is.

    Parameters
    ----------
    init : callable
        ``(params) -> state``.
    update : callable
        ``(grads, state, params) -> (updates, state)``; `apply_updates` adds the updates to the
        parameters. In a `chain`, the updates of one are the gradients of the next.
    spec : Spec
        What it is: it prints, pickles and rebuilds it.

    Notes
    -----
    Leaves named ``running_*`` are running statistics: their update is exactly 0, and no norm or
    decay counts them.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import optimizers
    >>> optimizer = optimizers.sgd(0.5)
    >>> params = {"w": np.array([1.0])}
    >>> updates, state = optimizer.update({"w": np.array([0.5])}, optimizer.init(params), params)
    >>> optimizers.apply_updates(params, updates)
    {'w': array([0.75])}
    """

    init: Callable[[Params], State]
    update: Callable[..., tuple[Params, State]]
    spec: Spec

    def __repr__(self) -> str:
        return repr(self.spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (self.spec,)


class _Mismatch(Exception):
    """Two trees that differ; the path is found on a second walk."""


def walk(
    who: str, fn: Callable[..., tuple[Any, ...]], grads: Params, params: Params, *states: Params
) -> tuple[Params, ...]:
    """The updates and the new states, from ``fn(path, gradient, param, *state)`` at each leaf.

    Statistics have the update 0 and keep their state. All trees must match leaf by leaf; a state
    may have other shapes, which are its maker's business.
    """
    out: tuple[Params, ...] = tuple({} for _ in range(1 + len(states)))
    try:
        _walk(who, fn, "", (grads, params, *states), out)
    except _Mismatch:  # walk again, slowly, to word the refusal with its path
        tree.map_with_path(lambda *_: None, params, grads, *states)
        _checks.refuse_type(who, "`grads`, `params` and `state` must be dicts of arrays")
    return out


def _walk(
    who: str,
    fn: Callable[..., tuple[Any, ...]],
    path: str,
    nodes: tuple[Any, ...],
    out: tuple[Params, ...],
) -> None:
    first = nodes[0]
    for node in nodes:
        if not isinstance(node, dict) or node.keys() != first.keys():
            raise _Mismatch
    for key, leaf in first.items():
        parts = tuple([node[key] for node in nodes])
        here = f"{path}/{key}" if path else key
        results: tuple[Any, ...]
        if isinstance(leaf, dict):
            results = tuple({} for _ in out)
            _walk(who, fn, here, parts, results)
        elif key.startswith("running_"):
            results = (np.zeros_like(parts[1]), *parts[2:])
        else:
            for part in parts:
                if not isinstance(part, (np.ndarray, np.generic)):
                    raise _Mismatch
            if parts[1].shape != leaf.shape or parts[1].dtype != leaf.dtype:
                _differ(who, here, leaf, parts[1])
            results = tuple(map(np.asarray, fn(here, *parts)))  # a 0-d result stays an array
        for node, result in zip(out, results, strict=True):
            node[key] = result


def _differ(who: str, path: str, gradient: Array, param: Array) -> None:
    word = "shape" if gradient.shape != param.shape else "dtype"
    wanted, got = getattr(param, word), getattr(gradient, word)
    text = f"`grads` must have the {word}s of `params`, got {got} for {wanted} at {path!r}"
    (_checks.refuse if word == "shape" else _checks.refuse_type)(who, text)


def stateless(spec: Spec, fn: Callable[..., Any]) -> Optimizer:
    """An optimizer without memory, from ``fn(path, gradient, param) -> update``."""

    def init(params: Params) -> State:
        return {}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        def leaf(path: str, gradient: Array, param: Array) -> tuple[Any]:
            return (fn(path, gradient, param),)

        return walk(spec.kind, leaf, grads, params)[0], state

    return Optimizer(init, update, spec)


def lifted(fn: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """A function of leaves that sees a number as a vector of one, so that it may use ``out=``."""

    def leaf(path: str, gradient: Array, *others: Array) -> tuple[Any, ...]:
        if gradient.ndim:
            return fn(path, gradient, *others)
        results = fn(path, gradient.reshape(1), *[other.reshape(1) for other in others])
        return tuple([result.reshape(()) for result in results])

    return leaf


def remembering(
    spec: Spec,
    names: tuple[str, ...],
    at_step: Callable[[int], Callable[..., tuple[Any, ...]]],
    start: float = 0.0,
) -> Optimizer:
    """An optimizer that keeps a few trees like the parameters, and counts its steps.

    ``at_step(t)``, from 1, gives ``fn(path, gradient, param, *state) -> (update, *state)``.
    """

    def init(params: Params) -> State:
        first = tree.map(lambda leaf: np.full_like(leaf, start), params)
        return {"count": counted(0), **dict.fromkeys(names, first)}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        steps = count(state)
        old = [state[name] for name in names]
        updates, *new = walk(spec.kind, lifted(at_step(steps)), grads, params, *old)
        return updates, {"count": counted(steps), **dict(zip(names, new, strict=True))}

    return Optimizer(init, update, spec)


def power(base: float, exponent: int) -> float:
    """``base ** exponent`` by products alone, so that it has the same bits everywhere."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def count(state: State) -> int:
    """The number of the step that is being taken, from 1."""
    return int(state["count"]) + 1


def counted(steps: int) -> Array:
    """A counter's value."""
    return np.array(steps, np.int64)


def apply_updates(params: Params, updates: Params) -> Params:
    """Add updates to parameters.

    Parameters
    ----------
    params : dict
        Parameters; they stay as they are.
    updates : dict
        What an optimizer's ``update`` returned, the same tree.

    Returns
    -------
    dict
        ``params + updates``.

    Raises
    ------
    ValueError, TypeError
        For trees, shapes or dtypes that do not match.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import apply_updates
    >>> apply_updates({"w": np.array([1.0])}, {"w": np.array([-0.5])})
    {'w': array([0.5])}
    """

    def add(leaf: Array, change: Array) -> Array:
        if change.shape != leaf.shape:
            _checks.refuse(
                "apply_updates",
                f"`updates` must have the shapes of `params`, got {change.shape} for {leaf.shape}",
            )
        if change.dtype != leaf.dtype:
            _checks.refuse_type(
                "apply_updates",
                f"`updates` must have the dtypes of `params`, got {change.dtype} for {leaf.dtype}",
            )
        return np.asarray(leaf + change)

    return tree.map(add, params, updates)


def chain(*transformations: Optimizer) -> Optimizer:
    """One transformation after the other: the updates of each are the gradients of the next.

    Parameters
    ----------
    *transformations : Optimizer
        In the order in which they see the gradient.

    Returns
    -------
    Optimizer
        Its state has one entry for each transformation that remembers anything, named by kind and
        ordinal: ``{"scale_by_adam1": ..., "scale_by_learning_rate1": ...}``.

    Raises
    ------
    TypeError
        For something that is not an optimizer.

    Notes
    -----
    As `optax.chain`.

    Examples
    --------
    >>> from funcnn.optimizers import adam, chain, clip_by_global_norm
    >>> chain(clip_by_global_norm(1.0), adam(1e-3))
    chain(clip_by_global_norm(1.0), adam(0.001))
    """
    seen: Counter[str] = Counter()
    named: list[tuple[str, Optimizer]] = []
    for part in transformations:
        if not isinstance(part, Optimizer):
            _checks.refuse_type("chain", f"every part must be an Optimizer, got {part!r}")
        seen[part.spec.kind] += 1
        named.append((f"{part.spec.kind}{seen[part.spec.kind]}", part))

    def init(params: Params) -> State:
        states = {name: part.init(params) for name, part in named}
        return {name: state for name, state in states.items() if state}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        _belongs("chain", state, [name for name, _ in named])
        new: State = {}
        for name, part in named:
            grads, own = part.update(grads, state.get(name, {}), params)
            if own:
                new[name] = own
        return grads, new

    return Optimizer(init, update, Spec(chain, children=tuple(part.spec for part in transformations)))


def _belongs(who: str, state: State, names: list[str]) -> None:
    for name in state:
        if name not in names:
            _checks.refuse(
                who,
                f"`state` must belong to this optimizer: it has no part {name!r}, "
                f"only {', '.join(names)}",
            )


def alias(spec: Spec, *transformations: Optimizer) -> Optimizer:
    """A chain under a name of its own."""
    return chain(*transformations)._replace(spec=spec)


def learning_rate(state: State) -> float:
    """The learning rate that the next update will use.

    Parameters
    ----------
    state : dict
        An optimizer's state.

    Returns
    -------
    float
        Where the state holds several, as `per_path` makes it, the first in the order of their paths.

    Raises
    ------
    ValueError
        For a state that holds none.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import schedules
    >>> from funcnn.optimizers import learning_rate, sgd
    >>> params, optimizer = {"w": np.zeros(1)}, sgd(schedules.linear(1.0, 0.0, 4))
    >>> state = optimizer.init(params)
    >>> _, later = optimizer.update(params, state, params)
    >>> learning_rate(state), learning_rate(later)
    (1.0, 0.75)
    """
    found = tree.leaves(tree.select(state, "*learning_rate"))
    if not found:
        _checks.refuse("learning_rate", "`state` must hold a learning rate, got none")
    return float(found[0][1])


def sgd_update(params: Params, grads: Params, lr: float) -> Params:
    """One step of gradient descent, as a map over two trees.

    Parameters
    ----------
    params : dict
        Parameters; they stay as they are.
    grads : dict
        Gradients, the same tree.
    lr : float
        Learning rate, the fraction of the gradient that is subtracted.

    Returns
    -------
    dict
        ``params - lr * grads``.

    Raises
    ------
    ValueError, TypeError
        For trees that do not match, or a learning rate that is not a finite number of at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import sgd_update
    >>> sgd_update({"w": np.array([1.0])}, {"w": np.array([0.5])}, lr=0.1)
    {'w': array([0.95])}
    """
    rate = _checks.number("sgd_update", "lr", lr, minimum=0)

    def step(leaf: Array, gradient: Array) -> Array:
        if leaf.shape != gradient.shape:
            _checks.refuse(
                "sgd_update",
                f"`grads` must have the shapes of `params`, got {gradient.shape} for {leaf.shape}",
            )
        moved: Array = np.multiply(gradient, leaf.dtype.type(rate))
        if not moved.ndim:
            return np.asarray(leaf - moved)
        np.subtract(leaf, moved, out=moved)
        return moved

    return tree.map(step, params, grads)
