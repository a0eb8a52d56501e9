"""L-BFGS: Newton's method with a Hessian guessed from the last few steps, for the full batch."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, numerics, tree
from funcnn.checks import Integer
from funcnn.optimizers.agreement import counted, counter, hold, real
from funcnn.optimizers.core import Optimizer, Rate, State
from funcnn.optimizers.descent import rates
from funcnn.optimizers.moments import times
from funcnn.optimizers.parts import RATE, filled, walk
from funcnn.optimizers.rounding import optimizer
from funcnn.types import Array, Params, Shape

__all__ = ["lbfgs"]

_ENOUGH_DECREASE, _ENOUGH_FLATTENING = 1e-4, 0.9  # the constants of the strong Wolfe conditions
_TINY = 1e-9
_FLAT = 1e-7  # a gradient that is nowhere larger needs no step


def _dot(a: Array, b: Array) -> float:
    """The product in float64: that of two numbers of 1e20 is beyond float32."""
    return float(numerics.sum(np.multiply(a, b, dtype=np.float64)))


# What a state holds beside numbers, and whether there are several of them.
_VECTORS = {"gradient": 0, "step": 0, "steps": 1, "changes": 1}


class _Point(NamedTuple):
    """A place on the line that is searched."""

    at: float
    value: float
    slope: float


def _between(a: _Point, b: _Point, least: float, most: float) -> float:
    """Where the cubic with these values and slopes is lowest, within bounds."""
    if a.at > b.at:
        a, b = b, a
    middle = a.slope + b.slope - 3 * (a.value - b.value) / (a.at - b.at)
    square = middle * middle - a.slope * b.slope
    if not square >= 0:
        return (least + most) / 2
    root = sqrt(square)
    lowest = b.at - (b.at - a.at) * ((b.slope + root - middle) / (b.slope - a.slope + 2 * root))
    return min(max(lowest, least), most)


def _line_search(
    evaluate: Callable[[float], _Point], start: _Point, first: float, size: float, tries: int = 25
) -> float:
    """How far to go so that the value falls enough and the slope flattens enough."""

    def too_high(point: _Point) -> bool:
        return point.value > start.value + _ENOUGH_DECREASE * point.at * start.slope

    def flat(point: _Point) -> bool:
        return abs(point.slope) <= -_ENOUGH_FLATTENING * start.slope

    # Go on until a minimum must lie between the last two points.
    before, here, taken = start, evaluate(first), 0
    while taken < tries:
        if too_high(here) or (taken > 1 and here.value >= before.value):
            break
        if flat(here):
            return here.at
        if here.slope >= 0:
            break
        ahead = _between(before, here, here.at + 0.01 * (here.at - before.at), 10 * here.at)
        before, here, taken = here, evaluate(ahead), taken + 1
    else:
        before = start

    # Close in on it.
    low, high = (before, here) if before.value <= here.value else (here, before)
    stuck = False
    while taken < tries and abs(high.at - low.at) * size >= _TINY:
        least, most = min(low.at, high.at), max(low.at, high.at)
        at, edge = _between(low, high, least, most), 0.1 * (most - least)
        if min(most - at, at - least) >= edge:
            stuck = False
        elif stuck or at >= most or at <= least:
            at = most - edge if abs(at - most) < abs(at - least) else least + edge
            stuck = False
        else:
            stuck = True
        here, taken = evaluate(at), taken + 1
        if too_high(here) or here.value >= low.value:
            low, high = (low, here) if low.value <= here.value else (here, low)
        elif flat(here):
            return here.at
        else:
            high = low if here.slope * (high.at - low.at) >= 0 else high
            low = here
    return low.at


@optimizer(learning_rate=RATE, memory=Integer(1))
def lbfgs(learning_rate: Rate = 1.0, *, memory: int = 10) -> Optimizer:
    """Limited-memory BFGS, for the gradient of the full batch; with a line search, if it can.

    Parameters
    ----------
    learning_rate : float or schedule, default 1.0
        The length of a step along the direction; for a line search, where it begins.
    memory : int, default 10
        How many steps the guess of the Hessian rests on.

    Returns
    -------
    Optimizer
        Its ``update`` takes one argument more, ``update(grads, state, params, value_and_grad=None)``.
        Given ``value_and_grad(params) -> (value, grads)``, it searches along the direction for a
        point that fulfils the strong Wolfe conditions; without, it takes the step as it is. The
        state holds vectors of all leaves, and matrices ``(memory, count)`` of the last steps and
        changes of the gradient, the newest last.

    Notes
    -----
    With ``s`` the last step, ``y`` the change of the gradient, and ``h = s.y / y.y``: the direction
    is ``-H g`` by the two-loop recursion from ``h`` times the identity. As `torch.optim.LBFGS` with
    ``max_iter=1`` and either ``line_search_fn=None`` or ``"strong_wolfe"`` and ``max_eval=26``: the
    first step has the length ``min(1, 1 / sum(|g|)) lr``, and what is curved the wrong way is not
    remembered.

    References
    ----------
    D. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization", 1989;
    J. Nocedal and S. Wright, "Numerical optimization", 2006, algorithms 3.5, 3.6 and 7.4.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import apply_updates, lbfgs
    >>> def value_and_grad(params):
    ...     x = params["x"]
    ...     return float(x[0] ** 4 + 3 * x[1] ** 2), {"x": np.array([4 * x[0] ** 3, 6 * x[1]])}
    >>> params, optimizer = {"x": np.array([1.0, -1.0])}, lbfgs()
    >>> state = optimizer.init(params)
    >>> for _ in range(15):
    ...     grads = value_and_grad(params)[1]
    ...     updates, state = optimizer.update(grads, state, params, value_and_grad)
    ...     params = apply_updates(params, updates)
    >>> bool(value_and_grad(params)[0] < 1e-6)
    True
    """
    start, following = rates(learning_rate)

    def init(params: Params) -> State:
        zeros = tree.flatten(_moving(filled(params)))
        past = np.zeros((memory, zeros.size), zeros.dtype)
        return {
            **start,
            "count": counted(0),
            "kept": counted(0),
            "gradient": zeros,
            "step": zeros,
            "steps": past,
            "changes": past,
        }

    def update(
        grads: Params,
        state: State,
        params: Params,
        value_and_grad: Callable[[Params], tuple[Any, Params]] | None = None,
    ) -> tuple[Params, State]:
        walk(lambda path, gradient, param: (gradient,), grads, params)  # they must match
        hold(state, *{**start, "count": 0, "kept": 0, **_VECTORS})
        gradient = tree.flatten(_moving(grads))
        for name, rows in _VECTORS.items():
            _fits(state[name], name, (memory,) * rows + gradient.shape, gradient.dtype)
        number, kept = counter(state) + 1, counter(state, "kept", memory + 1)
        steps, changes = state["steps"], state["changes"]
        step, change = state["step"], gradient - state["gradient"]
        if number > 1 and _dot(change, step) > 1e-10:
            steps, changes = _remembered(steps, step), _remembered(changes, change)
            kept = min(kept + 1, memory)
        direction = -_times_inverse_hessian(gradient, steps[memory - kept :], changes[memory - kept :])
        length = real(state, "learning_rate")
        if number == 1:
            total = float(numerics.sum(np.abs(gradient).astype(np.float64)))
            length *= min(1.0, 1 / total) if total else 1.0
        slope = _dot(gradient, direction)
        if slope > -_TINY or not np.abs(gradient).max(initial=0) > _FLAT:
            length = 0.0  # there already
        elif value_and_grad is not None:
            theirs = np.errstate(over="ignore")(value_and_grad)

            def evaluate(at: float) -> _Point:
                there = tree.add(params, _update(params, direction * at))
                value, slopes = theirs(there)
                return _Point(at, float(value), _dot(tree.flatten(_moving(slopes)), direction))

            here = _Point(0.0, float(theirs(params)[0]), slope)
            size = float(np.abs(direction).max())
            length = _line_search(evaluate, here, length, size)
        step = times(direction, length)
        new = {
            **following(state),
            "count": counted(number),
            "kept": counted(kept),
            "gradient": gradient,
            "step": step,
            "steps": steps,
            "changes": changes,
        }
        return _update(params, step), new

    return Optimizer(init, update)


def _fits(vectors: object, name: str, shape: Shape, dtype: np.dtype[Any]) -> None:
    found = checks.floating(vectors, f"state[{checks.shown(name)}]")
    checks.exact_shape(found.shape, shape, f"state[{name!r}]")
    if found.dtype != dtype:
        text = f"must be {dtype} as `params` are, got {found.dtype}"
        checks.refuse_type(f"`state[{checks.shown(name)}]` {text}")


def _moving(params: Params) -> Params:
    """All leaves but the statistics."""
    return tree.select(params, lambda path: not tree.is_statistic(path))


def _update(params: Params, step: Array) -> Params:
    """A vector as a tree like the parameters, 0 for the statistics."""
    moved = tree.unflatten(step, _moving(params))
    return tree.replace(tree.zeros_like(params), moved)


def _remembered(rows: Array, new: Array) -> Array:
    """The rows without the oldest, and a new one."""
    return np.concatenate([rows[1:], new[None]])


def _times_inverse_hessian(gradient: Array, steps: Array, changes: Array) -> Array:
    """``H g`` by the two-loop recursion; the identity where nothing is known yet."""
    out, factors = gradient.copy(), []
    for step, change in zip(steps[::-1], changes[::-1], strict=True):
        factor = _dot(step, out) / _dot(change, step)
        out -= factor * change
        factors.append(factor)
    if len(steps):
        out *= _dot(changes[-1], steps[-1]) / _dot(changes[-1], changes[-1])
    for step, change, factor in zip(steps, changes, reversed(factors), strict=True):
        out += (factor - _dot(change, out) / _dot(change, step)) * step
    return out
