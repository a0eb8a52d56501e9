"""What the metrics share: what is better, what counts, and means."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from funcnn import checks, numerics
from funcnn._kernels.steps import counted
from funcnn.checks import named, shown
from funcnn.types import Array

__all__ = ["Mean", "better", "with_lengths"]

Better = Literal["max", "min"]
_Metric = TypeVar("_Metric", bound=Callable[..., object])


def metric(which: Better) -> Callable[[_Metric], _Metric]:
    """Make a metric: a function that is named in its refusals, says what is better, and never warns.

    Where the target is a tuple ``(target, weight)``, as for `funcnn.weighted`, it has its weight there.
    """

    def make(function: _Metric) -> _Metric:
        @wraps(function)
        def measure(prediction: Any, target: Any, *args: Any, **options: Any) -> object:
            if type(target) is tuple and len(target) == 2 and options.get("weight") is None:
                target, options["weight"] = target
            return function(prediction, target, *args, **options)

        vars(measure)["better"] = which
        quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
        return named(quiet(measure))  # type: ignore[return-value]

    return make


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
    >>> from funcnn.metrics import accuracy, perplexity
    >>> better(accuracy), better(perplexity), better(lambda prediction, target: 0.0)
    ('max', 'min', None)
    """
    found = getattr(getattr(metric, "func", metric), "better", None)
    return found if found in ("max", "min") else None


