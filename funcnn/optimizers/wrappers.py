"""Optimizers around optimizers: when they act, on which leaves, and what is kept beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, tree
from funcnn.checks import Integer, Refusal
from funcnn.optimizers.agreement import belong, counted, counter, hold
from funcnn.optimizers.core import AN_OPTIMIZER, Optimizer, State
from funcnn.optimizers.moments import averaged
from funcnn.optimizers.parts import OPTIMIZER, PART, filled, walk
from funcnn.optimizers.rounding import optimizer, plain
from funcnn.types import Array, Params

__all__ = ["accumulate", "average", "ema", "ema_params", "lookahead", "per_path", "skip_nonfinite"]


def _inner(
    optimizer: Optimizer, grads: Params, state: State, params: Params, name: str = "inner"
) -> tuple[Params, State]:
    """The wrapped optimizer's update; a refusal says that it comes from within."""
    try:
        return plain(optimizer).update(grads, state, params)
    except Refusal as refusal:
        raise refusal.inside(name)


@optimizer(optimizer=OPTIMIZER, steps=Integer(1))
def accumulate(optimizer: Optimizer, steps: int) -> Optimizer:
    """Gather the gradients of several steps, then take one step with their mean.

    Parameters
    ----------
    optimizer : Optimizer
        What takes the step.
    steps : int
        How many gradients make one step.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "sum": tree, "inner": ...}``. In between, updates are 0.

    Notes
    -----
    Equal batches give the step of one batch of all their examples. As `optax.MultiSteps`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import accumulate, sgd
    >>> optimizer, params = accumulate(sgd(1.0), 2), {"w": np.zeros(1)}
    >>> first, state = optimizer.update({"w": np.array([1.0])}, optimizer.init(params), params)
    >>> first, optimizer.update({"w": np.array([3.0])}, state, params)[0]
    ({'w': array([0.])}, {'w': array([-2.])})
    """

    def init(params: Params) -> State:
        return {"count": counted(0), "sum": filled(params), "inner": optimizer.init(params)}

    def add(path: str, gradient: Array, param: Array, total: Array) -> tuple[Any, Any]:
        return np.zeros_like(gradient), total + gradient

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        hold(state, "count", "sum", "inner")
        taken = counter(state, below=steps) + 1
        updates, total = walk(add, grads, params, sum=state["sum"])
        if taken < steps:
            return updates, {"count": counted(taken), "sum": total, "inner": state["inner"]}
        updates, own = _inner(optimizer, tree.scale(total, 1 / steps), state["inner"], params)
        return updates, {"count": counted(0), "sum": tree.zeros_like(total), "inner": own}

    return Optimizer(init, update)


@optimizer(optimizer=OPTIMIZER)
def skip_nonfinite(optimizer: Optimizer) -> Optimizer:
    """Leave out steps whose gradient holds an infinity or NaN.

    Parameters
    ----------
    optimizer : Optimizer
        What takes the other steps.

    Returns
    -------
    Optimizer
        With state ``{"skipped": (), "inner": ...}``: how many steps have been left out.

    Notes
    -----
    The updates are 0 then, and the inner state stays as it is. As `optax.apply_if_finite`, without
    its limit.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import sgd, skip_nonfinite
    >>> optimizer, params = skip_nonfinite(sgd(1.0)), {"w": np.zeros(2)}
    >>> optimizer.update({"w": np.array([1.0, np.nan])}, optimizer.init(params), params)[0]
    {'w': array([0., 0.])}
    """

    def init(params: Params) -> State:
        return {"skipped": counted(0), "inner": optimizer.init(params)}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        hold(state, "skipped", "inner")
        skipped, finite = counter(state, "skipped"), []

        def look(path: str, gradient: Array, param: Array) -> tuple[Any]:
            finite.append(np.isfinite(gradient).all())
            return (np.zeros_like(param),)

        zeros = walk(look, grads, params)[0]
        if all(finite):
            updates, own = _inner(optimizer, grads, state["inner"], params)
            return updates, {"skipped": state["skipped"], "inner": own}
        return zeros, {"skipped": counted(skipped + 1), "inner": state["inner"]}

    return Optimizer(init, update)


