"""The optimizers by the names they are known by, each a chain of transformations."""

from __future__ import annotations

from math import sqrt

from funcnn import _checks
from funcnn.optimizers.core import Optimizer, alias, chain
from funcnn.optimizers.limits import Mask, add_decayed_weights, selects
from funcnn.optimizers.matrices import (
    scale_by_factored_rms,
    scale_by_muon,
    scale_by_parameter_size,
)
from funcnn.optimizers.scaling import (
    Rate,
    scale_by_adadelta,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_adamax,
    scale_by_amsgrad,
    scale_by_belief,
    scale_by_learning_rate,
    scale_by_lion,
    scale_by_nadam,
    scale_by_radam,
    scale_by_rms,
    scale_by_trust_ratio,
    trace,
)
from funcnn.optimizers.wrappers import divided
from funcnn.types import Array, Spec

__all__ = [
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "amsgrad",
    "lamb",
    "lars",
    "lion",
    "momentum",
    "muon",
    "nadam",
    "nesterov",
    "radam",
    "rmsprop",
    "sgd",
]


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


def adagrad(
    learning_rate: Rate = 1e-2, *, initial: float = 0.0, epsilon: float = 1e-10
) -> Optimizer:
    """Each parameter's gradient over the root of the sum of its squares so far.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-2
        The length of the first step, in each parameter.
    initial : float, default 0.0
        Where the sum starts.
    epsilon : float, default 1e-10
        Added to the root.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_adagrad`; equals `torch.optim.Adagrad`.

    References
    ----------
    J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", 2011.

    Examples
    --------
    >>> from funcnn.optimizers import adagrad
    >>> adagrad(0.1)
    adagrad(0.1)
    """
    return alias(
        Spec(adagrad, (learning_rate,), {"initial": initial, "epsilon": epsilon}),
        scale_by_adagrad(initial, epsilon),
        scale_by_learning_rate(learning_rate),
    )


def adadelta(
    learning_rate: Rate = 1.0, *, decay: float = 0.9, epsilon: float = 1e-6
) -> Optimizer:
    """Steps as long as the last ones were, which needs no learning rate.

    Parameters
    ----------
    learning_rate : float or schedule, default 1.0
        What the step is multiplied by.
    decay : float, default 0.9
        What is kept of the mean squares at each step.
    epsilon : float, default 1e-6
        Added to the mean squares.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_adadelta`; equals `torch.optim.Adadelta`.

    References
    ----------
    M. Zeiler, "ADADELTA: an adaptive learning rate method", 2012.

    Examples
    --------
    >>> from funcnn.optimizers import adadelta
    >>> adadelta()
    adadelta(1.0)
    """
    return alias(
        Spec(adadelta, (learning_rate,), {"decay": decay, "epsilon": epsilon}),
        scale_by_adadelta(decay, epsilon),
        scale_by_learning_rate(learning_rate),
    )


def rmsprop(
    learning_rate: Rate = 1e-2,
    *,
    decay: float = 0.99,
    epsilon: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
) -> Optimizer:
    """Each parameter's gradient over the root of its mean square.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-2
        About the length of a step, in each parameter.
    decay : float, default 0.99
        What is kept of the mean square at each step.
    epsilon : float, default 1e-8
        Added to the root.
    momentum : float, default 0.0
        What is kept of earlier steps.
    centered : bool, default False
        Whether to divide by the standard deviation instead.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_rms`; equals `torch.optim.RMSprop`.

    References
    ----------
    T. Tieleman and G. Hinton, "RMSProp: divide the gradient by a running average of its recent
    magnitude", Coursera lecture 6.5, 2012.

    Examples
    --------
    >>> from funcnn.optimizers import rmsprop
    >>> rmsprop(1e-3, momentum=0.9)
    rmsprop(0.001, momentum=0.9)
    """
    options = {"decay": decay, "epsilon": epsilon, "momentum": momentum, "centered": centered}
    return alias(
        Spec(rmsprop, (learning_rate,), options),
        scale_by_rms(decay, epsilon, centered=centered),
        *([trace(momentum)] if momentum else []),
        scale_by_learning_rate(learning_rate),
    )


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
    nadam(0.001)
    """
    betas = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}
    return alias(
        Spec(nadam, (learning_rate,), {**betas, "momentum_decay": momentum_decay}),
        scale_by_nadam(beta1, beta2, epsilon, momentum_decay),
        scale_by_learning_rate(learning_rate),
    )


def radam(
    learning_rate: Rate = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> Optimizer:
    """Adam that trusts its mean square only once it has seen enough of it.

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
    See `scale_by_radam`; equals `torch.optim.RAdam`.

    References
    ----------
    L. Liu et al., "On the variance of the adaptive learning rate and beyond", 2020.

    Examples
    --------
    >>> from funcnn.optimizers import radam
    >>> radam()
    radam(0.001)
    """
    return alias(
        Spec(radam, (learning_rate,), {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}),
        scale_by_radam(beta1, beta2, epsilon),
        scale_by_learning_rate(learning_rate),
    )


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
    amsgrad(0.001)
    """
    return alias(
        Spec(amsgrad, (learning_rate,), {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}),
        scale_by_amsgrad(beta1, beta2, epsilon),
        scale_by_learning_rate(learning_rate),
    )