@named
def with_lengths(metric: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """Make a metric of sequences of different lengths, whose target is a tuple ``(target, lengths)``.

    Parameters
    ----------
    metric : callable
        One of this module, a `functools.partial` of it, or your own, of targets ``(target, flags)``.

    Returns
    -------
    callable
        ``(prediction, (target, lengths)) -> value``: of each target ``(N, T, ...)``, as many first
        steps count as its length says, ints ``(N,)``, or those that have a flag ``(N, T)``.

    Raises
    ------
    ValueError, TypeError
        For lengths that do not fit the target; and what the metric refuses.

    Examples
    --------
    >>> from funcnn.metrics import accuracy
    >>> scores, labels = np.array([[[0.1, 0.9], [0.2, 0.8]]]), np.array([[1, 0]])
    >>> accuracy(scores, labels), with_lengths(accuracy)(scores, (labels, np.array([1])))
    (0.5, 1.0)
    """
    if not callable(metric):
        checks.refuse_type(f"`metric` must be callable, got {shown(metric)}")

    def measure(prediction: Any, target: Any) -> Any:
        if type(target) is not tuple or len(target) != 2:
            checks.refuse_type("`target` must be a tuple (target, lengths)")
        known = checks.array(target[0], "target")
        if known.ndim < 2:
            checks.refuse(f"`target` must be sequences (N, T, ...), got shape {shown(known.shape)}")
        found = checks.counts(target[1], known.shape[:2])
        return metric(prediction, (known, counted(found, known.shape[1])))

    vars(measure)["better"] = better(metric)
    return named(measure, "with_lengths")


class Cases(NamedTuple):
    """What counts: scores ``(N, C)``, classes ``(N,)``, weights ``(N,)`` or None for ones.

    `binary` says that there was one score for two classes.
    """

    scores: Array
    labels: Array
    weight: Array | None
    binary: bool

    def averaged(self, values: Array) -> float:
        """Of one value for each case; NaN for no cases."""
        return mean(values, self.weight)


def is_binary(scores: Array, known: Array) -> bool:
    """Whether there is a single score for each target of 0 or 1."""
    if scores.shape == known.shape:
        return scores.ndim == 1 or scores.shape[-1:] == (1,) or known.dtype.kind in "iub"
    return scores.ndim > 1 and scores.shape[-1] == 1 and scores.shape[:-1] == known.shape


def cases(
    prediction: object,
    target: object,
    ignore_index: int | None = None,
    weight: Array | None = None,
    threshold: float | None = None,
    relative: bool = True,
) -> Cases:
    """Predictions and classes, checked; of those alone that count.

    A single score ``z`` stands for the two scores ``[threshold, z]``. Weights are `relative` where
    only what they are to each other counts.
    """
    scores = checks.floating(prediction, "prediction")
    known = checks.array(target, "target")
    binary = is_binary(scores, known)
    if binary:
        classes = 2
        flat = scores.reshape(-1, 1)
        edge = checks.Number().check("threshold", 0.0 if threshold is None else threshold)
        scores, shape = np.concatenate([np.full(flat.shape, edge), flat], 1), known.shape
    else:
        if threshold is not None:
            checks.refuse(f"`threshold` must be None for scores of several classes, got {threshold}")
        known = _from_one_hot(scores, known, ignore_index, weight)
        if scores.ndim < 2 or known.shape != scores.shape[:-1]:
            checks.refuse(
                "`prediction` must be (N, ..., C) and `target` (N, ...), "
                f"got {shown(scores.shape)} and {shown(known.shape)}",
            )
        classes, shape = scores.shape[-1], known.shape
        if not classes:
            checks.refuse(f"`prediction` must have at least one class, got shape {shown(scores.shape)}")
        scores = scores.reshape(known.size, classes)
    labels = known.reshape(-1)
    counts = np.ones(labels.shape, bool)
    if ignore_index is not None:
        counts = labels != checks.Integer().check("ignore_index", ignore_index)
    found = weights(weight, shape, relative)
    if found is not None:
        counts = counts & (found != 0)
        found = found[counts] if found.dtype.kind == "f" else None
    scores, labels = scores[counts], labels[counts]
    if np.isnan(scores).any():
        checks.refuse("`prediction` must hold no NaN")
    if binary:
        labels = zeros_and_ones(labels)
    return Cases(scores, checks.labels(labels, classes).astype(np.int64), found, binary)


def _from_one_hot(scores: Array, known: Array, ignore_index: int | None, weight: object) -> Array:
    """Classes, where there are rows of probabilities; a row that does not count may hold anything."""
    if known.dtype.kind != "f" or known.shape != scores.shape:
        return known
    if ignore_index is not None:
        checks.refuse(f"`ignore_index` must be None for one-hot targets, got {ignore_index}")
    counts = weights(weight, known.shape[:-1])
    if counts is not None:
        known = np.where(counts.reshape(*known.shape[:-1], 1) == 0, np.eye(1, known.shape[-1]), known)
    wrong = ~(np.abs(numerics.sum(known, -1) - 1) <= 1e-3)
    if wrong.any():
        checks.refuse(
            "`target` must hold one-hot rows, which sum to 1, "
            f"got one that sums to {numerics.sum(known, -1)[wrong][0]}",
        )
    return np.asarray(known.argmax(-1))


def zeros_and_ones(labels: Array) -> Array:
    """Targets that are 0 or 1, as integers, whatever their dtype."""
    if labels.dtype.kind not in "biuf":
        checks.refuse_type(f"`target` must be numbers, got {labels.dtype}")
    wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        checks.refuse(f"`target` must be 0 or 1 for such scores, got {labels[wrong][0]}")
    return labels.astype(np.int64)


def weights(weight: object, shape: tuple[int, ...], relative: bool = True) -> Array | None:
    """One for each target, flat: booleans, or numbers of at least 0, which become float64.

    Where they are `relative`, the largest is brought near 1, by a power of 2.
    """
    if weight is None:
        return None
    found = checks.weights(weight)
    if found.shape != shape:
        checks.refuse(f"`weight` must have the shape {shown(shape)}, got {shown(found.shape)}")
    flat = found.reshape(-1)
    if flat.dtype.kind == "b":
        return flat
    wide = flat.astype(np.float64)
    exponent = np.frexp(np.max(wide, initial=0))[1] if relative else 0
    return np.ldexp(wide, -exponent) if abs(exponent) > 20 else wide


def mean(values: Array, weight: Array | None) -> float:
    """The mean, by weights if there are some; NaN of nothing, and finite where the numbers are."""
    if not values.size:
        return float("nan")
    if values.dtype.kind == "b" and weight is None:
        return int(np.count_nonzero(values)) / values.size
    values = values.astype(np.float64)
    top = np.max(np.abs(values))
    if not 0 < top < np.inf:
        top = np.float64(1)
    values = values / top
    if weight is None:
        return float(numerics.mean(values) * top)
    return float(numerics.sum(values * weight) / numerics.sum(weight) * top)


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

    def add(self, value: float, weight: float | None = 1.0) -> Mean:
        """One more value. A weight of None says that it is a sum, which is added as it is."""
        total = self.total + float(value) * (1.0 if weight is None else float(weight))
        return Mean(total, self.weight + float(weight or 0), self.values + 1)

    @property
    def value(self) -> float:
        """The mean, or the sum of sums; NaN before the first value."""
        return self.total / (self.weight or 1) if self.values else float("nan")
