"""Losses of classes: logits or log-probabilities against labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from funcnn import checks, numerics
from funcnn._kernels.softmax import (
    balanced,
    cross_entropy,
    cross_entropy_gradient,
    entries,
    log_softmax,
)
from funcnn.checks import Integer, Number, Optional, shown
from funcnn.losses.core import (
    REDUCTION,
    Weights,
    batch,
    class_weights,
    counted,
    like,
    one_hot,
    over,
    reduced,
    shaped,
    share,
    times_difference,
    unit,
)
from funcnn.losses.rounding import loss
from funcnn.types import Array, Cache, Loss

__all__ = ["multi_margin", "nll", "softmax_cross_entropy"]

_IGNORED = Optional(Integer())


def _labels(
    target: object,
    scores: Array,
    class_weight: Any,
    ignore_index: int | None = None,
    factor: float = 1.0,
) -> tuple[Array, Array, Array]:
    """Labels, their weights, and the classes' weights; what is ignored is class 0 and weighs 0."""
    known = checks.integers(target, "target")
    of_class = class_weights("class_weight", class_weight, scores.shape[-1], scores.dtype, factor)
    counts = np.ones(known.shape, bool) if ignore_index is None else known != ignore_index
    known = checks.labels(np.where(counts, known, 0), scores.shape[-1])
    shaped(known, scores.shape[:-1])
    return known, of_class[known] * counts, of_class


def _unit(class_weight: Any, reduction: str) -> float:
    """The factor of weights by which the mean divides again."""
    return unit(max(class_weight)) if class_weight is not None and reduction == "mean" else 1.0


def _weight(target: Array, class_weight: Any, ignore_index: int | None, factor: float) -> float:
    """The sum of the weights of labels that count, times a factor."""
    counts = target if ignore_index is None else target[target != ignore_index]
    if class_weight is None:
        return float(counts.size)
    return float(numerics.sum((np.array(class_weight) * factor)[counts].reshape(-1)))


def _some(total: float, reduction: str) -> float:
    """The sum of the weights, by which the mean divides."""
    if reduction == "mean" and not total > 0:
        checks.refuse("`target` must have an example that counts: all are ignored or weigh 0")
    return total


def _far(logits: Array, labels: Array, factor: Any) -> Array:
    """A factor times cross-entropies so large that they are how far a label is behind the largest."""
    top = np.maximum.reduce(logits, -1)
    scores = logits.reshape(-1)[entries(labels, logits.shape[-1])]
    return times_difference(top, scores.reshape(top.shape), factor)


def _weighted_far(logits: Array, q: Array, factor: Any) -> Array:
    """The same for targets that weigh each class."""
    top = np.maximum.reduce(logits, -1, keepdims=True)
    return numerics.sum(counted(q, times_difference(top, logits, factor)), -1)


