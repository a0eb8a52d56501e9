"""Transformations that hold an update back: clipping, weight decay, freezing."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, tree
from funcnn.checks import Beside
from funcnn.optimizers.agreement import hold
from funcnn.optimizers.core import Optimizer, State
from funcnn.optimizers.moments import length, moved, squared_norm, times
from funcnn.optimizers.parts import NOT_NEGATIVE, POSITIVE, filled, stateless, walk
from funcnn.optimizers.rounding import optimizer
from funcnn.types import Array, Params

__all__ = ["add_decayed_weights", "clip", "clip_by_global_norm", "clip_by_norm", "freeze"]

Mask = str | Callable[[str, Array], bool] | None


class Patterns(NamedTuple):
    """Shell patterns for paths; a mask is one, or a function in its place, or nothing."""

    mask: bool = False

    def check(self, name: str, value: Any, /) -> Any:
        if self.mask:
            if not (value is None or callable(value) or isinstance(value, str)):
                wanted = "a pattern or a function (path, leaf)"
                checks.refuse_type(f"`{name}` must be {wanted}, got {checks.shown(value)}")
        elif not all(isinstance(pattern, str) for pattern in value):
            checks.refuse_type(f"`{name}` must be strings, got {checks.shown(value)}")
        return value

    def wrong(self) -> tuple[object, ...]:
        return (3, True, np.ones(2), b"*")


MASK = Patterns(mask=True)
DECAYED = Beside(MASK, "weight_decay")


def selects(mask: Mask) -> Callable[[str, Array], bool]:
    """A mask as a function ``(path, leaf) -> bool``."""
    if mask is None:
        return lambda path, leaf: leaf.ndim >= 2
    if isinstance(mask, str):
        return lambda path, leaf: fnmatchcase(path, mask)
    return mask


@optimizer(rate=NOT_NEGATIVE, mask=MASK)
def add_decayed_weights(rate: float, mask: Mask = None) -> Optimizer:
    """Add a fraction of the parameters to the gradient, so that they decay.

    Parameters
    ----------
    rate : float
        The fraction.
    mask : str or callable, optional
        Which leaves decay: a shell pattern for their paths (``"*"``: all), or a function
        ``(path, leaf) -> bool``. By default those of two or more axes: weights and filters, but no
        bias and no scale of a normalisation. Running statistics never do.

    Returns
    -------
    Optimizer
        Without state.

    Notes
    -----
    ``g + rate * w``. Before a scaling such as `scale_by_adam` it is the L2 penalty; after it, the
    decoupled weight decay of AdamW. As `optax.add_decayed_weights`.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import add_decayed_weights
    >>> params = {"weight": np.ones((1, 1)), "bias": np.ones(1)}
    >>> zeros = {"weight": np.zeros((1, 1)), "bias": np.zeros(1)}
    >>> add_decayed_weights(0.1).update(zeros, {}, params)[0]
    {'weight': array([[0.1]]), 'bias': array([0.])}
    """
    decays = selects(mask)

    def leaf(path: str, gradient: Array, param: Array) -> Any:
        return moved(gradient, param, rate) if rate and decays(path, param) else gradient

    return stateless(leaf)


@optimizer(limit=POSITIVE)
def clip(limit: float) -> Optimizer:
    """Clip every element to lie between ``-limit`` and ``limit``.

    Parameters
    ----------
    limit : float
        The largest absolute value that stays.

    Returns
    -------
    Optimizer
        Without state.

    Notes
    -----
    As `torch.nn.utils.clip_grad_value_`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import clip
    >>> clip(1.0).update({"w": np.array([-3.0, 0.5])}, {}, {"w": np.zeros(2)})[0]
    {'w': array([-1. ,  0.5])}
    """

    def leaf(path: str, gradient: Array, param: Array) -> Any:
        return np.minimum(np.maximum(gradient, -limit), limit)

    return stateless(leaf)


def _shrinking(norm: float, limit: float) -> float:
    """The factor that brings a norm down to a limit, as PyTorch has it: 1e-6 saves a division by 0.

    For a norm that is NaN, it is NaN, too (which `min` would hide): nothing passes unclipped.
    """
    return 1.0 if norm + 1e-6 <= limit else limit / (norm + 1e-6)


@optimizer(limit=POSITIVE)
def clip_by_norm(limit: float) -> Optimizer:
    """Shrink each leaf whose Euclidean norm is too large.

    Parameters
    ----------
    limit : float
        The largest norm that stays.

    Returns
    -------
    Optimizer
        Without state.

    Notes
    -----
    ``g * min(1, limit / (norm(g) + 1e-6))``, as `torch.nn.utils.clip_grad_norm_` called for each
    parameter alone.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import clip_by_norm
    >>> clip_by_norm(1.0).update({"w": np.array([3.0, 4.0])}, {}, {"w": np.zeros(2)})[0]["w"].round(4)
    array([0.6, 0.8])
    """

    def leaf(path: str, gradient: Array, param: Array) -> Any:
        return times(gradient, _shrinking(length(gradient), limit))

    return stateless(leaf)


@optimizer(limit=POSITIVE)
def clip_by_global_norm(limit: float) -> Optimizer:
    """Shrink all leaves together if their Euclidean norm, taken as one vector, is too large.

    Parameters
    ----------
    limit : float
        The largest norm that stays.

    Returns
    -------
    Optimizer
        Without state.

    Notes
    -----
    ``g * min(1, limit / (norm + 1e-6))``, as `torch.nn.utils.clip_grad_norm_`; optax has no 1e-6.

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
    2013.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import clip_by_global_norm
    >>> grads = {"a": np.array([3.0]), "b": np.array([4.0])}
    >>> updates, _ = clip_by_global_norm(1.0).update(grads, {}, grads)
    >>> {name: leaf.round(4) for name, leaf in updates.items()}
    {'a': array([0.6]), 'b': array([0.8])}
    """

    def init(params: Params) -> State:
        filled(params)
        return {}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        hold(state)
        moving, total = walk(lambda path, gradient, param: (gradient,), grads, params)[0], 0.0
        for _, leaf in tree.leaves(moving):  # sorted, so that the order of the keys does not matter
            total += squared_norm(leaf)
        norm = sqrt(total)
        if not 1e-280 < total < 1e300:
            norm = length(np.array([length(leaf) for _, leaf in tree.leaves(moving)]))
        factor = _shrinking(norm, limit)
        if factor == 1:
            return moving, state
        return walk(lambda path, gradient, param: (times(gradient, factor),), grads, params)[0], state

    return Optimizer(init, update)


@optimizer(patterns=Patterns())
def freeze(*patterns: str) -> Optimizer:
    """Set the updates of some leaves to zero; the last in its chain, so that nothing follows.

    Parameters
    ----------
    *patterns : str
        Shell patterns for the paths of the leaves that must not move: ``"encoder/*"``.

    Returns
    -------
    Optimizer
        Without state.

    Raises
    ------
    ValueError
        When started on parameters of which no path fits a pattern.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import chain, freeze, sgd
    >>> optimizer = chain(sgd(1.0), freeze("conv*"))
    >>> params = {"conv1": {"bias": np.ones(1)}, "dense1": {"bias": np.ones(1)}}
    >>> optimizer.update(params, optimizer.init(params), params)[0]
    {'conv1': {'bias': array([0.])}, 'dense1': {'bias': array([-1.])}}
    """

    def init(params: Params) -> State:
        filled(params)
        paths = [path for path, _ in tree.leaves(params)]
        for pattern in patterns:
            if not any(fnmatchcase(path, pattern) for path in paths):
                checks.refuse(f"`patterns` must fit a parameter, got {checks.shown(pattern)}")
        return {}

    def leaf(path: str, gradient: Array, param: Array) -> Any:
        frozen = any(fnmatchcase(path, pattern) for pattern in patterns)
        return np.zeros_like(gradient) if frozen else gradient

    return stateless(leaf)._replace(init=init)
