"""Metrics: what a person wants to know of predictions, ``(prediction, target) -> float``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from funcnn import _checks, numerics
from funcnn._kernels.softmax import log_softmax
from funcnn.types import Array

__all__ = [
    "Mean",
    "accuracy",
    "better",
    "confusion_matrix",
    "f1",
    "perplexity",
    "precision",
    "recall",
    "top_k",
]


Better = Literal["max", "min"]
_Metric = TypeVar("_Metric", bound=Callable[..., object])


def _is_better(which: Better) -> Callable[[_Metric], _Metric]:
    """Say on a metric whether the best value is the largest or the smallest."""

    def say(metric: _Metric) -> _Metric:
        vars(metric)["better"] = which
        return metric

    return say


def better(metric: object) -> Better | None:
    """Say whether a metric is better when it is larger or when it is smaller.

    Parameters
    ----------
    metric : callable
        One of this module, of your own with an attribute ``better``, or a `functools.partial` of it.

    Returns
    -------
    "max", "min" or None
        None where the metric does not say.

    Examples
    --------
    >>> better(accuracy), better(perplexity), better(lambda prediction, target: 0.0)
    ('max', 'min', None)
    """
    found = getattr(getattr(metric, "func", metric), "better", None)
    return found if found in ("max", "min") else None


def _classes(who: str, prediction: object, target: object) -> tuple[Array, Array]:
    """Logits and the class of each row; one-hot targets become classes."""
    logits = _checks.floating(who, prediction, "prediction")
    known = _checks.array(who, target, "target")
    if known.dtype.kind == "f" and known.shape == logits.shape:
        known = known.argmax(-1)
    if logits.ndim < 2 or known.shape != logits.shape[:-1]:
        _checks.refuse(
            who,
            "`prediction` must be (N, ..., C) and `target` (N, ...), "
            f"got {logits.shape} and {known.shape}",
        )
    if np.isnan(logits).any():
        _checks.refuse(who, "`prediction` must hold no NaN")
    return logits, _checks.labels(who, known, logits.shape[-1])


@_is_better("max")
def accuracy(prediction: Array, target: Array) -> float:
    """Fraction of examples whose largest logit is that of their class.

    Parameters
    ----------
    prediction : ndarray, ``(N, ..., C)``
        Logits or probabilities.
    target : ndarray, ``(N, ...)`` of ints, or ``(N, ..., C)`` one-hot
        Classes.

    Returns
    -------
    float
        NaN for no examples.

    Raises
    ------
    ValueError, TypeError
        For shapes that do not fit, classes out of range, or predictions that are NaN.

    Examples
    --------
    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    logits, known = _classes("accuracy", prediction, target)
    if not known.size:
        return float("nan")
    return int(np.count_nonzero(logits.argmax(-1) == known)) / known.size


def top_k(k: int) -> Callable[[Array, Array], float]:
    """Make a metric: the fraction of examples whose class is among the k largest logits.

    Of equal logits the first counts as larger, as in `accuracy`, which is ``top_k(1)``.

    Parameters
    ----------
    k : int
        How many may be tried.

    Returns
    -------
    callable
        ``(prediction, target) -> float``.

    Raises
    ------
    ValueError, TypeError
        For k below 1, or what `accuracy` refuses.

    Examples
    --------
    >>> top_k(2)(np.array([[0.1, 0.7, 0.2], [0.8, 0.15, 0.05]]), np.array([2, 2]))
    0.5
    """
    k = _checks.integer("top_k", "k", k, 1)

    @_is_better("max")
    def metric(prediction: Array, target: Array) -> float:
        logits, known = _classes("top_k", prediction, target)
        if not known.size:
            return float("nan")
        place = known[..., None].astype(np.int64)
        own = np.take_along_axis(logits, place, -1)
        before = np.arange(logits.shape[-1]) < place
        above = np.count_nonzero((logits > own) | ((logits == own) & before), -1)
        return int(np.count_nonzero(above < k)) / known.size

    return metric


