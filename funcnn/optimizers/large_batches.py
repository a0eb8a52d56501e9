"""Steps as long as the parameters, leaf by leaf: for large batches."""

from __future__ import annotations

from typing import Any

from funcnn.checks import Beside
from funcnn.optimizers.adaptive_moments import scale_by_adam
from funcnn.optimizers.clipping import DECAYED, Mask, add_decayed_weights
from funcnn.optimizers.core import Optimizer, Rate
from funcnn.optimizers.descent import scale_by_learning_rate, trace
from funcnn.optimizers.moments import length, times
from funcnn.optimizers.parts import (
    FLAG,
    FRACTION,
    MOMENTS,
    NOT_NEGATIVE,
    POSITIVE,
    RATE,
    pipeline,
    stateless,
)
from funcnn.optimizers.rounding import optimizer
from funcnn.types import Array

__all__ = ["lamb", "lars", "scale_by_trust_ratio"]


@optimizer(coefficient=POSITIVE, epsilon=NOT_NEGATIVE)
def scale_by_trust_ratio(coefficient: float = 1.0, epsilon: float = 0.0) -> Optimizer:
    """Make each leaf's update as long as the leaf itself, times a coefficient.

    Parameters
    ----------
    coefficient : float, default 1.0
        The coefficient.
    epsilon : float, default 0.0
        Added to the update's length.

    Returns
    -------
    Optimizer
        Without state.

    Notes
    -----
    ``u * coefficient |w| / (|u| + epsilon)``; ``u`` itself where either length is 0. As optax.

    References
    ----------
    Y. You, I. Gitman and B. Ginsburg, "Large batch training of convolutional networks", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_trust_ratio
    >>> scale_by_trust_ratio().update({"w": np.array([0.6, 0.8])}, {}, {"w": np.array([5.0, 0.0])})[0]
    {'w': array([3., 4.])}
    """

    def leaf(path: str, gradient: Array, param: Array) -> Any:
        ours, its = length(param), length(gradient)
        ratio = coefficient * ours / (its + epsilon) if ours and its else 1.0
        return times(gradient, ratio)

    return stateless(leaf)


@optimizer(learning_rate=RATE, weight_decay=NOT_NEGATIVE, **MOMENTS, mask=DECAYED)
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
    lamb(learning_rate=0.01)
    """
    return pipeline(
        scale_by_adam(beta1, beta2, epsilon),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )


@optimizer(
    learning_rate=RATE,
    weight_decay=NOT_NEGATIVE,
    coefficient=POSITIVE,
    epsilon=NOT_NEGATIVE,
    momentum=FRACTION,
    nesterov=Beside(FLAG, "momentum"),
    mask=DECAYED,
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
    lars(1.0, weight_decay=0.0001)
    """
    return pipeline(
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(coefficient, epsilon),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov=nesterov),
    )
