"""Steps that know the sign of a gradient, and not its size."""

from __future__ import annotations

import numpy as np

from funcnn import checks
from funcnn.checks import Number
from funcnn.optimizers.clipping import DECAYED, Mask, add_decayed_weights
from funcnn.optimizers.core import Leaves, Optimizer, Rate
from funcnn.optimizers.descent import scale, scale_by_learning_rate
from funcnn.optimizers.moments import averaged
from funcnn.optimizers.parts import FRACTION, NOT_NEGATIVE, POSITIVE, RATE, pipeline, remembering
from funcnn.optimizers.rounding import optimizer
from funcnn.types import Array

__all__ = ["lion", "rprop", "scale_by_lion", "scale_by_rprop"]


@optimizer(beta1=FRACTION, beta2=FRACTION)
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

    def leaf(path: str, gradient: Array, param: Array, mean: Array) -> Leaves:
        return np.sign(averaged(mean, gradient, beta1)), averaged(mean, gradient, beta2)

    return remembering(lambda steps: leaf, mean=0)


@optimizer(first=POSITIVE, shrink=FRACTION, grow=Number(minimum=1), least=NOT_NEGATIVE, most=POSITIVE)
def scale_by_rprop(
    first: float = 1e-2,
    shrink: float = 0.5,
    grow: float = 1.2,
    *,
    least: float = 1e-6,
    most: float = 50.0,
) -> Optimizer:
    """A step of its own for each parameter, which grows while the sign of the gradient stays.

    Parameters
    ----------
    first : float, default 1e-2
        The length of the first step.
    shrink, grow : float, default 0.5, 1.2
        What a step is multiplied by when the sign has changed, and when it has not.
    least, most : float, default 1e-6, 50.0
        The bounds of a step: `most` is no less than `least`.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "gradient": tree, "size": tree}``.

    Notes
    -----
    The update is ``sign(g) size``. Where the sign has changed, the parameter stays where it is, and
    its next step keeps its length.

    References
    ----------
    M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm", 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_rprop
    >>> optimizer, grads = scale_by_rprop(0.5), {"w": np.array([3.0, -0.1])}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]
    {'w': array([ 0.5, -0.5])}
    """

    _check_bounds(least, most)

    def leaf(path: str, gradient: Array, param: Array, before: Array, size: Array) -> Leaves:
        sign = np.sign(gradient)
        turned = sign * np.sign(before)
        factor = np.where(turned > 0, grow, np.where(turned < 0, shrink, 1.0)).astype(size.dtype)
        size = np.minimum(np.maximum(size * factor, least), most)
        kept = turned >= 0
        return sign * kept * size, gradient * kept, size

    return remembering(lambda steps: leaf, gradient=0, size=min(max(first, least), most))


@optimizer(learning_rate=RATE, weight_decay=NOT_NEGATIVE, beta1=FRACTION, beta2=FRACTION, mask=DECAYED)
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


@optimizer(
    learning_rate=POSITIVE, shrink=FRACTION, grow=Number(minimum=1), least=NOT_NEGATIVE, most=POSITIVE
)
def rprop(
    learning_rate: float = 1e-2,
    *,
    shrink: float = 0.5,
    grow: float = 1.2,
    least: float = 1e-6,
    most: float = 50.0,
) -> Optimizer:
    """Steps that know the sign of the gradient alone, for the full batch.

    Parameters
    ----------
    learning_rate : float, default 1e-2
        The length of the first step, in each parameter.
    shrink, grow : float, default 0.5, 1.2
        What a step is multiplied by when the sign has changed, and when it has not.
    least, most : float, default 1e-6, 50.0
        The bounds of a step: `most` is no less than `least`.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_rprop`; equals `torch.optim.Rprop`.

    References
    ----------
    M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm", 1993.

    Examples
    --------
    >>> from funcnn.optimizers import rprop
    >>> rprop(0.1)
    rprop(learning_rate=0.1)
    """
    _check_bounds(least, most)
    return pipeline(scale_by_rprop(learning_rate, shrink, grow, least=least, most=most), scale(-1.0))


def _check_bounds(least: float, most: float) -> None:
    if least > most:
        checks.refuse(f"`least` must be at most `most`, {most}, got {least}")