@loss(
    class_weight=Weights(),
    label_smoothing=Number(minimum=0, below=1),
    ignore_index=_IGNORED,
    reduction=REDUCTION,
)
def softmax_cross_entropy(
    *,
    class_weight: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Loss:
    """Cross-entropy of the softmax of logits, fused with it.

    Parameters
    ----------
    class_weight : sequence of float, optional
        How much each class counts, at least 0.
    label_smoothing : float, default 0.0
        The part of each target that is spread evenly over all classes.
    ignore_index : int, optional
        The label of examples that do not count: a mask for sequences, say -1. Their logits may be
        anything. Probabilities have no such label, and are refused.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the examples. The mean over labels divides by the sum of the
        weights of those that count; the mean over probabilities, by their number.

    Returns
    -------
    Loss
        ``prediction`` holds logits ``(N, ..., C)``; ``target`` integer classes ``(N, ...)``, or
        probabilities ``(N, ..., C)`` that sum to one.

    Raises
    ------
    ValueError, TypeError
        For negative class weights, labels outside ``0..C-1``, targets of another shape or kind, an
        empty batch, a mean over examples of which none counts.

    Notes
    -----
    Forward: ``-sum(target * log_softmax(z))``, stable for logits of any size, with all its
    digits where the answer is all but right. A logit of -inf is a probability of 0; one of inf shares
    1 with its equals, where PyTorch gives NaN. Gradient: ``softmax(z) - onehot(y)``, divided by the
    number of examples for the mean; in general ``sum(q) * softmax(z) - q`` with
    ``q = weight * smoothed target``. As `torch.nn.CrossEntropyLoss`, but with the classes on the
    last axis.

    References
    ----------
    J. Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990;
    for the smoothing, C. Szegedy et al., "Rethinking the Inception architecture for computer
    vision", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import softmax_cross_entropy
    >>> loss = softmax_cross_entropy()
    >>> value, cache = loss.apply(np.array([[1.0, 1.0]]), np.array([0]))
    >>> round(float(value), 4), loss.vjp(cache)
    (0.6931, array([[-0.5,  0.5]]))
    """
    factor = _unit(class_weight, reduction)
    plain = class_weight is None and not label_smoothing and ignore_index is None

    def count(target: Array) -> float:
        if target.dtype.kind == "f":
            return target.size // int(target.shape[-1])
        return _weight(target, class_weight, ignore_index, factor)

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        logits = batch(prediction, 2)
        known = target if type(target) is np.ndarray else checks.array(target, "target")
        if plain and known.dtype.kind != "f":
            shaped(checks.labels(known, logits.shape[-1]), logits.shape[:-1])
            values, record = cross_entropy(logits, known)
            return reduced(values, reduction, times=partial(_far, logits, known)), {"record": record}
        q = of_probabilities(logits, known) if known.dtype.kind == "f" else of_weights(logits, known)
        total = _some(count(known), reduction)
        log_p = log_softmax(np.where(q.any(-1, keepdims=True), logits, 0))
        values = numerics.sum(counted(q, -log_p), -1)
        part = share(total, reduction, logits.dtype)
        times = partial(_weighted_far, logits, q)
        return reduced(values, reduction, total, times), {"log_p": log_p, "q": q, "share": part}

    def of_probabilities(logits: Array, known: Array) -> Array:
        """The weighted target, from probabilities."""
        if known.shape == logits.shape[:-1]:
            text = f"`target` must be integers, or probabilities {shown(logits.shape)}"
            checks.refuse(f"{text}, got {known.dtype} of shape {shown(known.shape)}")
        like(known, logits)
        if ignore_index is not None:
            checks.refuse(f"`ignore_index` must be None for probabilities, got {ignore_index}")
        classes = logits.shape[-1]
        of_class = class_weights("class_weight", class_weight, classes, logits.dtype)
        return counted(of_class, known * (1 - label_smoothing) + label_smoothing / classes)

    def of_weights(logits: Array, known: Array) -> Array:
        """The weighted target, from labels."""
        labels, of_example, of_class = _labels(known, logits, class_weight, ignore_index, factor)
        classes = logits.shape[-1]
        q = one_hot(labels, classes, logits.dtype) * (of_example * (1 - label_smoothing))[..., None]
        if label_smoothing:
            counts = np.ones(1, bool) if ignore_index is None else known[..., None] != ignore_index
            q = q + counts * of_class * (label_smoothing / classes)
        return q

    def vjp(cache: Cache) -> Array:
        if "record" in cache:
            record = cache["record"]
            count = record[0].size // record[0].shape[-1]
            return cross_entropy_gradient(record, share(count, reduction, record[0].dtype))
        log_p, q = cache["log_p"], cache["q"]
        p = numerics.exp(log_p)
        dz = balanced(p * numerics.sum(q, -1, keepdims=True) - q, p)
        dz *= cache["share"]
        return dz

    return Loss(apply, vjp, weight=over(reduction, count))


@loss(class_weight=Weights(), ignore_index=_IGNORED, reduction=REDUCTION)
def nll(
    *,
    class_weight: Sequence[float] | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Loss:
    """Negative log-likelihood of labels, given log-probabilities.

    Parameters
    ----------
    class_weight : sequence of float, optional
        How much each class counts, at least 0.
    ignore_index : int, optional
        The label of examples that do not count; their log-probabilities may be anything.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the examples; the mean divides by the sum of the weights of
        those that count.

    Returns
    -------
    Loss
        ``prediction`` holds log-probabilities ``(N, ..., C)``, as `funcnn.log_softmax` gives them;
        ``target`` integer classes ``(N, ...)``.

    Raises
    ------
    ValueError, TypeError
        For negative class weights, labels outside ``0..C-1``, targets of another shape or kind, an
        empty batch, a mean over examples of which none counts.

    Notes
    -----
    Forward: ``-weight[y] * p[y]``. Gradient: ``-weight[y]`` at ``y``, else 0. As
    `torch.nn.NLLLoss`, but with the classes on the last axis.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import nll
    >>> loss = nll()
    >>> value, cache = loss.apply(np.array([[-0.5, -1.5]]), np.array([1]))
    >>> float(value), loss.vjp(cache)
    (1.5, array([[ 0., -1.]]))
    """

    factor = _unit(class_weight, reduction)

    def count(target: Array) -> float:
        return _weight(target, class_weight, ignore_index, factor)

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        log_p = batch(prediction, 2)
        labels, of_example, _ = _labels(target, log_p, class_weight, ignore_index, factor)
        total = _some(count(target), reduction)
        at = entries(labels, log_p.shape[-1])
        values = counted(of_example, -log_p.reshape(-1)[at].reshape(labels.shape))
        slope = of_example.reshape(-1) * share(total, reduction, log_p.dtype)
        return reduced(values, reduction, total), {"at": at, "slope": slope, "shape": log_p.shape}

    def vjp(cache: Cache) -> Array:
        at, slope, shape = cache["at"], cache["slope"], cache["shape"]
        dprediction = np.zeros(at.size * shape[-1], slope.dtype)
        dprediction[at] = -slope
        return dprediction.reshape(shape)

    return Loss(apply, vjp, weight=over(reduction, count))


@loss(power=Integer(1), margin=Number(), class_weight=Weights(), reduction=REDUCTION)
def multi_margin(
    *,
    power: int = 1,
    margin: float = 1.0,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
) -> Loss:
    """How much is missing to a margin between the right class's score and each other's.

    Parameters
    ----------
    power : 1 or 2, default 1
        To which what is missing is raised.
    margin : float, default 1.0
        The margin.
    class_weight : sequence of float, optional
        How much each right class counts, at least 0; the scores of examples that weigh 0 may be
        anything.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the examples; the mean divides by their number.

    Returns
    -------
    Loss
        ``prediction`` holds scores ``(N, ..., C)``; ``target`` integer classes ``(N, ...)``.

    Raises
    ------
    ValueError, TypeError
        For negative class weights, labels outside ``0..C-1``, targets of another shape or kind, an
        empty batch.

    Notes
    -----
    Forward: ``weight[y] * sum(h**power) / C`` with ``h = max(0, margin - z[y] + z[i])``, over
    ``i != y``. Gradient: ``weight[y] power h**(power - 1) / C`` at ``i``, minus their sum at ``y``.
    As `torch.nn.MultiMarginLoss`, but with the classes on the last axis.

    References
    ----------
    K. Crammer and Y. Singer, "On the algorithmic implementation of multiclass kernel-based vector
    machines", 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import multi_margin
    >>> loss = multi_margin()
    >>> value, cache = loss.apply(np.array([[2.0, 1.5]]), np.array([0]))
    >>> float(value), loss.vjp(cache)
    (0.25, array([[-0.5,  0.5]]))
    """
    if power > 2:
        checks.refuse(f"`power` must be 1 or 2, got {shown(power)}")

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        scores = batch(prediction, 2)
        labels, of_example, _ = _labels(target, scores, class_weight)
        classes = scores.shape[-1]
        at = entries(labels, classes)
        right = scores.reshape(-1)[at].reshape(*labels.shape, 1)
        weight = (of_example / classes)[..., None]

        def missing(s: Any) -> Array:
            """Times a factor, which may be finite where it alone is not."""
            below = np.maximum(s * margin - times_difference(right, scores, s), 0)
            flat = np.where(of_example[..., None] == 0, 0, below).reshape(-1)
            flat[at] = 0
            return flat.reshape(scores.shape)

        found = missing(1)

        def values(s: Any) -> Any:
            below = found if s == 1 else missing(s)
            return numerics.sum(below * weight * (1 if power == 1 else below / s), -1)

        cache = {"missing": found, "weight": weight, "at": at}
        return reduced(values(1), reduction, times=values), cache

    def vjp(cache: Cache) -> Array:
        missing, weight, at = cache["missing"], cache["weight"], cache["at"]
        dz = (missing > 0) * weight if power == 1 else 2 * missing * weight
        dz *= share(at.size, reduction, missing.dtype)
        at_right = -numerics.sum(dz, -1).reshape(-1)
        flat: Array = dz.reshape(-1)
        flat[at] = at_right
        return flat.reshape(missing.shape)

    return Loss(apply, vjp, weight=over(reduction, np.size))
