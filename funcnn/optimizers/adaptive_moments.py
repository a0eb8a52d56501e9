"""Adam and what is nearest to it."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

from funcnn import numerics
from funcnn.checks import Beside
from funcnn.optimizers.agreement import counted, counter, hold, real
from funcnn.optimizers.clipping import DECAYED, Mask, add_decayed_weights
from funcnn.optimizers.core import Leaves, Optimizer, Rate, State
from funcnn.optimizers.descent import scale_by_learning_rate
from funcnn.optimizers.moments import adam as step, moments, over_root, squares
from funcnn.optimizers.parts import (
    MOMENTS,
    NOT_NEGATIVE,
    RATE,
    Leafwise,
    Step,
    filled,
    leafwise,
    pipeline,
    power,
    remembering,
)
from funcnn.optimizers.rounding import optimizer
from funcnn.types import Array, Params

__all__ = ["adam", "adamw", "amsgrad", "nadam", "scale_by_adam", "scale_by_amsgrad", "scale_by_nadam"]


def corrections(beta1: float, beta2: float, epsilon: float, steps: int) -> tuple[float, float]:
    """What makes of ``m * factor / (sqrt(v) + shift)`` Adam's update.

    That is ``m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + epsilon)``, with the fewest passes
    over arrays.
    """
    root = sqrt(1 - power(beta2, steps))
    return root / (1 - power(beta1, steps)), epsilon * root


@optimizer(**MOMENTS)
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

    def at_step(steps: int) -> Callable[..., Leaves]:
        factor, shift = corrections(beta1, beta2, epsilon, steps)

        def leaf(
            path: str, gradient: Array, param: Array, mean: Array, square: Array, rate: float = 1.0
        ) -> Leaves:
            return step(gradient, mean, square, beta1, beta2, epsilon, factor, shift, rate)

        return leaf

    return remembering(at_step, True, mean=0, square=0)


@optimizer(**MOMENTS)
def scale_by_amsgrad(beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """Adam with the largest mean square so far, so that steps cannot grow again.

    Parameters
    ----------
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the mean square, at each step.
    epsilon : float, default 1e-8
        Added to the root.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "mean": tree, "square": tree, "largest": tree}``.

    Notes
    -----
    As `scale_by_adam`, with ``l = max(l, v)`` in the place of ``v``; as PyTorch, the largest is
    taken before, optax takes it after the division by ``1 - beta2**t``.

    References
    ----------
    S. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_amsgrad
    >>> optimizer, grads = scale_by_amsgrad(), {"w": np.array([3.0, -0.1])}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]["w"].round(6)
    array([ 1., -1.])
    """

    def at_step(steps: int) -> Callable[..., Leaves]:
        factor, shift = corrections(beta1, beta2, epsilon, steps)

        def leaf(
            path: str, gradient: Array, param: Array, mean: Array, square: Array, largest: Array
        ) -> Leaves:
            mean, seen, scratch = moments(gradient, mean, square, beta1, beta2, epsilon)
            most = squares(np.maximum(largest, seen.code), epsilon)
            return over_root(mean, most, shift, factor, scratch), mean, seen.code, most.code

        return leaf

    return remembering(at_step, mean=0, square=0, largest=0)


@optimizer(**MOMENTS, momentum_decay=Beside(NOT_NEGATIVE, "beta1"))
def scale_by_nadam(
    beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, momentum_decay: float = 4e-3
) -> Optimizer:
    """Adam with Nesterov's look ahead.

    Parameters
    ----------
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the mean square, at each step.
    epsilon : float, default 1e-8
        Added to the root.
    momentum_decay : float, default 4e-3
        How fast the momentum warms up.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "product": (), "mean": tree, "square": tree}``.

    Notes
    -----
    With ``mu(t) = beta1 (1 - 0.96**(momentum_decay t) / 2)`` and ``p(t)`` the product of all of them
    up to ``t``, the update is ``((1 - mu(t)) g / (1 - p(t)) + mu(t + 1) m / (1 - p(t + 1)))`` over
    ``sqrt(v / (1 - beta2**t)) + epsilon``, as in PyTorch; optax's has a constant ``mu``.

    References
    ----------
    T. Dozat, "Incorporating Nesterov momentum into Adam", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_nadam
    >>> optimizer, grads = scale_by_nadam(), {"w": np.array([3.0, -0.1])}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]["w"].round(4)
    array([ 1.0565, -1.0565])
    """

    def momentum(step: int) -> float:
        return beta1 * (1 - 0.5 * float(numerics.power(np.array(0.96), step * momentum_decay)))

    def init(params: Params) -> State:
        zeros = filled(params)
        return {"count": counted(0), "product": np.ones(()), "mean": zeros, "square": zeros}

    def at(state: State) -> Leafwise:
        hold(state, "count", "product", "mean", "square")
        steps = counter(state) + 1
        now, following = momentum(steps), momentum(steps + 1)
        product = real(state, "product") * now
        root = sqrt(1 - power(beta2, steps))
        of_gradient = root * (1 - now) / (1 - product)
        of_mean = root * following / (1 - product * following)

        def leaf(path: str, gradient: Array, param: Array, mean: Array, square: Array) -> Leaves:
            mean, seen, scratch = moments(gradient, mean, square, beta1, beta2, epsilon)
            ahead = gradient * of_gradient
            ahead += np.multiply(mean, of_mean, out=scratch)
            return over_root(ahead, seen, epsilon * root, out=scratch), mean, seen.code

        def close(mean: Params, square: Params) -> State:
            count, so_far = counted(steps), np.array(product)
            return {"count": count, "product": so_far, "mean": mean, "square": square}

        memory = {"mean": state["mean"], "square": state["square"]}
        return Leafwise([Step(leaf, 2)], memory, close)

    return leafwise(init, at)


@optimizer(learning_rate=RATE, **MOMENTS)
def adam(
    learning_rate: Rate = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> Optimizer:
    """Adaptive moments: each parameter's mean gradient over the root of its mean square.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-3
        About the length of a step, in each parameter.
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the mean square, at each step.
    epsilon : float, default 1e-8
        Added to the root.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_adam`; equals `torch.optim.Adam` and `optax.adam`. For an L2 penalty, chain
    `add_decayed_weights` before it; for decoupled weight decay, use `adamw`.

    References
    ----------
    D. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> from funcnn import optimizers, schedules
    >>> optimizers.adam(schedules.cosine(1e-3, 1000))
    adam(learning_rate=cosine(0.001, 1000))
    """
    return pipeline(scale_by_adam(beta1, beta2, epsilon), scale_by_learning_rate(learning_rate))


@optimizer(learning_rate=RATE, weight_decay=NOT_NEGATIVE, **MOMENTS, mask=DECAYED)
def adamw(
    learning_rate: Rate = 1e-3,
    weight_decay: float = 0.01,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    mask: Mask = None,
) -> Optimizer:
    """Adam with decoupled weight decay.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-3
        About the length of a step, in each parameter.
    weight_decay : float, default 0.01
        What a step takes away from the parameters is this fraction of them, times the learning rate.
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the mean square, at each step.
    epsilon : float, default 1e-8
        Added to the root.
    mask : str or callable, optional
        Which leaves decay, see `add_decayed_weights`; PyTorch decays all: ``"*"``.

    Returns
    -------
    Optimizer

    Notes
    -----
    ``w - lr (m / (sqrt(v) + epsilon) + weight_decay w)``; equals `torch.optim.AdamW` and
    `optax.adamw` with ``mask="*"``.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019.

    Examples
    --------
    >>> from funcnn.optimizers import adamw
    >>> adamw(3e-4, 0.1)
    adamw(learning_rate=0.0003, weight_decay=0.1)
    """
    return pipeline(
        scale_by_adam(beta1, beta2, epsilon),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@optimizer(learning_rate=RATE, **MOMENTS)
def amsgrad(
    learning_rate: Rate = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> Optimizer:
    """Adam with the largest mean square so far.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-3
        About the length of a step, in each parameter.
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the mean square, at each step.
    epsilon : float, default 1e-8
        Added to the root.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_amsgrad`; equals `torch.optim.Adam` with ``amsgrad=True``.

    References
    ----------
    S. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", 2018.

    Examples
    --------
    >>> from funcnn.optimizers import amsgrad
    >>> amsgrad()
    amsgrad()
    """
    return pipeline(scale_by_amsgrad(beta1, beta2, epsilon), scale_by_learning_rate(learning_rate))


@optimizer(learning_rate=RATE, **MOMENTS, momentum_decay=Beside(NOT_NEGATIVE, "beta1"))
def nadam(
    learning_rate: Rate = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    *,
    momentum_decay: float = 4e-3,
) -> Optimizer:
    """Adam with Nesterov's look ahead.

    Parameters
    ----------
    learning_rate : float or schedule, default 2e-3
        About the length of a step, in each parameter.
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the mean square, at each step.
    epsilon : float, default 1e-8
        Added to the root.
    momentum_decay : float, default 4e-3
        How fast the momentum warms up.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_nadam`; equals `torch.optim.NAdam`.

    References
    ----------
    T. Dozat, "Incorporating Nesterov momentum into Adam", 2016.

    Examples
    --------
    >>> from funcnn.optimizers import nadam
    >>> nadam(1e-3)
    nadam(learning_rate=0.001)
    """
    direction = scale_by_nadam(beta1, beta2, epsilon, momentum_decay)
    return pipeline(direction, scale_by_learning_rate(learning_rate))
