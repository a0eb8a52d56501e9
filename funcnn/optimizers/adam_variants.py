"""Relatives of Adam: another view of the mean square, or of when to trust it."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

from funcnn.optimizers.adaptive_moments import corrections
from funcnn.optimizers.core import Leaves, Optimizer, Rate
from funcnn.optimizers.descent import scale_by_learning_rate
from funcnn.optimizers.moments import averaged, grown, moments, over_root, quotient
from funcnn.optimizers.parts import MOMENTS, RATE, pipeline, power, remembering
from funcnn.optimizers.rounding import optimizer
from funcnn.types import Array

__all__ = ["adabelief", "adamax", "radam", "scale_by_adamax", "scale_by_belief", "scale_by_radam"]


@optimizer(**MOMENTS)
def scale_by_radam(beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """Adam that trusts its mean square only once it has seen enough of it.

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
    With ``r = 2 / (1 - beta2) - 1`` and ``s = r - 2 t beta2**t / (1 - beta2**t)``, the steps that the
    mean square stands for: while ``s <= 5``, the update is ``m / (1 - beta1**t)``; then it is Adam's
    times ``sqrt((s - 4) (s - 2) r / ((r - 4) (r - 2) s))``. As in PyTorch, epsilon is added to
    ``sqrt(v)`` before its division by ``sqrt(1 - beta2**t)``.

    References
    ----------
    L. Liu et al., "On the variance of the adaptive learning rate and beyond", 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_radam
    >>> optimizer, grads = scale_by_radam(), {"w": np.array([3.0, -0.1])}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]["w"].round(6)
    array([ 3. , -0.1])
    """
    longest = 2 / (1 - beta2) - 1

    def at_step(steps: int) -> Callable[..., Leaves]:
        decayed = power(beta2, steps)
        length = longest - 2 * steps * decayed / (1 - decayed)
        factor = 1 / (1 - power(beta1, steps))
        if length > 5:
            most = (longest - 4) * (longest - 2) / longest
            factor *= sqrt((length - 4) * (length - 2) / length / most * (1 - decayed))

        def leaf(path: str, gradient: Array, param: Array, mean: Array, square: Array) -> Leaves:
            mean, seen, scratch = moments(gradient, mean, square, beta1, beta2, epsilon)
            if length > 5:
                return over_root(mean, seen, epsilon, factor, scratch), mean, seen.code
            return np.multiply(mean, factor, out=scratch), mean, seen.code

        return leaf

    return remembering(at_step, mean=0, square=0)


@optimizer(**MOMENTS)
def scale_by_adamax(beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """The mean gradient over the largest recent one.

    Parameters
    ----------
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the largest, at each step.
    epsilon : float, default 1e-8
        Added to each gradient's absolute value.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "mean": tree, "largest": tree}``.

    Notes
    -----
    ``m = beta1 m + (1 - beta1) g`` and ``u = max(beta2 u, |g| + epsilon)``; the update is
    ``m / (1 - beta1**t) / u``.

    References
    ----------
    D. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015, section 7.1.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_adamax
    >>> optimizer, grads = scale_by_adamax(), {"w": np.array([3.0, -0.1])}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]["w"].round(6)
    array([ 1., -1.])
    """

    def at_step(steps: int) -> Callable[..., Leaves]:
        factor = 1 / (1 - power(beta1, steps))

        def leaf(path: str, gradient: Array, param: Array, mean: Array, largest: Array) -> Leaves:
            mean = averaged(mean, gradient, beta1)
            size = np.abs(gradient)
            size += epsilon
            largest = largest * beta2
            np.maximum(largest, size, out=largest)
            if not epsilon:  # what has never moved has nothing to be divided by
                return quotient(mean, largest, factor), mean, largest
            np.divide(mean, largest, out=size)
            size *= factor
            return size, mean, largest

        return leaf

    return remembering(at_step, mean=0, largest=0)


@optimizer(**MOMENTS)
def scale_by_belief(beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-16) -> Optimizer:
    """The mean gradient over the root of the mean squared surprise.

    Parameters
    ----------
    beta1, beta2 : float, default 0.9, 0.999
        What is kept of the mean, and of the mean square, at each step.
    epsilon : float, default 1e-16
        Added to the root, and to the mean square at each step.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "mean": tree, "square": tree}``.

    Notes
    -----
    As `scale_by_adam`, with ``v = beta2 v + (1 - beta2) (g - m)**2 + epsilon``; as optax.

    References
    ----------
    J. Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients",
    2020.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_belief
    >>> optimizer, grads = scale_by_belief(), {"w": np.array([3.0])}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]["w"].round(4)
    array([1.1111])
    """

    def at_step(steps: int) -> Callable[..., Leaves]:
        factor, shift = corrections(beta1, beta2, epsilon, steps)

        def leaf(path: str, gradient: Array, param: Array, mean: Array, square: Array) -> Leaves:
            mean = averaged(mean, gradient, beta1)
            surprise = gradient - mean
            seen = grown(square, surprise, beta2, 1 - beta2, sqrt(epsilon), epsilon)
            return over_root(mean, seen, shift, factor, surprise), mean, seen.code

        return leaf

    return remembering(at_step, mean=0, square=0)


@optimizer(learning_rate=RATE, **MOMENTS)
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
    radam()
    """
    return pipeline(scale_by_radam(beta1, beta2, epsilon), scale_by_learning_rate(learning_rate))


@optimizer(learning_rate=RATE, **MOMENTS)
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
    adamax()
    """
    return pipeline(scale_by_adamax(beta1, beta2, epsilon), scale_by_learning_rate(learning_rate))


@optimizer(learning_rate=RATE, **MOMENTS)
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
    adabelief()
    """
    return pipeline(scale_by_belief(beta1, beta2, epsilon), scale_by_learning_rate(learning_rate))
