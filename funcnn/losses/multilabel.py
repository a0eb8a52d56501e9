"""Losses of several labels at once: any number of classes is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcnn import checks, numerics
from funcnn.losses.core import (
    REDUCTION,
    Weights,
    batch,
    class_weights,
    entropy,
    entropy_slope,
    of_numbers,
    one_of,
    over,
    reduced,
    shaped,
    share,
    times_difference,
)
from funcnn.losses.rounding import loss
from funcnn.types import Array, Cache, Loss

__all__ = ["multi_label_margin", "multi_label_soft_margin"]


def _several_labels(
    prediction: object, target: object, class_weight: Any = None
) -> tuple[Array, Array]:
    """Scores and zeros and ones of one shape ``(N, ..., C)``; targets that weigh 0 become 0."""
    scores = batch(prediction, 2)
    known = checks.array(target, "target")
    shaped(known, scores.shape)
    of_numbers(known)
    if class_weight is not None and len(class_weight) == scores.shape[-1]:
        known = np.where(np.array(class_weight) == 0, 0, known)
    one_of(known, 0, 1)
    return scores, known.astype(scores.dtype)


def _rows(target: Array) -> float:
    return target.size // int(target.shape[-1])


@loss(reduction=REDUCTION)
def multi_label_margin(*, reduction: str = "mean") -> Loss:
    """How much is missing to a margin of one between each right score and each wrong one.

    Parameters
    ----------
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the examples.

    Returns
    -------
    Loss
        ``prediction`` holds scores ``(N, ..., C)``; ``target`` zeros and ones of the same shape.

    Raises
    ------
    ValueError, TypeError
        For targets that are not 0 or 1, of another shape, an empty batch.

    Notes
    -----
    Forward: ``sum(max(0, 1 - z[j] + z[i])) / C`` over the right classes ``j`` and the wrong ``i``; 0
    where all are right, or none is. Gradient: ``1 / C`` at ``i`` and ``-1 / C`` at ``j`` for each pair
    that is positive. As `torch.nn.MultiLabelMarginLoss`, whose target lists the right classes.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import multi_label_margin
    >>> loss = multi_label_margin()
    >>> value, cache = loss.apply(np.array([[2.0, 1.5]]), np.array([[1, 0]]))
    >>> float(value), loss.vjp(cache)
    (0.25, array([[-0.5,  0.5]]))
    """

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        scores, known = _several_labels(prediction, target)
        pairs = (known[..., :, None] == 1) & (known[..., None, :] == 0)  # (..., right, wrong)

        def missing(s: Any) -> Any:
            behind = times_difference(scores[..., :, None], scores[..., None, :], s)
            return np.where(pairs, np.maximum(s - behind, 0), 0)

        found = missing(1)

        def values(s: Any) -> Any:
            return numerics.sum((found if s == 1 else missing(s)) / scores.shape[-1], (-2, -1))

        cache = {"active": found > 0, "dtype": scores.dtype}
        return reduced(values(1), reduction, times=values), cache

    def vjp(cache: Cache) -> Array:
        active, dtype = cache["active"], cache["dtype"]
        pairs = np.count_nonzero(active, -2) - np.count_nonzero(active, -1)
        part = share(active[..., 0, 0].size, reduction, dtype) / dtype.type(active.shape[-1])
        dprediction: Array = pairs.astype(dtype) * part
        return dprediction

    return Loss(apply, vjp, weight=over(reduction, _rows))


@loss(class_weight=Weights(), reduction=REDUCTION)
def multi_label_soft_margin(
    *, class_weight: Sequence[float] | None = None, reduction: str = "mean"
) -> Loss:
    """Binary cross-entropy of each class, its mean over the classes of each example.

    Parameters
    ----------
    class_weight : sequence of float, optional
        How much each class counts, at least 0; scores and targets of a class that weighs 0 may be
        anything.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the examples.

    Returns
    -------
    Loss
        ``prediction`` holds logits ``(N, ..., C)``; ``target`` zeros and ones of the same shape.

    Raises
    ------
    ValueError, TypeError
        For targets that are not 0 or 1, of another shape, an empty batch.

    Notes
    -----
    Forward: ``sum(weight ((1 - t) softplus(z) + t softplus(-z))) / C``. Gradient:
    ``weight (sigmoid(z) - t) / C``. As `torch.nn.MultiLabelSoftMarginLoss`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import multi_label_soft_margin
    >>> loss = multi_label_soft_margin()
    >>> value, cache = loss.apply(np.array([[0.0, 0.0]]), np.array([[1, 0]]))
    >>> round(float(value), 4), loss.vjp(cache)
    (0.6931, array([[-0.25,  0.25]]))
    """

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        logits, known = _several_labels(prediction, target, class_weight)
        classes = logits.shape[-1]
        of_class = class_weights("class_weight", class_weight, classes, logits.dtype) / classes
        sides = ((1 - known) * of_class, known * of_class)
        values = numerics.sum(entropy(logits, *sides), -1)
        return reduced(values, reduction), {"logits": logits, "sides": sides}

    def vjp(cache: Cache) -> Array:
        logits = cache["logits"]
        dprediction = entropy_slope(logits, *cache["sides"])
        dprediction *= share(_rows(logits), reduction, logits.dtype)
        return dprediction

    return Loss(apply, vjp, weight=over(reduction, _rows))
