"""Metrics of classes: logits or probabilities against what is true.

A single score for each example, ``(N,)`` or ``(N, 1)``, is that of class 1 of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import checks, numerics
from funcnn._kernels.softmax import log_softmax
from funcnn.checks import Choice, named
from funcnn.metrics.core import Cases, cases, metric
from funcnn.types import Array

__all__ = [
    "accuracy",
    "confusion_matrix",
    "f1",
    "log_loss",
    "perplexity",
    "precision",
    "recall",
    "top_k",
]

_AVERAGES = Choice("macro", "micro", "weighted", "none")


@metric("max")
def accuracy(
    prediction: Array,
    target: Array,
    *,
    ignore_index: int | None = None,
    weight: Array | None = None,
    threshold: float | None = None,
) -> float:
    """Fraction of examples whose largest logit is that of their class.

    Parameters
    ----------
    prediction : ndarray, ``(N, ..., C)``
        Logits or probabilities; or a single one for two classes, ``(N, ...)`` or ``(N, ..., 1)``.
    target : ndarray, ``(N, ...)`` of ints, or ``(N, ..., C)`` one-hot
        Classes; for a single logit zeros and ones, of any dtype, in its shape or ``(N, ...)``.
    ignore_index : int, optional
        The label of examples that do not count; their logits may be anything.
    weight : ndarray, ``(N, ...)``, optional
        How much each example counts, or which do (booleans).
    threshold : float, optional
        Above which a single logit says class 1; by default 0, for probabilities give 0.5.

    Returns
    -------
    float
        NaN for no examples.

    Raises
    ------
    ValueError, TypeError
        For shapes that do not fit, classes out of range, float targets that are neither one-hot nor
        zeros and ones, or predictions that are NaN.

    Examples
    --------
    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    >>> accuracy(np.array([[2.0], [-1.0]]), np.array([[0.0], [1.0]]))  # single logits
    0.0
    """
    found = cases(prediction, target, ignore_index, weight, threshold)
    return found.averaged(_called(found) == found.labels)


def _called(found: Cases) -> Array:
    """The class of the largest score."""
    return np.asarray(found.scores.argmax(-1))


def top_k(k: int) -> Callable[..., float]:
    """Make a metric: the fraction of examples whose class is among the k largest logits.

    Of equal logits the first counts as larger, as in `accuracy`, which is ``top_k(1)``.

    Parameters
    ----------
    k : int
        How many may be tried.

    Returns
    -------
    callable
        ``(prediction, target, *, ignore_index=None, weight=None) -> float``.

    Raises
    ------
    ValueError, TypeError
        For k below 1, or what `accuracy` refuses.

    Examples
    --------
    >>> top_k(2)(np.array([[0.1, 0.7, 0.2], [0.8, 0.15, 0.05]]), np.array([2, 2]))
    0.5
    """
    try:
        k = checks.Integer(1).check("k", k)
    except checks.Refusal as refusal:
        raise refusal.by("top_k")

    def top(
        prediction: Array,
        target: Array,
        *,
        ignore_index: int | None = None,
        weight: Array | None = None,
    ) -> float:
        found = cases(prediction, target, ignore_index, weight)
        place = found.labels[:, None]
        own = np.take_along_axis(found.scores, place, -1)
        before = np.arange(found.scores.shape[-1]) < place
        above = np.count_nonzero((found.scores > own) | ((found.scores == own) & before), -1)
        return found.averaged(above < k)

    top.__name__ = "top_k"
    return metric("max")(top)


@named
def confusion_matrix(
    prediction: Array,
    target: Array,
    *,
    ignore_index: int | None = None,
    weight: Array | None = None,
    threshold: float | None = None,
) -> Array:
    """Count, for each true class (row), what was predicted (column).

    Parameters
    ----------
    prediction, target, ignore_index, weight, threshold
        As for `accuracy`.

    Returns
    -------
    ndarray of int64, ``(C, C)``
        Of float64 where `weight` holds numbers.

    Raises
    ------
    ValueError, TypeError
        For what `accuracy` refuses.

    Examples
    --------
    >>> confusion_matrix(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    array([[0, 0],
           [1, 1]])
    """
    return _counts(cases(prediction, target, ignore_index, weight, threshold, relative=False))


def _counts(found: Cases) -> Array:
    classes = found.scores.shape[-1]
    cells = found.labels * classes + _called(found)
    counts = np.bincount(cells, found.weight, classes * classes).reshape(classes, classes)
    return counts.astype(np.int64 if found.weight is None else np.float64)


def _averaged(
    found: Cases, average: str | None, hits_and_totals: Callable[[Array], tuple[Array, Array]]
) -> Any:
    """The ratio of each class, or a mean of them; a class without any counts as 0."""
    if average is not None:
        average = _AVERAGES.check("average", average)
    counts = _counts(found)
    hits, totals = (x.astype(np.float64) for x in hits_and_totals(counts))
    ratios = hits / np.where(totals == 0, 1, totals)  # no totals, no hits
    if average == "none":
        return ratios
    if not found.labels.size:
        return float("nan")
    if average == "micro":
        return float(numerics.sum(hits) / numerics.sum(totals))
    if average == "weighted":
        support = numerics.sum(counts, 1)
        return float(numerics.sum(ratios * support) / numerics.sum(support))
    if average is None and found.binary:
        return float(ratios[1])
    return float(numerics.mean(ratios))


@metric("max")
def precision(
    prediction: Array,
    target: Array,
    *,
    average: str | None = None,
    ignore_index: int | None = None,
    weight: Array | None = None,
    threshold: float | None = None,
) -> Any:
    """Of what was called a class, the fraction that is it.

    Parameters
    ----------
    prediction, target, ignore_index, weight, threshold
        As for `accuracy`.
    average : "macro", "micro", "weighted" or "none", optional
        The mean over all C classes, over all examples, over classes by how often they occur, or all
        C fractions. By default macro; for a single logit, the fraction of class 1.

    Returns
    -------
    float
        NaN for no examples; an array ``(C,)`` for "none". A class that was never predicted counts
        as 0, as in scikit-learn with ``labels=range(C)``.

    Raises
    ------
    ValueError, TypeError
        For what `accuracy` refuses.

    Examples
    --------
    >>> precision(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    found = cases(prediction, target, ignore_index, weight, threshold)
    return _averaged(found, average, lambda n: (np.diagonal(n), numerics.sum(n, 0)))


@metric("max")
def recall(
    prediction: Array,
    target: Array,
    *,
    average: str | None = None,
    ignore_index: int | None = None,
    weight: Array | None = None,
    threshold: float | None = None,
) -> Any:
    """Of what is of a class, the fraction that was found.

    Parameters
    ----------
    prediction, target, average, ignore_index, weight, threshold
        As for `precision`.

    Returns
    -------
    float
        NaN for no examples; an array ``(C,)`` for "none". A class that does not occur counts as 0,
        as in scikit-learn with ``labels=range(C)``.

    Raises
    ------
    ValueError, TypeError
        For what `accuracy` refuses.

    Examples
    --------
    >>> recall(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.25
    """
    found = cases(prediction, target, ignore_index, weight, threshold)
    return _averaged(found, average, lambda n: (np.diagonal(n), numerics.sum(n, 1)))


@metric("max")
def f1(
    prediction: Array,
    target: Array,
    *,
    average: str | None = None,
    ignore_index: int | None = None,
    weight: Array | None = None,
    threshold: float | None = None,
) -> Any:
    """The harmonic mean of precision and recall of each class.

    Parameters
    ----------
    prediction, target, average, ignore_index, weight, threshold
        As for `precision`.

    Returns
    -------
    float
        NaN for no examples; an array ``(C,)`` for "none". As in scikit-learn with
        ``labels=range(C)``.

    Raises
    ------
    ValueError, TypeError
        For what `accuracy` refuses.

    Examples
    --------
    >>> round(f1(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1])), 4)
    0.3333
    """
    found = cases(prediction, target, ignore_index, weight, threshold)
    return _averaged(
        found, average, lambda n: (2 * np.diagonal(n), numerics.sum(n, 0) + numerics.sum(n, 1))
    )


@metric("min")
def log_loss(
    prediction: Array, target: Array, *, ignore_index: int | None = None, weight: Array | None = None
) -> float:
    """The mean cross-entropy of the softmax of logits, or of the sigmoid of a single one.

    Parameters
    ----------
    prediction : ndarray, ``(N, ..., C)``
        Logits; or a single one for two classes, ``(N, ...)`` or ``(N, ..., 1)``.
    target, ignore_index, weight
        As for `accuracy`.

    Returns
    -------
    float
        NaN for no examples.

    Raises
    ------
    ValueError, TypeError
        For what `accuracy` refuses.

    Examples
    --------
    >>> round(log_loss(np.zeros((2, 10)), np.array([3, 4])), 6)
    2.302585
    """
    return _cross_entropy(cases(prediction, target, ignore_index, weight))


@metric("min")
def perplexity(
    prediction: Array, target: Array, *, ignore_index: int | None = None, weight: Array | None = None
) -> float:
    """The exponential of the mean cross-entropy: how many choices a model hesitates between.

    Parameters
    ----------
    prediction, target, ignore_index, weight
        As for `log_loss`.

    Returns
    -------
    float
        NaN for no examples.

    Raises
    ------
    ValueError, TypeError
        For what `accuracy` refuses.

    Examples
    --------
    >>> perplexity(np.zeros((2, 10)), np.array([3, 4])).__round__(6)
    10.0
    """
    entropy = _cross_entropy(cases(prediction, target, ignore_index, weight))
    return float(numerics.exp(np.array(entropy)))


def _cross_entropy(found: Cases) -> float:
    log_p = log_softmax(found.scores.astype(np.float64))
    return found.averaged(-np.take_along_axis(log_p, found.labels[:, None], -1)[:, 0])
