"""Transformations that turn a gradient into a direction, or set its length."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np

from funcnn import _checks, numerics, tree
from funcnn.optimizers.core import (
    Optimizer,
    State,
    count,
    counted,
    lifted,
    power,
    remembering,
    stateless,
    walk,
)
from funcnn.schedules import Schedule
from funcnn.types import Array, Params, Spec

__all__ = [
    "scale",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_amsgrad",
    "scale_by_belief",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_nadam",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_trust_ratio",
    "trace",
]

Rate = float | Schedule | Callable[[int], float]
Leaves = tuple[Any, ...]


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


def rates(who: str, learning_rate: Rate) -> tuple[State, Callable[[State], State]]:
    """The start of a state that holds the learning rate, and the step from one to the next."""
    if not callable(learning_rate):
        rate = np.array(_checks.number(who, "learning_rate", learning_rate, minimum=0))
        return {"learning_rate": rate}, lambda state: {"learning_rate": state["learning_rate"]}

    def at(step: int) -> State:
        return {"count": counted(step), "learning_rate": np.array(float(learning_rate(step)))}

    return at(0), lambda state: at(count(state))


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
    start, following = rates("scale_by_learning_rate", learning_rate)

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        rate = -float(state["learning_rate"])

        def leaf(path: str, gradient: Array, param: Array) -> tuple[Any]:
            return (gradient * rate,)

        return walk("scale_by_learning_rate", leaf, grads, params)[0], following(state)

    return Optimizer(lambda params: start, update, Spec(scale_by_learning_rate, (learning_rate,)))


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


def averaged(old: Array, new: Array, decay: float, scratch: Array | None = None) -> Any:
    """``decay old + (1 - decay) new``; `scratch` is overwritten, and may be `new`."""
    out = old * decay
    out += np.multiply(new, 1 - decay, out=scratch)
    return out


def moments(
    gradient: Array, mean: Array, square: Array, beta1: float, beta2: float
) -> tuple[Array, Array, Array]:
    """The new mean and mean square, and scratch memory: fresh memory costs more than arithmetic."""
    scratch: Array = np.empty_like(gradient)
    mean = averaged(mean, gradient, beta1, scratch)
    square = averaged(square, np.multiply(gradient, gradient, out=scratch), beta2, scratch)
    return mean, square, scratch


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
    who = "scale_by_adagrad"
    initial = _checks.number(who, "initial", initial, minimum=0)
    epsilon = _checks.number(who, "epsilon", epsilon, minimum=0)

    def leaf(path: str, gradient: Array, param: Array, square: Array) -> tuple[Any, Any]:
        scratch = gradient * gradient
        square = square + scratch
        return over_root(gradient, square, epsilon, out=scratch), square

    spec = Spec(scale_by_adagrad, (initial, epsilon))
    return remembering(spec, ("square",), lambda steps: leaf, initial)


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
    who = "scale_by_adadelta"
    decay = _checks.number(who, "decay", decay, minimum=0, below=1)
    epsilon = _checks.number(who, "epsilon", epsilon, above=0)

    def leaf(
        path: str, gradient: Array, param: Array, square: Array, change: Array
    ) -> tuple[Any, Any, Any]:
        square = averaged(square, gradient * gradient, decay)
        update = np.sqrt(change + epsilon) / np.sqrt(square + epsilon) * gradient
        return update, square, averaged(change, update * update, decay)

    spec = Spec(scale_by_adadelta, (decay, epsilon))
    return remembering(spec, ("square", "change"), lambda steps: leaf)


def scale_by_rms(
    decay: float = 0.99, epsilon: float = 1e-8, *, centered: bool = False
) -> Optimizer:
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
    decay = _checks.number("scale_by_rms", "decay", decay, minimum=0, below=1)
    epsilon = _checks.number("scale_by_rms", "epsilon", epsilon, minimum=0)
    centered = _checks.boolean("scale_by_rms", "centered", centered)

    def leaf(path: str, gradient: Array, param: Array, square: Array, *means: Array) -> Leaves:
        scratch = gradient * gradient
        square = averaged(square, scratch, decay, scratch)
        if not centered:
            return over_root(gradient, square, epsilon, out=scratch), square
        mean = averaged(means[0], gradient, decay, scratch)
        # A variance of next to nothing could come out negative.
        variance = np.maximum(square - mean * mean, 0)
        return over_root(gradient, variance, epsilon, out=scratch), square, mean

    spec = Spec(scale_by_rms, (decay, epsilon), {"centered": centered})
    return remembering(spec, ("square", "mean") if centered else ("square",), lambda steps: leaf)


def betas(who: str, beta1: float, beta2: float, epsilon: float) -> tuple[float, float, float]:
    """The three numbers of Adam and its family."""
    return (
        _checks.number(who, "beta1", beta1, minimum=0, below=1),
        _checks.number(who, "beta2", beta2, minimum=0, below=1),
        _checks.number(who, "epsilon", epsilon, minimum=0),
    )


def _corrections(beta1: float, beta2: float, epsilon: float, steps: int) -> tuple[float, float]:
    """What makes of ``m * factor / (sqrt(v) + shift)`` Adam's update.

    That is ``m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + epsilon)``, with the fewest passes
    over arrays.
    """
    root = sqrt(1 - power(beta2, steps))
    return root / (1 - power(beta1, steps)), epsilon * root


def over_root(
    mean: Array, square: Array, shift: float, factor: float = 1.0, out: Array | None = None
) -> Array:
    """``factor mean / (sqrt(square) + shift)``, in the memory of `out`."""
    out = np.sqrt(square, out=out)
    out += shift
    np.divide(mean, out, out=out)
    if factor != 1:
        out *= factor
    return out


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

    def at_step(steps: int) -> Callable[..., Leaves]:
        factor, shift = _corrections(beta1, beta2, epsilon, steps)

        def leaf(path: str, gradient: Array, param: Array, mean: Array, square: Array) -> Leaves:
            mean, square, scratch = moments(gradient, mean, square, beta1, beta2)
            return over_root(mean, square, shift, factor, scratch), mean, square

        return leaf

    return remembering(Spec(scale_by_adam, (beta1, beta2, epsilon)), ("mean", "square"), at_step)


def scale_by_amsgrad(
    beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> Optimizer:
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
    beta1, beta2, epsilon = betas("scale_by_amsgrad", beta1, beta2, epsilon)

    def at_step(steps: int) -> Callable[..., Leaves]:
        factor, shift = _corrections(beta1, beta2, epsilon, steps)

        def leaf(
            path: str, gradient: Array, param: Array, mean: Array, square: Array, largest: Array
        ) -> tuple[Any, ...]:
            mean, square, scratch = moments(gradient, mean, square, beta1, beta2)
            largest = np.maximum(largest, square)
            return over_root(mean, largest, shift, factor, scratch), mean, square, largest

        return leaf

    spec = Spec(scale_by_amsgrad, (beta1, beta2, epsilon))
    return remembering(spec, ("mean", "square", "largest"), at_step)


def scale_by_adamax(
    beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> Optimizer:
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
    beta1, beta2, epsilon = betas("scale_by_adamax", beta1, beta2, epsilon)

    def at_step(steps: int) -> Callable[..., Leaves]:
        factor = 1 / (1 - power(beta1, steps))

        def leaf(path: str, gradient: Array, param: Array, mean: Array, largest: Array) -> Leaves:
            mean = averaged(mean, gradient, beta1)
            size = np.abs(gradient)
            size += epsilon
            largest = largest * beta2
            np.maximum(largest, size, out=largest)
            np.divide(mean, largest, out=size)
            size *= factor
            return size, mean, largest

        return leaf

    return remembering(Spec(scale_by_adamax, (beta1, beta2, epsilon)), ("mean", "largest"), at_step)


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
    beta1, beta2, epsilon = betas("scale_by_nadam", beta1, beta2, epsilon)
    momentum_decay = _checks.number("scale_by_nadam", "momentum_decay", momentum_decay, minimum=0)

    def momentum(step: int) -> float:
        return beta1 * (1 - 0.5 * float(numerics.power(np.array(0.96), step * momentum_decay)))

    def init(params: Params) -> State:
        zeros = tree.zeros_like(params)
        return {"count": counted(0), "product": np.ones(()), "mean": zeros, "square": zeros}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        steps = count(state)
        now, following = momentum(steps), momentum(steps + 1)
        product = float(state["product"]) * now
        root = sqrt(1 - power(beta2, steps))
        of_gradient = root * (1 - now) / (1 - product)
        of_mean = root * following / (1 - product * following)

        def leaf(path: str, gradient: Array, param: Array, mean: Array, square: Array) -> Leaves:
            mean, square, scratch = moments(gradient, mean, square, beta1, beta2)
            ahead = gradient * of_gradient
            ahead += np.multiply(mean, of_mean, out=scratch)
            return over_root(ahead, square, epsilon * root, out=scratch), mean, square

        updates, mean, square = walk(
            "scale_by_nadam", lifted(leaf), grads, params, state["mean"], state["square"]
        )
        new = {"count": counted(steps), "product": np.array(product), "mean": mean, "square": square}
        return updates, new

    return Optimizer(init, update, Spec(scale_by_nadam, (beta1, beta2, epsilon, momentum_decay)))


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
    beta1, beta2, epsilon = betas("scale_by_radam", beta1, beta2, epsilon)
    longest = 2 / (1 - beta2) - 1

    def at_step(steps: int) -> Callable[..., Leaves]:
        decayed = power(beta2, steps)
        length = longest - 2 * steps * decayed / (1 - decayed)
        factor = 1 / (1 - power(beta1, steps))
        if length > 5:
            most = (longest - 4) * (longest - 2) / longest
            factor *= sqrt((length - 4) * (length - 2) / length / most * (1 - decayed))

        def leaf(path: str, gradient: Array, param: Array, mean: Array, square: Array) -> Leaves:
            mean, square, scratch = moments(gradient, mean, square, beta1, beta2)
            if length > 5:
                return over_root(mean, square, epsilon, factor, scratch), mean, square
            return np.multiply(mean, factor, out=scratch), mean, square

        return leaf

    return remembering(Spec(scale_by_radam, (beta1, beta2, epsilon)), ("mean", "square"), at_step)


def scale_by_belief(
    beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-16
) -> Optimizer:
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
    beta1, beta2, epsilon = betas("scale_by_belief", beta1, beta2, epsilon)

    def at_step(steps: int) -> Callable[..., Leaves]:
        factor, shift = _corrections(beta1, beta2, epsilon, steps)

        def leaf(path: str, gradient: Array, param: Array, mean: Array, square: Array) -> Leaves:
            mean = averaged(mean, gradient, beta1)
            surprise = gradient - mean
            surprise *= surprise
            square = averaged(square, surprise, beta2, surprise)
            square += epsilon
            return over_root(mean, square, shift, factor, surprise), mean, square

        return leaf

    return remembering(Spec(scale_by_belief, (beta1, beta2, epsilon)), ("mean", "square"), at_step)


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
    beta1, beta2, _ = betas("scale_by_lion", beta1, beta2, 0)

    def leaf(path: str, gradient: Array, param: Array, mean: Array) -> tuple[Any, ...]:
        return np.sign(averaged(mean, gradient, beta1)), averaged(mean, gradient, beta2)

    return remembering(Spec(scale_by_lion, (beta1, beta2)), ("mean",), lambda steps: leaf)


def squared_norm(x: Array) -> float:
    """The sum of squares of all elements, in float64."""
    wide = x.reshape(-1).astype(np.float64)
    return float(numerics.matmul(wide, wide)) if wide.size else 0.0


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
    who = "scale_by_trust_ratio"
    coefficient = _checks.number(who, "coefficient", coefficient, above=0)
    epsilon = _checks.number(who, "epsilon", epsilon, minimum=0)

    def leaf(path: str, gradient: Array, param: Array) -> Any:
        ours, its = sqrt(squared_norm(param)), sqrt(squared_norm(gradient))
        return gradient * (coefficient * ours / (its + epsilon)) if ours and its else gradient

    return stateless(Spec(scale_by_trust_ratio, (coefficient, epsilon)), leaf)
