"""Transformations that turn a gradient into a direction, or set its length."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np

from funcnn import _checks, tree
from funcnn.optimizers.core import (
    Optimizer,
    State,
    count,
    counted,
    power,
    stateless,
    walk,
    zero,
)
from funcnn.types import Array, Params, Spec

__all__ = [
    "scale",
    "scale_by_adam",
    "scale_by_learning_rate",
    "trace",
]

Rate = float | Callable[[int], float]


def scale(factor: float) -> Optimizer:
    """Multiply by a number.

    Parameters
    ----------
    factor : float
        The number.

    Returns
    -------
    Optimizer
        Without state.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale
    >>> scale(-2.0).update({"w": np.ones(1)}, {}, {"w": np.ones(1)})
    ({'w': array([-2.])}, {})
    """
    factor = _checks.number("scale", "factor", factor)
    return stateless(Spec(scale, (factor,)), lambda path, gradient, param: gradient * factor)


def scale_by_learning_rate(learning_rate: Rate) -> Optimizer:
    """Multiply by minus the learning rate: the way down.

    Parameters
    ----------
    learning_rate : float or schedule
        A number of at least 0, or a function of the 0-based step.

    Returns
    -------
    Optimizer
        With state ``{"learning_rate": ()}``, the rate of the next update, which is read by
        `funcnn.optimizers.learning_rate`; for a schedule also ``"count": ()``, the steps taken.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_learning_rate
    >>> optimizer = scale_by_learning_rate(0.5)
    >>> optimizer.update({"w": np.ones(1)}, optimizer.init({}), {"w": np.ones(1)})
    ({'w': array([-0.5])}, {'learning_rate': array(0.5)})
    """
    who = "scale_by_learning_rate"
    if not callable(learning_rate):
        learning_rate = _checks.number(who, "learning_rate", learning_rate, minimum=0)

    def at(step: int) -> Array:
        return np.array(learning_rate(step) if callable(learning_rate) else learning_rate, np.float64)

    def init(params: Params) -> State:
        return {"count": zero(), "learning_rate": at(0)} if callable(learning_rate) else {
            "learning_rate": at(0)
        }

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        rate = -float(state["learning_rate"])

        def leaf(path: str, gradient: Array, param: Array) -> tuple[Any]:
            return (gradient * rate,)

        updates = walk(who, leaf, grads, params)[0]
        if callable(learning_rate):
            steps = count(state)
            state = {"count": counted(steps), "learning_rate": at(steps)}
        return updates, state

    return Optimizer(init, update, Spec(scale_by_learning_rate, (learning_rate,)))


def trace(decay: float = 0.9, *, nesterov: bool = False) -> Optimizer:
    """Momentum: a decaying sum of gradients.

    Parameters
    ----------
    decay : float, default 0.9
        What is kept of the sum at each step.
    nesterov : bool, default False
        Whether to look one step ahead.

    Returns
    -------
    Optimizer
        With state ``{"trace": tree}``.

    Notes
    -----
    ``t = decay t + g``; the update is ``t``, with `nesterov` ``decay t + g``. As `optax.trace`.

    References
    ----------
    I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import trace
    >>> one, momentum = {"w": np.ones(1)}, trace(0.5)
    >>> _, state = momentum.update(one, momentum.init(one), one)
    >>> momentum.update(one, state, one)[0]
    {'w': array([1.5])}
    """
    decay = _checks.number("trace", "decay", decay, minimum=0, below=1)
    nesterov = _checks.boolean("trace", "nesterov", nesterov)

    def init(params: Params) -> State:
        return {"trace": tree.zeros_like(params)}

    def leaf(path: str, gradient: Array, param: Array, old: Array) -> tuple[Any, Any]:
        new = old * decay
        new += gradient
        return (new * decay + gradient if nesterov else new), new

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        updates, new = walk("trace", leaf, grads, params, state["trace"])
        return updates, {"trace": new}

    return Optimizer(init, update, Spec(trace, (decay,), {"nesterov": nesterov}))


def averaged(old: Array, new: Array, decay: float) -> Any:
    """``decay old + (1 - decay) new``."""
    out = old * decay
    out += new * (1 - decay)
    return out


def betas(who: str, beta1: float, beta2: float, epsilon: float) -> tuple[float, float, float]:
    """The three numbers of Adam and its family."""
    return (
        _checks.number(who, "beta1", beta1, minimum=0, below=1),
        _checks.number(who, "beta2", beta2, minimum=0, below=1),
        _checks.number(who, "epsilon", epsilon, minimum=0),
    )


def scale_by_adam(beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """The mean gradient over the root of the mean squared gradient.

    Parameters
    ----------
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the mean square, at each step.
    epsilon : float, default 1e-8
        Added to the root.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "mean": tree, "square": tree}``.

    Notes
    -----
    ``m = beta1 m + (1 - beta1) g`` and ``v = beta2 v + (1 - beta2) g**2``, both divided by
    ``1 - beta**t`` as they begin at 0; the update is ``m / (sqrt(v) + epsilon)``.

    References
    ----------
    D. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_adam
    >>> optimizer, grads = scale_by_adam(), {"w": np.array([3.0, -0.1])}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]["w"].round(6)
    array([ 1., -1.])
    """
    beta1, beta2, epsilon = betas("scale_by_adam", beta1, beta2, epsilon)

    def init(params: Params) -> State:
        zeros = tree.zeros_like(params)
        return {"count": zero(), "mean": zeros, "square": zeros}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        steps = count(state)
        # m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + epsilon), with the fewest passes over arrays
        root = sqrt(1 - power(beta2, steps))
        shift, factor = epsilon * root, root / (1 - power(beta1, steps))

        def leaf(
            path: str, gradient: Array, param: Array, mean: Array, square: Array
        ) -> tuple[Any, Any, Any]:
            mean = averaged(mean, gradient, beta1)
            square = averaged(square, gradient * gradient, beta2)
            out = np.sqrt(square)
            out += shift
            out = mean / out
            out *= factor
            return out, mean, square

        updates, mean, square = walk(
            "scale_by_adam", leaf, grads, params, state["mean"], state["square"]
        )
        return updates, {"count": counted(steps), "mean": mean, "square": square}

    return Optimizer(init, update, Spec(scale_by_adam, (beta1, beta2, epsilon)))
