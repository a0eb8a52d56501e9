"""How a transformation is made of functions of leaves, and an optimizer of transformations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, tree
from funcnn.checks import Flag, Layers, Number, Refusal
from funcnn.optimizers.agreement import FLOATS, belong, counted, counter, fit, hold, match
from funcnn.optimizers.core import Optimizer, State
from funcnn.optimizers.rounding import optimizer, plain
from funcnn.types import Array, Params, Shape

__all__ = ["chain"]


class OrFunction(NamedTuple):
    """What a constraint says, or a function in its place."""

    inner: checks.Constraint

    def check(self, name: str, value: Any, /) -> Any:
        return value if callable(value) else self.inner.check(name, value)

    def wrong(self) -> tuple[object, ...]:
        return tuple(value for value in self.inner.wrong() if not callable(value))


RATE = OrFunction(Number(minimum=0))
FRACTION = Number(minimum=0, below=1)
PART = Number(minimum=0, maximum=1)
POSITIVE = Number(above=0)
NOT_NEGATIVE = Number(minimum=0)
MOMENTS: Any = {"beta1": FRACTION, "beta2": FRACTION, "epsilon": NOT_NEGATIVE}
FLAG = Flag()
OPTIMIZER = Layers(Optimizer, "an Optimizer")


def walk(
    fn: Callable[..., tuple[Any, ...]],
    grads: Params,
    params: Params,
    *,
    shapes: Mapping[str, Callable[[Array], Shape]] | None = None,
    lift: bool = True,
    **memory: Params,
) -> tuple[Params, ...]:
    """The updates and the new memory, from ``fn(path, gradient, param, *memory)`` at each leaf.

    Statistics have the update 0 and keep their memory. All trees must match, and all leaves of one
    place have one shape and one dtype; `shapes` says which parts of the memory have which others.
    Unless `lift` is false, a function sees a number as a vector of one.
    """
    named, others, whole = {"grads": grads}, {}, [dict[str, Any]()]
    for name, part in memory.items():
        named[f"state[{name!r}]"] = part
        whole.append({})
    for name, shape_of in (shapes or {}).items():
        others[f"state[{name!r}]"] = shape_of
    try:
        for keys, names, (own, *rest), into in tree.walk(whole, params, *named.values()):
            above = tree.path(*keys) if names else ""
            for name in names:
                path = f"{above}/{name}" if above else name
                param, parts = own[name], list(map(itemgetter(name), rest))
                if others or type(param) is not np.ndarray or param.dtype not in FLOATS:
                    fit(path, param, dict(zip(named, parts, strict=True)), others)
                dtype, shape = param.dtype, param.shape
                for part in parts:
                    alike = type(part) is np.ndarray and part.dtype is dtype
                    if not alike or part.shape != shape:
                        fit(path, param, dict(zip(named, parts, strict=True)), others)
                if name.startswith("running_"):
                    results = (np.zeros_like(param), *parts[1:])
                else:
                    results = (fn if shape or others or not lift else lifted(fn))(
                        path, parts[0], param, *parts[1:]
                    )
                for out, result in zip(into, results, strict=True):
                    out[name] = result if shape else np.asarray(result)
    except Refusal as refusal:
        if refusal.who == "tree":
            match(params, named)
        raise
    return tuple(map(itemgetter(""), whole))


def filled(params: Params, value: float = 0.0) -> Params:
    """A tree like the parameters, which are checked."""

    def leaf(path: str, param: Array) -> Array:
        fit(path, param, {})
        return np.full_like(param, value)

    match(params, {})
    return tree.map_with_path(leaf, params)


def stateless(fn: Callable[..., Any]) -> Optimizer:
    """An optimizer without memory, from ``fn(path, gradient, param) -> update``."""

    def init(params: Params) -> State:
        filled(params)
        return {}

    def leaf(path: str, gradient: Array, param: Array) -> tuple[Any]:
        return (fn(path, gradient, param),)

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        hold(state)
        return walk(leaf, grads, params, lift=False)[0], state

    return Optimizer(init, update)


def lifted(fn: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """A function of numbers that sees each as a vector of one, so that it may use ``out=``."""

    def leaf(path: str, *numbers: Array) -> tuple[Any, ...]:
        results = fn(path, *(number.reshape(1) for number in numbers))
        return tuple(result.reshape(()) for result in results)

    return leaf


def remembering(at_step: Callable[[int], Callable[..., tuple[Any, ...]]], **starts: float) -> Optimizer:
    """An optimizer that keeps trees like the parameters, by name and start, and counts its steps.

    ``at_step(t)``, from 1, gives ``fn(path, gradient, param, *memory) -> (update, *memory)``.
    """

    def init(params: Params) -> State:
        return {"count": counted(0), **{n: filled(params, start) for n, start in starts.items()}}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        hold(state, "count", *starts)
        steps = counter(state) + 1
        memory = {name: state[name] for name in starts}
        updates, *new = walk(at_step(steps), grads, params, **memory)
        return updates, {"count": counted(steps), **dict(zip(starts, new, strict=True))}

    return Optimizer(init, update)


def power(base: float, exponent: int) -> float:
    """``base ** exponent`` by products alone, so that it has the same bits everywhere."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def pipeline(*parts: Optimizer) -> Optimizer:
    """One part after the other; the state of each is named by its kind and ordinal."""
    seen: Counter[str] = Counter()
    named: dict[str, Optimizer] = {}
    for part in parts:
        seen[part.spec.kind] += 1
        named[f"{part.spec.kind}{seen[part.spec.kind]}"] = plain(part)

    def init(params: Params) -> State:
        states = {name: part.init(params) for name, part in named.items()}
        return {name: state for name, state in states.items() if state}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        belong(state, named)
        new: State = {}
        for name, part in named.items():
            try:
                grads, own = part.update(grads, state.get(name, {}), params)
            except Refusal as refusal:
                raise refusal.inside(name)
            if own:
                new[name] = own
        return grads, new

    return Optimizer(init, update)


@optimizer(transformations=OPTIMIZER._replace(several=True))
def chain(*transformations: Optimizer) -> Optimizer:
    """One transformation after the other: the updates of each are the gradients of the next.

    Parameters
    ----------
    *transformations : Optimizer
        In the order in which they see the gradient; without any, it stays as it is.

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
    chain(clip_by_global_norm(1.0), adam())
    """
    return pipeline(*transformations) if transformations else stateless(lambda path, g, param: g)
