"""Optimizers: new parameters from gradients, nothing changed in place."""

from __future__ import annotations

from funcnn import _checks, tree
from funcnn.types import Array, Params

__all__ = ["sgd_update"]


def sgd_update(params: Params, grads: Params, lr: float) -> Params:
    """One step of gradient descent, as a map over two trees.

    Parameters
    ----------
    params : dict
        Parameters; they stay as they are.
    grads : dict
        Gradients, the same tree.
    lr : float
        Learning rate, the fraction of the gradient that is subtracted.

    Returns
    -------
    dict
        ``params - lr * grads``.

    Raises
    ------
    ValueError, TypeError
        For trees that do not match, or a learning rate that is not a finite number of at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import sgd_update
    >>> sgd_update({"w": np.array([1.0])}, {"w": np.array([0.5])}, lr=0.1)
    {'w': array([0.95])}
    """
    rate = _checks.number("sgd_update", "lr", lr, minimum=0)

    def step(leaf: Array, gradient: Array) -> Array:
        if leaf.shape != gradient.shape:
            _checks.refuse(
                "sgd_update",
                f"`grads` must have the shapes of `params`, got {gradient.shape} for {leaf.shape}",
            )
        moved: Array = leaf - gradient * leaf.dtype.type(rate)
        return moved

    return tree.map(step, params, grads)
