"""Metrics of an order: whether what is of a class has larger scores than what is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from funcnn import checks, numerics
from funcnn.metrics.core import cases, metric, weights, zeros_and_ones
from funcnn.types import Array

__all__ = ["average_precision", "roc_auc"]


def _over_columns(
    prediction: object,
    target: object,
    ignore_index: int | None,
    weight: Array | None,
    one: Callable[[Array, Array], float],
) -> float:
    """The mean over classes of ``one(hits, misses)``, sums from the largest score on."""
    scores = checks.floating(prediction, "prediction")
    known = checks.array(target, "target")
    if scores.shape == known.shape and scores.ndim > 1 and scores.shape[-1] > 1:
        if ignore_index is not None:
            checks.refuse(f"`ignore_index` must be None for several labels, got {ignore_index}")
        found = weights(weight, known.shape[:-1])
        counts = np.ones(known.size // known.shape[-1], bool) if found is None else found != 0
        scores = scores.reshape(-1, known.shape[-1])[counts]
        truth = zeros_and_ones(known.reshape(-1, known.shape[-1])[counts]) == 1
        each = None if found is None else found[counts].astype(np.float64)
        if np.isnan(scores).any():
            checks.refuse("`prediction` must hold no NaN")
    else:
        judged = cases(prediction, target, ignore_index, weight)
        scores, each = judged.scores, judged.weight
        truth = judged.labels[:, None] == np.arange(scores.shape[-1])
        if scores.shape[-1] == 2:  # one order, of class 1
            scores = scores[:, 1:] if judged.binary else scores[:, 1:] - scores[:, :1]
            truth = truth[:, 1:]
    if each is None:
        each = np.ones(len(scores))
    values = [_curve(scores[:, i], truth[:, i], each, one) for i in range(scores.shape[-1])]
    return float(numerics.mean(np.array(values)))


def _curve(scores: Array, truth: Array, weight: Array, one: Callable[[Array, Array], float]) -> float:
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # equal scores come together
    if not scores.size:
        return float("nan")
    hits, misses = (np.cumsum(weight[order] * w)[ends] for w in (truth[order], ~truth[order]))
    return one(hits, misses)


@metric("max")
def roc_auc(
    prediction: Array, target: Array, *, ignore_index: int | None = None, weight: Array | None = None
) -> float:
    """The area under the ROC curve: how likely an example of the class scores above one that is not.

    Parameters
    ----------
    prediction : ndarray, ``(N, ..., C)``
        Scores, one for each class; or a single one for two classes, ``(N, ...)`` or ``(N, ..., 1)``.
    target : ndarray
        Classes as for `accuracy`, or zeros and ones ``(N, ..., C)``, any number of ones in a row.
    ignore_index, weight
        As for `accuracy`.

    Returns
    -------
    float
        Over several classes the mean, of each against all others, by its own scores: give
        probabilities, not logits, to compare examples. NaN where a class has no example, or all.

    Raises
    ------
    ValueError, TypeError
        For what `accuracy` refuses.

    Notes
    -----
    Equal scores count half. As `sklearn.metrics.roc_auc_score`, with ``multi_class="ovr"``.

    References
    ----------
    T. Fawcett, "An introduction to ROC analysis", 2006.

    Examples
    --------
    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    return _over_columns(prediction, target, ignore_index, weight, _area)


def _area(hits: Array, misses: Array) -> float:
    if not (hits[-1] and misses[-1]):
        return float("nan")
    heights = (hits + np.append(0, hits[:-1])) / 2
    widths = misses - np.append(0, misses[:-1])
    return float(numerics.sum(heights / hits[-1] * (widths / misses[-1])))


@metric("max")
def average_precision(
    prediction: Array, target: Array, *, ignore_index: int | None = None, weight: Array | None = None
) -> float:
    """The mean precision over all thresholds, by how much recall each adds.

    Parameters
    ----------
    prediction, target, ignore_index, weight
        As for `roc_auc`.

    Returns
    -------
    float
        Over several classes the mean, as for `roc_auc`; NaN where a class has no example.

    Raises
    ------
    ValueError, TypeError
        For what `accuracy` refuses.

    Notes
    -----
    As `sklearn.metrics.average_precision_score`, without interpolation.

    Examples
    --------
    >>> round(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])), 4)
    0.8333
    """
    return _over_columns(prediction, target, ignore_index, weight, _precision)


def _precision(hits: Array, misses: Array) -> float:
    if not hits[-1]:
        return float("nan")
    added = hits - np.append(0, hits[:-1])
    return float(numerics.sum(added / hits[-1] * (hits / (hits + misses))))
