"""Losses: how far a prediction is from its target, and the slope of that distance."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import _checks, numerics
from funcnn._kernels.softmax import log_softmax
from funcnn.types import Array, Cache, Loss, Spec

__all__ = ["mean_squared_error", "one_hot", "softmax_cross_entropy"]

_REDUCTIONS = ("mean", "sum", "none")


def one_hot(labels: Array, classes: int, dtype: Any = np.float32) -> Array:
    """Write each class as a row with a single one.

    Parameters
    ----------
    labels : ndarray of ints, ``(...)``
        Classes from 0 to ``classes - 1``.
    classes : int
        How many there are.
    dtype : numpy dtype, default float32
        Of the result.

    Returns
    -------
    ndarray, ``(..., classes)``

    Raises
    ------
    ValueError, TypeError
        For labels that are not integers, or lie outside.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import one_hot
    >>> one_hot(np.array([0, 2]), 3)
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    classes = _checks.integer("one_hot", "classes", classes, 1)
    found = _checks.labels("one_hot", _checks.array("one_hot", labels, "labels"), classes, "labels")
    out = np.zeros((*found.shape, classes), dtype)
    np.put_along_axis(out, found[..., None], 1, -1)
    return out


def _reduced(values: Array, reduction: str) -> Any:
    """Mean, sum or all of the values, one for each example."""
    if reduction == "none":
        return values
    total = numerics.sum(values.reshape(-1))[()]
    return total / values.dtype.type(values.size) if reduction == "mean" else total


def _share(count: int, reduction: str, dtype: np.dtype[Any]) -> Any:
    """The derivative of the reduced value by each single one."""
    return dtype.type(1 / count if reduction == "mean" else 1)


def _batch(who: str, prediction: object, min_rank: int) -> Array:
    """A float prediction with at least one example."""
    found = _checks.floating(who, prediction, "prediction")
    if found.ndim < min_rank or not found.size:
        _checks.refuse(
            who,
            f"`prediction` must have at least {min_rank} axes and one example, "
            f"got shape {found.shape}",
        )
    return found


def softmax_cross_entropy(*, reduction: str = "mean") -> Loss:
    """Cross-entropy of the softmax of logits, fused with it.

    Parameters
    ----------
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the examples.

    Returns
    -------
    Loss
        ``prediction`` holds logits ``(N, ..., C)``; ``target`` integer classes ``(N, ...)``, or
        probabilities ``(N, ..., C)`` that sum to one.

    Raises
    ------
    ValueError, TypeError
        For labels outside ``0..C-1``, targets of another shape or kind, an empty batch.

    Notes
    -----
    Forward: ``-sum(target * log_softmax(z))``, stable for logits of any finite size. Gradient:
    ``softmax(z) - onehot(y)``, divided by the number of examples for the mean; for probabilities
    that do not sum to one, ``sum(target) * softmax(z) - target``.

    References
    ----------
    J. Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import softmax_cross_entropy
    >>> loss = softmax_cross_entropy()
    >>> value, cache = loss.apply(np.array([[1.0, 1.0]]), np.array([0]))
    >>> round(float(value), 4), loss.vjp(cache)
    (0.6931, array([[-0.5,  0.5]]))
    """
    who = "softmax_cross_entropy"
    _checks.choice(who, "reduction", reduction, _REDUCTIONS)

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        logits = _batch(who, prediction, 2)
        known = _checks.array(who, target, "target")
        soft = known.dtype.kind == "f"
        if soft:
            _checks.same_dtype(who, known, logits, "target")
        else:
            _checks.labels(who, known, logits.shape[-1])
        shape = logits.shape if soft else logits.shape[:-1]
        if known.shape != shape:
            _checks.refuse(who, f"`target` must have the shape {shape}, got {known.shape}")
        log_p = log_softmax(logits)
        if soft:
            values = -numerics.sum(known * log_p, -1)
        else:
            values = -np.take_along_axis(log_p, known[..., None], -1)[..., 0]
        return _reduced(values, reduction), {"log_p": log_p, "target": known}

    def vjp(cache: Cache) -> Array:
        log_p, target = cache["log_p"], cache["target"]
        if target.dtype.kind == "f":
            dz: Array = numerics.exp(log_p) * numerics.sum(target, -1, keepdims=True) - target
        else:
            dz = numerics.exp(log_p)
            index = target[..., None]
            np.put_along_axis(dz, index, np.take_along_axis(dz, index, -1) - 1, -1)
        dz *= _share(log_p.size // log_p.shape[-1], reduction, log_p.dtype)
        return dz

    return Loss(apply, vjp, Spec(softmax_cross_entropy, options={"reduction": reduction}))


def mean_squared_error(*, reduction: str = "mean") -> Loss:
    """Squared distance, element by element.

    Parameters
    ----------
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` and ``target`` have one shape, ``(N, ...)``.

    Raises
    ------
    ValueError, TypeError
        For a target of another shape or dtype, an empty batch.

    Notes
    -----
    Forward: ``(p - t)**2``, its mean over all elements. Gradient: ``2 (p - t) / count``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import mean_squared_error
    >>> loss = mean_squared_error()
    >>> value, cache = loss.apply(np.array([[3.0]]), np.array([[1.0]]))
    >>> float(value), loss.vjp(cache)
    (4.0, array([[4.]]))
    """
    who = "mean_squared_error"
    _checks.choice(who, "reduction", reduction, _REDUCTIONS)

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        found = _batch(who, prediction, 1)
        known = _checks.floating(who, target, "target")
        if known.shape != found.shape:
            _checks.refuse(who, f"`target` must have the shape {found.shape}, got {known.shape}")
        _checks.same_dtype(who, known, found, "target")
        difference = found - known
        return _reduced(difference * difference, reduction), {"difference": difference}

    def vjp(cache: Cache) -> Array:
        difference: Array = cache["difference"]
        slope: Array = difference * (2 * _share(difference.size, reduction, difference.dtype))
        return slope

    return Loss(apply, vjp, Spec(mean_squared_error, options={"reduction": reduction}))
