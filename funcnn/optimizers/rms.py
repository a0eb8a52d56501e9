"""The gradient over the root of its mean square: Adagrad, Adadelta, RMSProp."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from funcnn.optimizers.core import Leaves, Optimizer, Rate
from funcnn.optimizers.descent import scale_by_learning_rate, trace
from funcnn.optimizers.moments import (
    SMALL,
    Squares,
    averaged,
    coded,
    grown,
    hypotenuse,
    over_root,
    quotient,
    squares,
)
from funcnn.optimizers.parts import FLAG, FRACTION, NOT_NEGATIVE, POSITIVE, RATE, pipeline, remembering
from funcnn.optimizers.rounding import optimizer
from funcnn.types import Array

__all__ = ["adadelta", "adagrad", "rmsprop", "scale_by_adadelta", "scale_by_adagrad", "scale_by_rms"]


@optimizer(initial=NOT_NEGATIVE, epsilon=NOT_NEGATIVE)
def scale_by_adagrad(initial: float = 0.0, epsilon: float = 1e-10) -> Optimizer:
    """The gradient over the root of the sum of all its squares so far.

    Parameters
    ----------
    initial : float, default 0.0
        Where the sum starts.
    epsilon : float, default 1e-10
        Added to the root.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "square": tree}``.

    Notes
    -----
    ``v = v + g**2``; the update is ``g / (sqrt(v) + epsilon)``.

    References
    ----------
    J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_adagrad
    >>> optimizer, grads = scale_by_adagrad(), {"w": np.array([2.0, -5.0])}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]["w"].round(6)
    array([ 1., -1.])
    """

    def leaf(path: str, gradient: Array, param: Array, square: Array) -> tuple[Any, Any]:
        scratch = np.empty_like(gradient)
        sums = grown(square, gradient, 1, 1, epsilon, scratch=scratch)
        return over_root(gradient, sums, epsilon, out=scratch), sums.code

    start = coded(np.array(sqrt(initial)), np.dtype(np.float64), epsilon < SMALL).code
    return remembering(lambda steps: leaf, square=float(start))


@optimizer(decay=FRACTION, epsilon=POSITIVE)
def scale_by_adadelta(decay: float = 0.9, epsilon: float = 1e-6) -> Optimizer:
    """The gradient times the typical size of an update over the typical size of a gradient.

    Parameters
    ----------
    decay : float, default 0.9
        What is kept of both mean squares at each step.
    epsilon : float, default 1e-6
        Added to both mean squares.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "square": tree, "change": tree}``.

    Notes
    -----
    ``v = decay v + (1 - decay) g**2``; the update is ``u = g sqrt(c + epsilon) / sqrt(v + epsilon)``;
    then ``c = decay c + (1 - decay) u**2``.

    References
    ----------
    M. Zeiler, "ADADELTA: an adaptive learning rate method", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_adadelta
    >>> optimizer, grads = scale_by_adadelta(), {"w": np.array([2.0])}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]["w"].round(4)
    array([0.0032])
    """

    floor = sqrt(epsilon)

    def leaf(
        path: str, gradient: Array, param: Array, square: Array, change: Array
    ) -> tuple[Any, Any, Any]:
        seen, moved = grown(square, gradient, decay, 1 - decay, floor), squares(change, floor)
        if seen.ordinary and moved.ordinary:
            update = np.sqrt(change + epsilon) / np.sqrt(seen.code + epsilon) * gradient
        else:
            typical = hypotenuse(moved.root(), floor)
            update = quotient(gradient, hypotenuse(seen.root(), floor), typical)
        return update, seen.code, grown(change, update, decay, 1 - decay, floor).code

    return remembering(lambda steps: leaf, square=0, change=0)


@optimizer(decay=FRACTION, epsilon=NOT_NEGATIVE, centered=FLAG)
def scale_by_rms(decay: float = 0.99, epsilon: float = 1e-8, *, centered: bool = False) -> Optimizer:
    """The gradient over the root of its mean square.

    Parameters
    ----------
    decay : float, default 0.99
        What is kept of the mean square at each step.
    epsilon : float, default 1e-8
        Added to the root.
    centered : bool, default False
        Whether to divide by the standard deviation instead.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "square": tree}``; if `centered`, also ``"mean": tree``.

    Notes
    -----
    ``v = decay v + (1 - decay) g**2``; the update is ``g / (sqrt(v) + epsilon)``. If `centered`,
    ``m = decay m + (1 - decay) g`` and ``v - m**2`` stands for ``v``.

    References
    ----------
    T. Tieleman and G. Hinton, "RMSProp: divide the gradient by a running average of its recent
    magnitude", Coursera lecture 6.5, 2012; A. Graves, "Generating sequences with recurrent neural
    networks", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_rms
    >>> optimizer, grads = scale_by_rms(0.75), {"w": np.array([3.0])}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]["w"].round(6)
    array([2.])
    """

    def leaf(path: str, gradient: Array, param: Array, square: Array, *means: Array) -> Leaves:
        scratch = np.empty_like(gradient)
        seen = grown(square, gradient, decay, 1 - decay, epsilon, scratch=scratch)
        if not centered:
            return over_root(gradient, seen, epsilon, out=scratch), seen.code
        mean = averaged(means[0], gradient, decay, scratch)
        # A variance of next to nothing could come out negative.
        if seen.ordinary:
            variance = Squares(np.maximum(seen.code - mean * mean, 0), True, False)
            return over_root(gradient, variance, epsilon, out=scratch), seen.code, mean
        root, size = seen.root(), np.abs(mean.astype(np.float64))
        deviation = np.sqrt(np.maximum(root - size, 0)) * np.sqrt(root + size)
        return quotient(gradient, deviation + epsilon), seen.code, mean

    return remembering(lambda steps: leaf, square=0, **({"mean": 0} if centered else {}))


@optimizer(learning_rate=RATE, initial=NOT_NEGATIVE, epsilon=NOT_NEGATIVE)
def adagrad(learning_rate: Rate = 1e-2, *, initial: float = 0.0, epsilon: float = 1e-10) -> Optimizer:
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
    adagrad(learning_rate=0.1)
    """
    return pipeline(scale_by_adagrad(initial, epsilon), scale_by_learning_rate(learning_rate))


@optimizer(learning_rate=RATE, decay=FRACTION, epsilon=POSITIVE)
def adadelta(learning_rate: Rate = 1.0, *, decay: float = 0.9, epsilon: float = 1e-6) -> Optimizer:
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
    adadelta()
    """
    return pipeline(scale_by_adadelta(decay, epsilon), scale_by_learning_rate(learning_rate))


@optimizer(learning_rate=RATE, decay=FRACTION, epsilon=NOT_NEGATIVE, momentum=FRACTION, centered=FLAG)
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
    rmsprop(learning_rate=0.001, momentum=0.9)
    """
    return pipeline(
        scale_by_rms(decay, epsilon, centered=centered),
        *([trace(momentum)] if momentum else []),
        scale_by_learning_rate(learning_rate),
    )