@optimizer(decay=PART)
def ema(decay: float = 0.999) -> Optimizer:
    """Keep a moving average of the parameters; the last in its chain, so that it sees all updates.

    Parameters
    ----------
    decay : float, default 0.999
        What is kept of the average at each step.

    Returns
    -------
    Optimizer
        It passes updates on as they are; its state is ``{"average": tree}``, read by `ema_params`.

    Notes
    -----
    ``a = decay a + (1 - decay) (w + u)``, from the first parameters on; running statistics are those
    of the last step. As `torch.optim.swa_utils.AveragedModel` with ``get_ema_multi_avg_fn``.

    References
    ----------
    B. Polyak and A. Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import chain, ema, ema_params, sgd
    >>> optimizer, params = chain(sgd(1.0), ema(0.75)), {"w": np.array([4.0])}
    >>> _, state = optimizer.update({"w": np.array([4.0])}, optimizer.init(params), params)
    >>> ema_params(state)
    {'w': array([3.])}
    """

    def init(params: Params) -> State:
        filled(params)
        return {"average": params}

    def leaf(path: str, gradient: Array, param: Array, average: Array) -> tuple[Any, Any]:
        return gradient, averaged(average, param + gradient, decay)

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        hold(state, "average")
        updates, average = walk(leaf, grads, params, average=state["average"])
        return updates, {"average": tree.replace(average, tree.select(params, tree.is_statistic))}

    return Optimizer(init, update)


@optimizer(start=Integer(0))
def average(start: int = 0) -> Optimizer:
    """Keep the mean of the parameters; the last in its chain, so that it sees all updates.

    Parameters
    ----------
    start : int, default 0
        The 0-based step behind which the mean begins; up to it, the parameters themselves are kept.

    Returns
    -------
    Optimizer
        It passes updates on as they are; its state is ``{"count": (), "average": tree}``, read by
        `ema_params`.

    Notes
    -----
    ``a = a + (w + u - a) / n`` at the ``n``-th step of the mean; running statistics are those of the
    last step. As in `torch.optim.ASGD`.

    References
    ----------
    B. Polyak and A. Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import average, chain, ema_params, sgd
    >>> optimizer, params = chain(sgd(1.0), average()), {"w": np.array([4.0])}
    >>> _, state = optimizer.update({"w": np.array([1.0])}, optimizer.init(params), params)
    >>> ema_params(state)
    {'w': array([3.])}
    """

    def init(params: Params) -> State:
        filled(params)
        return {"count": counted(0), "average": params}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        hold(state, "count", "average")
        before = counter(state)
        share = 1 / max(1, before - start)

        def leaf(path: str, gradient: Array, param: Array, old: Array) -> tuple[Any, Any]:
            here = param + gradient
            return gradient, here if share == 1 else old + (here - old) * share

        updates, mean = walk(leaf, grads, params, average=state["average"])
        mean = tree.replace(mean, tree.select(params, tree.is_statistic))
        return updates, {"count": counted(before + 1), "average": mean}

    return Optimizer(init, update)


@checks.named
def ema_params(state: State) -> Params:
    """The averaged parameters in the state of an optimizer with `ema` or `average`.

    Parameters
    ----------
    state : dict
        The state.

    Returns
    -------
    dict
        Parameters for the network.

    Raises
    ------
    ValueError
        For a state without any.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import chain, ema, ema_params, sgd
    >>> params = {"w": np.zeros(1)}
    >>> ema_params(chain(sgd(0.1), ema()).init(params))
    {'w': array([0.])}
    """
    found = _average(state) if isinstance(state, dict) else None
    if found is None:
        checks.refuse("`state` must be that of an optimizer with `ema`, got no average")
    return found


def _average(state: State) -> Params | None:
    if set(state) - {"count"} == {"average"}:
        return dict(state["average"])
    below = (_average(part) for part in state.values() if isinstance(part, dict))
    return next((part for part in below if part is not None), None)


