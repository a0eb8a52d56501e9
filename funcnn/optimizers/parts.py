"""How a transformation is made of functions of leaves, and an optimizer of transformations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, tree
from funcnn.checks import Flag, Layers, Number, Refusal
from funcnn.optimizers.agreement import FLOATS, belong, counted, counter, fit, hold, match
from funcnn.optimizers.core import Leaves, Optimizer, State
from funcnn.optimizers.moments import times
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
_path = lru_cache(maxsize=1 << 12, typed=True)(tree.path)  # a step asks for those of the last one


class Step(NamedTuple):
    """What an update does at a leaf: one of several things, each of which sees what the last made."""

    fn: Callable[..., Leaves]  # ``(path, gradient, param, *memory) -> (update, *memory)``
    parts: int = 0  # of the memory
    lift: bool = True  # whether a number comes as a vector of one
    scales: bool = False  # whether it takes a `rate=`, by which it multiplies the update


def walk(
    fn: Callable[..., Leaves],
    grads: Params,
    params: Params,
    *,
    shapes: Mapping[str, Callable[[Array], Shape]] | None = None,
    **memory: Params,
) -> tuple[Params, ...]:
    """The updates and the new memory, from ``fn(path, gradient, param, *memory)`` at each leaf.

    `shapes` says which parts of the memory have other shapes than the parameters, and which.
    """
    return in_turn([Step(fn, len(memory), not shapes)], grads, params, memory, shapes or {})


def in_turn(
    steps: list[Step | float],
    grads: Params,
    params: Params,
    memory: Mapping[str, Params],
    shapes: Mapping[str, Callable[[Array], Shape]],
) -> tuple[Params, ...]:
    """The updates and the new memory, from one step after the other at each leaf; a number scales.

    Statistics have the update 0 and keep their memory. All trees must match, and all leaves of one
    place have one shape and one dtype, but for those of the memory that have `shapes` of their own.
    """
    named, whole = {"grads": grads}, [dict[str, Any]()]
    for name, part in memory.items():
        named[f"state[{name!r}]"] = part
        whole.append({})
    others = {f"state[{name!r}]": shape_of for name, shape_of in shapes.items()}
    try:
        for keys, names, (own, *rest), into in tree.walk(whole, params, *named.values()):
            above = _path(*keys) if names else ""
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
                    results = [np.zeros(shape, dtype), *parts[1:]]
                else:
                    results, end = parts[:1], 1
                    for step in steps:
                        if isinstance(step, float):
                            results[0] = times(results[0], step)
                            continue
                        first, end = end, end + step.parts
                        fn = step.fn if shape or not step.lift else lifted(step.fn)
                        results[0], *new = fn(path, results[0], param, *parts[first:end])
                        results += new
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


class Leafwise(NamedTuple):
    """An update that does something at each leaf, by itself."""

    steps: list[Step | float]
    memory: Mapping[str, Params]  # trees like the parameters
    close: Callable[..., State]  # of the new memory


def leafwise(
    init: Callable[[Params], State],
    at: Callable[[State], Leafwise],
    refusing: Callable[..., tuple[Params, State]] | None = None,
) -> Optimizer:
    """An optimizer from what it does in a state; a pipeline of such ones walks over trees once.

    Where something is refused, `refusing` computes the same, and words it.
    """

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        try:
            steps, memory, close = at(state)
            updates, *new = in_turn(steps, grads, params, memory, {})
            return updates, close(*new)
        except Refusal:
            if refusing is None:
                raise
            return refusing(grads, state, params)

    vars(update)["at"] = at
    return Optimizer(init, update)


def stateless(fn: Callable[..., Any]) -> Optimizer:
    """An optimizer without memory, from ``fn(path, gradient, param) -> update``."""

    def init(params: Params) -> State:
        filled(params)
        return {}

    def leaf(path: str, gradient: Array, param: Array) -> tuple[Any]:
        return (fn(path, gradient, param),)

    def at(state: State) -> Leafwise:
        hold(state)
        return Leafwise([Step(leaf, lift=False)], {}, lambda: state)

    return leafwise(init, at)


def lifted(fn: Callable[..., Leaves]) -> Callable[..., Leaves]:
    """A function of numbers that sees each as a vector of one, so that it may use ``out=``."""

    def leaf(path: str, *numbers: Array) -> Leaves:
        results = fn(path, *(number.reshape(1) for number in numbers))
        return tuple(result.reshape(()) for result in results)

    return leaf


def remembering(
    at_step: Callable[[int], Callable[..., Leaves]], scales: bool = False, /, **starts: float
) -> Optimizer:
    """An optimizer that keeps trees like the parameters, by name and start, and counts its steps.

    ``at_step(t)``, from 1, gives the function of a `Step`, and `scales` is what it is there.
    """

    def init(params: Params) -> State:
        return {"count": counted(0), **{n: filled(params, start) for n, start in starts.items()}}

    def at(state: State) -> Leafwise:
        hold(state, "count", *starts)
        steps = counter(state) + 1

        def close(*new: Params) -> State:
            return {"count": counted(steps), **dict(zip(starts, new, strict=True))}

        step = Step(at_step(steps), len(starts), scales=scales)
        return Leafwise([step], {name: state[name] for name in starts}, close)

    return leafwise(init, at)


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

    def one_by_one(grads: Params, state: State, params: Params) -> tuple[Params, State]:
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

    ats = {name: getattr(part.update, "at", None) for name, part in named.items()}
    if None in ats.values():
        return Optimizer(init, one_by_one)
    return leafwise(init, partial(together, ats), one_by_one)


def together(ats: Mapping[str, Any], state: State) -> Leafwise:
    """What several updates do at each leaf, one after the other."""
    belong(state, ats)
    parts = [at(state.get(name, {})) for name, at in ats.items()]
    steps: list[Step | float] = []
    memory: dict[str, Params] = {}
    for name, part in zip(ats, parts, strict=True):
        for step in part.steps:
            last = steps[-1] if steps else 1.0
            if isinstance(step, float) and isinstance(last, Step) and last.scales:
                steps[-1] = Step(partial(last.fn, rate=step), last.parts)
            else:
                steps.append(step)
        for key, trees in part.memory.items():
            memory[f"{name}/{key}"] = trees

    def close(*memory: Params) -> State:
        left, new = iter(memory), State()
        for name, part in zip(ats, parts, strict=True):
            if own := part.close(*islice(left, len(part.memory))):
                new[name] = own
        return new

    return Leafwise(steps, memory, close)


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
