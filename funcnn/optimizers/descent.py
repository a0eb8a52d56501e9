"""Steps along the gradient, as it is or with momentum."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from funcnn import checks, numerics
from funcnn.checks import Beside, Integer, Number
from funcnn.optimizers.agreement import counted, counter, hold, real
from funcnn.optimizers.clipping import DECAYED, Mask, add_decayed_weights
from funcnn.optimizers.core import Leaves, Optimizer, Rate, State
from funcnn.optimizers.moments import moved, times
from funcnn.optimizers.parts import (
    FLAG,
    FRACTION,
    NOT_NEGATIVE,
    PART,
    RATE,
    Leafwise,
    Step,
    filled,
    leafwise,
    pipeline,
    stateless,
)
from funcnn.optimizers.rounding import optimizer
from funcnn.optimizers.wrappers import average
from funcnn.types import Array, Params

__all__ = ["asgd", "momentum", "nesterov", "scale", "scale_by_learning_rate", "sgd", "trace"]


@optimizer(factor=Number())
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
        return {"learning_rate": rate}, dict

    def at(step: int) -> State:
        rate = NOT_NEGATIVE.check(f"learning_rate({step})", learning_rate(step))
        return {"count": counted(step), "learning_rate": np.array(rate)}

    return at(0), lambda state: at(counter(state) + 1)


@optimizer(learning_rate=RATE)
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

    def at(state: State) -> Leafwise:
        hold(state, *start)
        return Leafwise([-real(state, "learning_rate")], {}, partial(following, state))

    return leafwise(init, at)


@optimizer(decay=FRACTION, nesterov=Beside(FLAG, "decay"), dampening=PART)
def trace(decay: float = 0.9, *, nesterov: bool = False, dampening: float = 0.0) -> Optimizer:
    """Momentum: a decaying sum of gradients.

    Parameters
    ----------
    decay : float, default 0.9
        What is kept of the sum at each step.
    nesterov : bool, default False
        Whether to look one step ahead.
    dampening : float, default 0.0
        The fraction of each gradient but the first that is left out; not together with `nesterov`.

    Returns
    -------
    Optimizer
        With state ``{"trace": tree}``; with `dampening`, also ``"count": ()``.

    Notes
    -----
    ``t = decay t + (1 - dampening) g``, from ``t = g``; the update is ``t``, with `nesterov`
    ``decay t + g``. As `optax.trace`, which has no dampening. In float32, sums beyond the
    largest number are kept as that number.

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

    if nesterov and dampening:
        checks.refuse(f"`dampening` must be 0 with `nesterov`, got {dampening}")
    start: State = {"count": counted(0)} if dampening else {}

    def init(params: Params) -> State:
        return {**start, "trace": filled(params)}

    def at(state: State) -> Leafwise:
        hold(state, *start, "trace")
        steps = counter(state) + 1 if dampening else 1
        taken = 1.0 if steps == 1 else 1 - dampening

        def leaf(path: str, gradient: Array, param: Array, old: Array) -> Leaves:
            new = moved(gradient if taken == 1 else gradient * taken, old, decay)
            return (moved(gradient, new, decay) if nesterov else new), new

        def close(new: Params) -> State:
            return {**({"count": counted(steps)} if dampening else {}), "trace": new}

        return Leafwise([Step(leaf, 1)], {"trace": state["trace"]}, close)

    return leafwise(init, at)


@optimizer(
    learning_rate=RATE,
    momentum=FRACTION,
    nesterov=Beside(FLAG, "momentum"),
    dampening=Beside(PART, "momentum"),
    weight_decay=NOT_NEGATIVE,
    mask=DECAYED,
)
def sgd(
    learning_rate: Rate,
    momentum: float = 0.0,
    *,
    nesterov: bool = False,
    dampening: float = 0.0,
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
        Whether `momentum`, which must be above 0, looks one step ahead.
    dampening : float, default 0.0
        The fraction of each gradient but the first that `momentum`, above 0, leaves out.
    weight_decay : float, default 0.0
        The fraction of the parameters that is added to their gradients.
    mask : str or callable, optional
        Which leaves decay, see `add_decayed_weights`.

    Returns
    -------
    Optimizer

    Notes
    -----
    ``w - lr t`` with ``t = momentum t + (1 - dampening) g``; equals `torch.optim.SGD`.

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
        parts.append(trace(momentum, nesterov=nesterov, dampening=dampening))
    return pipeline(*parts, scale_by_learning_rate(learning_rate))


@optimizer(learning_rate=RATE, decay=FRACTION)
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


@optimizer(learning_rate=RATE, decay=Number(above=0, below=1))
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


@optimizer(
    learning_rate=RATE,
    decay=NOT_NEGATIVE,
    power=Beside(NOT_NEGATIVE, "decay"),
    start=Integer(0),
    weight_decay=NOT_NEGATIVE,
    mask=DECAYED,
)
def asgd(
    learning_rate: Rate = 1e-2,
    *,
    decay: float = 1e-4,
    power: float = 0.75,
    start: int = 10**6,
    weight_decay: float = 0.0,
    mask: Mask = None,
) -> Optimizer:
    """Gradient descent with falling steps, and the mean of where it has been.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-2
        The length of the first step.
    decay : float, default 1e-4
        How fast the steps get shorter; this fraction of all parameters is added to their gradients.
    power : float, default 0.75
        The power with which the steps get shorter.
    start : int, default 1000000
        The step at which the mean begins; until then, it follows the parameters.
    weight_decay : float, default 0.0
        The fraction of the parameters that is added to their gradients.
    mask : str or callable, optional
        For which leaves `weight_decay` counts, see `add_decayed_weights`.

    Returns
    -------
    Optimizer
        Its state holds the mean, read by `ema_params`.

    Notes
    -----
    ``w - e (g + decay w)`` with ``e = lr / (1 + decay lr t)**power`` at the 0-based step ``t``;
    equals `torch.optim.ASGD`.

    References
    ----------
    B. Polyak and A. Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

    Examples
    --------
    >>> from funcnn.optimizers import asgd
    >>> asgd(0.1, start=100)
    asgd(learning_rate=0.1, start=100)
    """

    def falling(step: int) -> float:
        rate = learning_rate(step) if callable(learning_rate) else learning_rate
        return rate / float(numerics.power(np.array(1 + decay * rate * step), power))

    return pipeline(
        *([add_decayed_weights(weight_decay, mask)] if weight_decay else []),
        add_decayed_weights(decay, "*"),
        scale_by_learning_rate(falling),
        average(start),
    )