@optimizer(optimizer=OPTIMIZER, steps=Integer(1), rate=PART)
def lookahead(optimizer: Optimizer, steps: int = 5, rate: float = 0.5) -> Optimizer:
    """Go some steps ahead, then come back part of the way.

    Parameters
    ----------
    optimizer : Optimizer
        What goes ahead.
    steps : int, default 5
        How many steps.
    rate : float, default 0.5
        Which part of the way is kept.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "slow": tree, "inner": ...}``.

    Notes
    -----
    Every so many steps ``s = s + rate (w - s)`` and ``w = s``. As `optax.lookahead`.

    References
    ----------
    M. Zhang, J. Lucas, G. Hinton and J. Ba, "Lookahead optimizer: k steps forward, 1 step back",
    2019.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import lookahead, sgd
    >>> optimizer, params = lookahead(sgd(1.0), steps=1), {"w": np.array([0.0])}
    >>> optimizer.update({"w": np.array([-4.0])}, optimizer.init(params), params)[0]
    {'w': array([2.])}
    """

    def init(params: Params) -> State:
        filled(params)
        return {"count": counted(0), "slow": params, "inner": optimizer.init(params)}

    def leaf(path: str, change: Array, param: Array, slow: Array) -> tuple[Any, Any]:
        kept = slow + (param + change - slow) * rate
        return kept - param, kept

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        hold(state, "count", "slow", "inner")
        taken, slow = counter(state, below=steps) + 1, state["slow"]
        walk(lambda path, gradient, param, slow: (gradient, slow), grads, params, slow=slow)
        updates, own = _inner(optimizer, grads, state["inner"], params)
        if taken == steps:
            taken = 0
            updates, slow = walk(leaf, updates, params, slow=slow)
        return updates, {"count": counted(taken), "slow": slow, "inner": own}

    return Optimizer(init, update)


def divided(parts: Mapping[str, Optimizer], choose: Callable[[str, Array], str | None]) -> Optimizer:
    """Each leaf to the part that ``choose(path, leaf)`` names; None is refused."""

    def share(params: Params) -> dict[str, str]:
        names = {path: choose(path, leaf) for path, leaf in tree.leaves(params)}
        for path, name in names.items():
            if name is None and not tree.is_statistic(path):
                place = tree.place(path)
                checks.refuse(f"`rules` must have a pattern for every leaf, got none for {place}")
        return {path: name or next(iter(parts)) for path, name in names.items()}

    def init(params: Params) -> State:
        filled(params)
        chosen = share(params)
        own = {name: part.init(_selected(params, chosen, name)) for name, part in parts.items()}
        return {name: state for name, state in own.items() if state}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        belong(state, parts)
        grads = walk(lambda path, gradient, param: (gradient,), grads, params)[0]
        chosen = share(params)
        updates: dict[str, Any] = {}
        new: State = {}
        for name, part in parts.items():
            own_grads, own_params = (_selected(whole, chosen, name) for whole in (grads, params))
            own, own_state = _inner(part, own_grads, state.get(name, {}), own_params, name)
            updates.update(tree.leaves(own))
            if own_state:
                new[name] = own_state
        return tree.map_with_path(lambda path, _: updates[path], params), new

    return Optimizer(init, update)


def _selected(params: Params, chosen: dict[str, str], name: str) -> Params:
    return tree.select(params, lambda path: chosen[path] == name)


class Rules(NamedTuple):
    """A mapping of shell patterns to optimizers, which is copied."""

    def check(self, name: str, value: Any, /) -> dict[str, Optimizer]:
        if not isinstance(value, Mapping) or not value or not all(isinstance(p, str) for p in value):
            got = checks.shown(value)
            checks.refuse_type(f"`{name}` must map patterns to optimizers, got {got}")
        return {pattern: AN_OPTIMIZER.check(name, part) for pattern, part in value.items()}

    def wrong(self) -> tuple[object, ...]:
        return ({}, None, {"*": 0.1}, {3: None}, "*")


@optimizer(rules=Rules())
def per_path(rules: Mapping[str, Optimizer]) -> Optimizer:
    """Another optimizer, or another learning rate, for other leaves.

    Parameters
    ----------
    rules : mapping of str to Optimizer
        Shell patterns for the paths of leaves, each with its optimizer; the first that fits counts,
        so that ``"*"`` comes last.

    Returns
    -------
    Optimizer
        With state ``{"rule1": ..., "rule2": ...}``, in the order of the rules.

    Raises
    ------
    ValueError
        When used on parameters with a leaf that no pattern fits.

    Notes
    -----
    Each optimizer sees its own leaves only, also for its norms.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import per_path, sgd
    >>> optimizer = per_path({"conv*": sgd(0.1), "*": sgd(1.0)})
    >>> params = {"conv1": {"bias": np.ones(1)}, "dense1": {"bias": np.ones(1)}}
    >>> optimizer.update(params, optimizer.init(params), params)[0]
    {'conv1': {'bias': array([-0.1])}, 'dense1': {'bias': array([-1.])}}
    """
    named = {f"rule{i}": part for i, part in enumerate(rules.values(), 1)}

    def choose(path: str, leaf: Array) -> str | None:
        fits = (name for name, pattern in zip(named, rules, strict=True) if fnmatchcase(path, pattern))
        return next(fits, None)

    return divided(named, choose)
