"""Steps along the gradient, as it is or with momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn.checks import Number, declared
from funcnn.optimizers.agreement import counted, counter, hold, real
from funcnn.optimizers.clipping import MASK, Mask, add_decayed_weights
from funcnn.optimizers.core import Optimizer, Rate, State
from funcnn.optimizers.moments import averaged, times
from funcnn.optimizers.parts import (
    FLAG,
    FRACTION,
    NOT_NEGATIVE,
    RATE,
    filled,
    pipeline,
    remembering,
    stateless,
    walk,
)
from funcnn.types import Array, Params

Leaves = tuple[Any, ...]

__all__ = [
    "lion",
    "momentum",
    "nesterov",
    "scale",
    "scale_by_learning_rate",
    "scale_by_lion",
    "sgd",
    "trace",
]


@declared(factor=Number())
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
    return stateless(lambda path, gradient, param: times(gradient, factor))


def rates(learning_rate: Rate) -> tuple[State, Callable[[State], State]]:
    """The start of a state that holds the learning rate, and the step from one to the next."""
    if not callable(learning_rate):
        rate = np.array(learning_rate)
        return {"learning_rate": rate}, lambda state: {"learning_rate": state["learning_rate"]}

    def at(step: int) -> State:
        rate = NOT_NEGATIVE.check(f"learning_rate({step})", learning_rate(step))
        return {"count": counted(step), "learning_rate": np.array(rate)}

    return at(0), lambda state: at(counter(state) + 1)


@declared(learning_rate=RATE)
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
    start, following = rates(learning_rate)

    def init(params: Params) -> State:
        filled(params)
        return start

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        hold(state, *start)
        rate = -real(state, "learning_rate")

        def leaf(path: str, gradient: Array, param: Array) -> tuple[Any]:
            return (times(gradient, rate),)

        return walk(leaf, grads, params)[0], following(state)

    return Optimizer(init, update)


@declared(decay=FRACTION, nesterov=FLAG)
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

    def init(params: Params) -> State:
        return {"trace": filled(params)}

    def leaf(path: str, gradient: Array, param: Array, old: Array) -> tuple[Any, Any]:
        new = old * decay
        new += gradient
        return (new * decay + gradient if nesterov else new), new

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        hold(state, "trace")
        updates, new = walk(leaf, grads, params, trace=state["trace"])
        return updates, {"trace": new}

    return Optimizer(init, update)


@declared(beta1=FRACTION, beta2=FRACTION)
def scale_by_lion(beta1: float = 0.9, beta2: float = 0.99) -> Optimizer:
    """The sign of the momentum: every parameter moves equally far.

    Parameters
    ----------
    beta1 : float, default 0.9
        What the mean counts in the update, against the gradient.
    beta2 : float, default 0.99
        What is kept of the mean at each step.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "mean": tree}``.

    Notes
    -----
    The update is ``sign(beta1 m + (1 - beta1) g)``; then ``m = beta2 m + (1 - beta2) g``.

    References
    ----------
    X. Chen et al., "Symbolic discovery of optimization algorithms", 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_lion
    >>> optimizer, grads = scale_by_lion(), {"w": np.array([3.0, -0.1])}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]
    {'w': array([ 1., -1.])}
    """

    def leaf(path: str, gradient: Array, param: Array, mean: Array) -> tuple[Any, ...]:
        return np.sign(averaged(mean, gradient, beta1)), averaged(mean, gradient, beta2)

    return remembering(lambda steps: leaf, "mean")


@declared(learning_rate=RATE, momentum=FRACTION, nesterov=FLAG, weight_decay=NOT_NEGATIVE, mask=MASK)
def sgd(
    learning_rate: Rate,
    momentum: float = 0.0,
    *,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    mask: Mask = None,
) -> Optimizer:
    """Gradient descent, with momentum or without.

    Parameters
    ----------
    learning_rate : float or schedule
        The length of a step.
    momentum : float, default 0.0
        What is kept of earlier steps.
    nesterov : bool, default False
        Whether momentum looks one step ahead.
    weight_decay : float, default 0.0
        The fraction of the parameters that is added to their gradients.
    mask : str or callable, optional
        Which leaves decay, see `add_decayed_weights`.

    Returns
    -------
    Optimizer

    Notes
    -----
    ``w - lr t`` with ``t = momentum t + g``; equals `torch.optim.SGD`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import apply_updates, sgd
    >>> optimizer, params = sgd(0.1), {"w": np.array([1.0])}
    >>> updates, _ = optimizer.update({"w": np.array([2.0])}, optimizer.init(params), params)
    >>> apply_updates(params, updates)
    {'w': array([0.8])}
    """
    parts = [add_decayed_weights(weight_decay, mask)] if weight_decay else []
    if momentum:
        parts.append(trace(momentum, nesterov=nesterov))
    return pipeline(*parts, scale_by_learning_rate(learning_rate))


@declared(learning_rate=RATE, decay=FRACTION)
def momentum(learning_rate: Rate, decay: float = 0.9) -> Optimizer:
    """Gradient descent with momentum.

    Parameters
    ----------
    learning_rate : float or schedule
        The length of a step.
    decay : float, default 0.9
        What is kept of earlier steps.

    Returns
    -------
    Optimizer

    Notes
    -----
    ``w - lr t`` with ``t = decay t + g``; equals `torch.optim.SGD`.

    References
    ----------
    B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.

    Examples
    --------
    >>> from funcnn.optimizers import momentum
    >>> momentum(0.1)
    momentum(0.1)
    """
    return pipeline(trace(decay), scale_by_learning_rate(learning_rate))


@declared(learning_rate=RATE, decay=FRACTION)
def nesterov(learning_rate: Rate, decay: float = 0.9) -> Optimizer:
    """Gradient descent with momentum that looks one step ahead.

    Parameters
    ----------
    learning_rate : float or schedule
        The length of a step.
    decay : float, default 0.9
        What is kept of earlier steps.

    Returns
    -------
    Optimizer

    Notes
    -----
    ``w - lr (decay t + g)`` with ``t = decay t + g``; equals `torch.optim.SGD` with
    ``nesterov=True``.

    References
    ----------
    Y. Nesterov, "A method for unconstrained convex minimization problem with the rate of
    convergence O(1/k^2)", 1983.

    Examples
    --------
    >>> from funcnn.optimizers import nesterov
    >>> nesterov(0.1)
    nesterov(0.1)
    """
    return pipeline(trace(decay, nesterov=True), scale_by_learning_rate(learning_rate))


@declared(learning_rate=RATE, weight_decay=NOT_NEGATIVE, beta1=FRACTION, beta2=FRACTION, mask=MASK)
def lion(
    learning_rate: Rate = 1e-4,
    weight_decay: float = 1e-3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.99,
    mask: Mask = None,
) -> Optimizer:
    """The sign of the momentum.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-4
        How far every parameter moves; a third to a tenth of Adam's.
    weight_decay : float, default 1e-3
        Decoupled weight decay, as in `adamw`.
    beta1, beta2 : float, default 0.9, 0.99
        What the mean counts in the update, and what is kept of it at each step.
    mask : str or callable, optional
        Which leaves decay, see `add_decayed_weights`.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_lion`; equals `optax.lion`. PyTorch has none.

    References
    ----------
    X. Chen et al., "Symbolic discovery of optimization algorithms", 2023.

    Examples
    --------
    >>> from funcnn.optimizers import lion
    >>> lion(3e-4)
    lion(learning_rate=0.0003)
    """
    return pipeline(
        scale_by_lion(beta1, beta2),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
