"""The optimizers by the names they are known by, each a chain of transformations."""

from __future__ import annotations

from funcnn.optimizers.core import Optimizer, alias
from funcnn.optimizers.limits import Mask, add_decayed_weights
from funcnn.optimizers.scaling import Rate, scale_by_adam, scale_by_learning_rate, trace
from funcnn.types import Spec

__all__ = ["adam", "adamw", "momentum", "nesterov", "sgd"]


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
    options = {"nesterov": nesterov, "weight_decay": weight_decay, "mask": mask}
    spec = Spec(sgd, (learning_rate, momentum), options)
    return alias(spec, *parts, scale_by_learning_rate(learning_rate))


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
    momentum(0.1, 0.9)
    """
    return alias(
        Spec(momentum, (learning_rate, decay)), trace(decay), scale_by_learning_rate(learning_rate)
    )


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
    nesterov(0.1, 0.9)
    """
    return alias(
        Spec(nesterov, (learning_rate, decay)),
        trace(decay, nesterov=True),
        scale_by_learning_rate(learning_rate),
    )


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
    adam(cosine(0.001, 1000))
    """
    options = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}
    return alias(
        Spec(adam, (learning_rate,), options),
        scale_by_adam(beta1, beta2, epsilon),
        scale_by_learning_rate(learning_rate),
    )


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
    adamw(0.0003, 0.1)
    """
    options = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon, "mask": mask}
    return alias(
        Spec(adamw, (learning_rate, weight_decay), options),
        scale_by_adam(beta1, beta2, epsilon),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