def adamax(
    learning_rate: Rate = 2e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> Optimizer:
    """Adam with the largest recent gradient in the place of the mean square.

    Parameters
    ----------
    learning_rate : float or schedule, default 2e-3
        About the length of a step, in each parameter.
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the largest, at each step.
    epsilon : float, default 1e-8
        Added to each gradient's absolute value.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_adamax`; equals `torch.optim.Adamax`.

    References
    ----------
    D. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015, section 7.1.

    Examples
    --------
    >>> from funcnn.optimizers import adamax
    >>> adamax()
    adamax(0.002)
    """
    return alias(
        Spec(adamax, (learning_rate,), {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}),
        scale_by_adamax(beta1, beta2, epsilon),
        scale_by_learning_rate(learning_rate),
    )


def adabelief(
    learning_rate: Rate = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-16
) -> Optimizer:
    """Adam that goes far where the gradient is as expected.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-3
        About the length of a step, in each parameter.
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the mean squared surprise, at each step.
    epsilon : float, default 1e-16
        Added to the root, and to the mean square at each step.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_belief`; equals `optax.adabelief`. PyTorch has none.

    References
    ----------
    J. Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients",
    2020.

    Examples
    --------
    >>> from funcnn.optimizers import adabelief
    >>> adabelief()
    adabelief(0.001)
    """
    return alias(
        Spec(adabelief, (learning_rate,), {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}),
        scale_by_belief(beta1, beta2, epsilon),
        scale_by_learning_rate(learning_rate),
    )


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
    lion(0.0003, 0.001)
    """
    options = {"beta1": beta1, "beta2": beta2, "mask": mask}
    return alias(
        Spec(lion, (learning_rate, weight_decay), options),
        scale_by_lion(beta1, beta2),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def lamb(
    learning_rate: Rate = 1e-3,
    weight_decay: float = 0.0,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-6,
    mask: Mask = None,
) -> Optimizer:
    """Adam whose steps are as long, for each leaf, as the leaf itself: for large batches.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-3
        The length of a step, as a fraction of the length of each leaf.
    weight_decay : float, default 0.0
        Decoupled weight decay, before the length is set.
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the mean square, at each step.
    epsilon : float, default 1e-6
        Added to the root.
    mask : str or callable, optional
        Which leaves decay, see `add_decayed_weights`.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_adam` and `scale_by_trust_ratio`; equals `optax.lamb`. PyTorch has none.

    References
    ----------
    Y. You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", 2020.

    Examples
    --------
    >>> from funcnn.optimizers import lamb
    >>> lamb(0.01)
    lamb(0.01, 0.0)
    """
    options = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon, "mask": mask}
    return alias(
        Spec(lamb, (learning_rate, weight_decay), options),
        scale_by_adam(beta1, beta2, epsilon),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )


def lars(
    learning_rate: Rate,
    weight_decay: float = 0.0,
    *,
    coefficient: float = 1e-3,
    epsilon: float = 0.0,
    momentum: float = 0.9,
    nesterov: bool = False,
    mask: Mask = None,
) -> Optimizer:
    """Momentum whose steps are as long, for each leaf, as the leaf itself: for large batches.

    Parameters
    ----------
    learning_rate : float or schedule
        The length of a step.
    weight_decay : float, default 0.0
        The fraction of the parameters that is added to their gradients.
    coefficient : float, default 1e-3
        The length of a step as a fraction of the length of each leaf, at learning rate 1.
    epsilon : float, default 0.0
        Added to the gradient's length.
    momentum : float, default 0.9
        What is kept of earlier steps.
    nesterov : bool, default False
        Whether momentum looks one step ahead.
    mask : str or callable, optional
        Which leaves decay, see `add_decayed_weights`.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_trust_ratio` and `trace`, which sees the learning rate; equals `optax.lars`.
    PyTorch has none.

    References
    ----------
    Y. You, I. Gitman and B. Ginsburg, "Large batch training of convolutional networks", 2017.

    Examples
    --------
    >>> from funcnn.optimizers import lars
    >>> lars(1.0, 1e-4)
    lars(1.0, 0.0001)
    """
    options = {"coefficient": coefficient, "epsilon": epsilon, "momentum": momentum}
    return alias(
        Spec(lars, (learning_rate, weight_decay), {**options, "nesterov": nesterov, "mask": mask}),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(coefficient, epsilon),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov=nesterov),
    )


def adafactor(
    learning_rate: Rate = 1e-2,
    weight_decay: float = 0.0,
    *,
    decay: float = 0.8,
    limit: float = 1.0,
    least: float = 1e-3,
    mask: Mask = None,
) -> Optimizer:
    """Adam with next to no memory: mean squares as a row times a column, steps relative to size.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-2
        The length of a step as a fraction of the size of each leaf; never more than ``1 / sqrt(t)``.
    weight_decay : float, default 0.0
        Decoupled weight decay, as in `adamw`.
    decay : float, default 0.8
        How fast the mean square slows down.
    limit : float, default 1.0
        The largest root mean square of an update, before it is scaled.
    least : float, default 1e-3
        The smallest size of a leaf.
    mask : str or callable, optional
        Which leaves decay, see `add_decayed_weights`.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_factored_rms` and `scale_by_parameter_size`; equals `torch.optim.Adafactor`, but
    that weight decay, too, goes with ``min(lr, 1 / sqrt(t))``.

    References
    ----------
    N. Shazeer and M. Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.

    Examples
    --------
    >>> from funcnn.optimizers import adafactor
    >>> adafactor()
    adafactor(0.01, 0.0)
    """

    def falling(step: int) -> float:
        rate = learning_rate(step) if callable(learning_rate) else learning_rate
        return min(rate, 1 / sqrt(step + 1))

    if not callable(learning_rate):
        _checks.number("adafactor", "learning_rate", learning_rate, minimum=0)
    options = {"decay": decay, "limit": limit, "least": least, "mask": mask}
    return alias(
        Spec(adafactor, (learning_rate, weight_decay), options),
        scale_by_factored_rms(decay, limit),
        scale_by_parameter_size(least),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(falling),
    )


def muon(
    learning_rate: Rate = 2e-2,
    weight_decay: float = 0.0,
    *,
    decay: float = 0.95,
    nesterov: bool = True,
    iterations: int = 5,
    matrices: Mask = None,
    others: Optimizer | None = None,
) -> Optimizer:
    """Momentum made orthogonal for the matrices, another optimizer for the rest.

    Parameters
    ----------
    learning_rate : float or schedule, default 2e-2
        The size of the singular values of a step.
    weight_decay : float, default 0.0
        Decoupled weight decay of the matrices, as in `adamw`.
    decay : float, default 0.95
        What is kept of the mean gradient at each step.
    nesterov : bool, default True
        Whether momentum looks one step ahead.
    iterations : int, default 5
        Newton-Schulz iterations.
    matrices : str or callable, optional
        For which matrices: a shell pattern for their paths, or a function ``(path, leaf) -> bool``.
        All by default; the authors leave out embeddings and the last layer.
    others : Optimizer, optional
        For all other leaves; by default `adam` with the same learning rate.

    Returns
    -------
    Optimizer
        With state ``{"matrices": ..., "others": ...}``.

    Notes
    -----
    See `scale_by_muon`; equals `optax.contrib.muon` (whose weights are transposed, and whose Adam
    looks ahead, too). PyTorch's `Muon` computes in bfloat16.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Examples
    --------
    >>> from funcnn.optimizers import adamw, muon
    >>> muon(0.02, others=adamw(3e-4))
    muon(0.02, 0.0, others=adamw(0.0003, 0.01))
    """
    wanted = selects("muon", "*" if matrices is None else matrices)
    parts = {
        "matrices": chain(
            scale_by_muon(decay, nesterov=nesterov, iterations=iterations),
            add_decayed_weights(weight_decay, "*"),
            scale_by_learning_rate(learning_rate),
        ),
        "others": adam(learning_rate) if others is None else others,
    }

    def choose(path: str, leaf: Array) -> str:
        return "matrices" if leaf.ndim == 2 and wanted(path, leaf) else "others"

    options = {
        "decay": decay,
        "nesterov": nesterov,
        "iterations": iterations,
        "matrices": matrices,
        "others": others,
    }
    return divided(Spec(muon, (learning_rate, weight_decay), options), parts, choose)