def confusion_matrix(prediction: Array, target: Array) -> Array:
    """Count, for each true class (row), what was predicted (column).

    Parameters
    ----------
    prediction : ndarray, ``(N, ..., C)``
        Logits or probabilities.
    target : ndarray, ``(N, ...)`` of ints, or ``(N, ..., C)`` one-hot
        Classes.

    Returns
    -------
    ndarray of int64, ``(C, C)``

    Raises
    ------
    ValueError, TypeError
        For shapes that do not fit, or classes out of range.

    Examples
    --------
    >>> confusion_matrix(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    array([[0, 0],
           [1, 1]])
    """
    logits, known = _classes("confusion_matrix", prediction, target)
    classes = logits.shape[-1]
    cells = known.reshape(-1).astype(np.int64) * classes + logits.argmax(-1).reshape(-1)
    counts = np.bincount(cells, minlength=classes * classes).astype(np.int64, copy=False)
    return counts.reshape(classes, classes)


def _ratio(hits: Array, totals: Array) -> float:
    """The mean over classes of hits / totals; a class without any counts as 0."""
    ratios = hits / np.maximum(totals, 1)
    return float(numerics.mean(ratios))


@_is_better("max")
def precision(prediction: Array, target: Array) -> float:
    """Of what was called a class, the fraction that is it; the mean over classes.

    Parameters
    ----------
    prediction, target : ndarray
        As for `accuracy`.

    Returns
    -------
    float
        Macro average over all C classes; one that was never predicted counts as 0, as in
        scikit-learn with ``labels=range(C)``.

    Examples
    --------
    >>> precision(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    counts = confusion_matrix(prediction, target)
    return _ratio(np.diagonal(counts), numerics.sum(counts, 0))


@_is_better("max")
def recall(prediction: Array, target: Array) -> float:
    """Of what is of a class, the fraction that was found; the mean over classes.

    Parameters
    ----------
    prediction, target : ndarray
        As for `accuracy`.

    Returns
    -------
    float
        Macro average over all C classes; one that does not occur counts as 0, as in scikit-learn
        with ``labels=range(C)``.

    Examples
    --------
    >>> recall(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.25
    """
    counts = confusion_matrix(prediction, target)
    return _ratio(np.diagonal(counts), numerics.sum(counts, 1))


@_is_better("max")
def f1(prediction: Array, target: Array) -> float:
    """The harmonic mean of precision and recall of each class; the mean over classes.

    Parameters
    ----------
    prediction, target : ndarray
        As for `accuracy`.

    Returns
    -------
    float
        Macro average over all C classes, as in scikit-learn with ``labels=range(C)``.

    Examples
    --------
    >>> round(f1(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1])), 4)
    0.3333
    """
    counts = confusion_matrix(prediction, target)
    return _ratio(2 * np.diagonal(counts), numerics.sum(counts, 0) + numerics.sum(counts, 1))


@_is_better("min")
def perplexity(prediction: Array, target: Array) -> float:
    """The exponential of the mean cross-entropy: how many choices a model hesitates between.

    Parameters
    ----------
    prediction : ndarray, ``(N, ..., C)``
        Logits.
    target : ndarray, ``(N, ...)`` of ints
        Classes.

    Returns
    -------
    float

    Examples
    --------
    >>> perplexity(np.zeros((2, 10)), np.array([3, 4])).__round__(6)
    10.0
    """
    logits, known = _classes("perplexity", prediction, target)
    log_p = np.take_along_axis(log_softmax(logits), known[..., None].astype(np.int64), -1)
    return float(numerics.exp(-numerics.mean(log_p.astype(np.float64))))


class Mean(NamedTuple):
    """A running mean, immutable: `add` gives the next one.

    Parameters
    ----------
    total : float
        The weighted sum of the values so far.
    weight : float
        The sum of their weights.
    values : int
        How many there were.

    Examples
    --------
    >>> Mean().add(1.0, 3).add(5.0, 1).value
    2.0
    """

    total: float = 0.0
    weight: float = 0.0
    values: int = 0

    def add(self, value: float, weight: float = 1.0) -> Mean:
        """One more value. A weight of 0 says that it is a sum, which is added as it is."""
        return Mean(self.total + float(value) * (weight or 1), self.weight + weight, self.values + 1)

    @property
    def value(self) -> float:
        """The mean, or the sum of sums; NaN before the first value."""
        return self.total / (self.weight or 1) if self.values else float("nan")
