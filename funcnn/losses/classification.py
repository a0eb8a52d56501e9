"""Losses of classes: logits or log-probabilities against labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcnn import _checks, numerics
from funcnn._kernels.softmax import log_softmax
from funcnn.losses.core import (
    REDUCTIONS,
    batch,
    between,
    class_weights,
    counted,
    elementwise,
    fitted,
    one_hot,
    one_of,
    over,
    quiet,
    reduced,
    shaped,
    share,
    weights,
)
from funcnn.types import Array, Cache, Loss, Spec

__all__ = [
    "binary_cross_entropy_with_logits",
    "focal",
    "hinge",
    "multi_margin",
    "nll",
    "softmax_cross_entropy",
]


def _weighted(
    who: str, target: object, scores: Array, given: tuple[float, ...] | None, ignored: int | None
) -> tuple[Array, Array, Array]:
    """Labels, their weights, and the classes' weights; what is ignored is class 0 and weighs 0."""
    known = _checks.array(who, target, "target")
    classes = scores.shape[-1]
    of_class = class_weights(who, "class_weight", given, classes, scores.dtype)
    counts = np.ones(known.shape, bool) if ignored is None else known != ignored
    known = np.where(counts, known, known.dtype.type(0))
    _checks.labels(who, known, classes)
    shaped(who, known, scores.shape[:-1])
    of_example: Array = of_class[known] * counts
    return known, of_example, of_class


def _weight(target: Array, given: tuple[float, ...] | None, ignored: int | None) -> float:
    """The sum of the weights of labels that count."""
    counted = target if ignored is None else target[target != ignored]
    if given is None:
        return float(counted.size)
    return float(numerics.sum(np.array(given)[counted].reshape(-1)))


def _some(who: str, total: float, reduction: str) -> float:
    """The sum of the weights, by which the mean divides."""
    if reduction == "mean" and not total > 0:
        _checks.refuse(who, "`target` must have an example that counts: all are ignored or weigh 0")
    return total


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
    Forward: ``-sum(target * log_softmax(z))``, stable for logits of any finite size; a logit of
    -inf is a probability of 0, and one of inf gives NaN, as infinities do not compare. Gradient:
    ``softmax(z) - onehot(y)``, divided by the number of examples for the mean; in general
    ``sum(q) * softmax(z) - q`` with ``q = weight * smoothed target``. As
    `torch.nn.CrossEntropyLoss`, but with the classes on the last axis.

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
    who = "softmax_cross_entropy"
    given = weights(who, "class_weight", class_weight)
    smoothing = _checks.number(who, "label_smoothing", label_smoothing, minimum=0, below=1)
    ignored = None if ignore_index is None else _checks.integer(who, "ignore_index", ignore_index)
    _checks.choice(who, "reduction", reduction, REDUCTIONS)
    plain = given is None and not smoothing and ignored is None

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        logits = batch(who, prediction, 2)
        known = _checks.array(who, target, "target")
        if plain and known.dtype.kind != "f":
            _checks.labels(who, known, logits.shape[-1])
            shaped(who, known, logits.shape[:-1])
            return of_labels(logits, known)
        classes = logits.shape[-1]
        if known.dtype.kind == "f":
            if known.shape == logits.shape[:-1]:
                text = f"`target` must be integers, or probabilities {logits.shape}"
                _checks.refuse(who, f"{text}, got {known.dtype} of shape {known.shape}")
            _checks.same_dtype(who, known, logits, "target", "the prediction is")
            shaped(who, known, logits.shape)
            if ignored is not None:
                _checks.refuse(who, f"`ignore_index` must be None for probabilities, got {ignored}")
            of_class = class_weights(who, "class_weight", given, classes, logits.dtype)
            q = (known * (1 - smoothing) + smoothing / classes) * of_class
            total = count(known)
        else:
            labels, of_example, of_class = _weighted(who, known, logits, given, ignored)
            total = _some(who, count(known), reduction)
            q = one_hot(labels, classes, logits.dtype) * (of_example * (1 - smoothing))[..., None]
            if smoothing:
                counts = np.ones(1, bool) if ignored is None else known[..., None] != ignored
                q = q + counts * of_class * (smoothing / classes)
        return of_distributions(logits, q, total)

    @quiet
    def of_distributions(logits: Array, q: Array, total: float) -> tuple[Any, Cache]:
        log_p = log_softmax(np.where(q.any(-1, keepdims=True), logits, 0))
        values = numerics.sum(counted(q, -log_p), -1)
        part = share(total, reduction, logits.dtype)
        return reduced(values, reduction, total), {"log_p": log_p, "q": q, "share": part}

    @quiet
    def of_labels(logits: Array, labels: Array) -> tuple[Any, Cache]:
        """The usual case, with as few passes over the logits as can be."""
        shifted = logits - np.maximum.reduce(logits, -1, keepdims=True)
        p = numerics.exp(shifted)
        totals = numerics.sum(p, -1, keepdims=True)
        p /= totals
        at = _entries(labels, logits.shape[-1])
        values = numerics.log(totals.reshape(labels.shape))
        values -= shifted.reshape(-1)[at].reshape(labels.shape)
        return reduced(values, reduction), {"p": p, "at": at}

    def vjp(cache: Cache) -> Array:
        if "p" in cache:
            p, at = cache["p"], cache["at"]
            dz: Array = p * share(at.size, reduction, p.dtype)
            flat = dz.reshape(-1)
            flat[at] -= share(at.size, reduction, p.dtype)
            return flat.reshape(p.shape)
        return of_logarithms(cache)

    @quiet
    def of_logarithms(cache: Cache) -> Array:
        log_p, q = cache["log_p"], cache["q"]
        dz: Array = numerics.exp(log_p) * numerics.sum(q, -1, keepdims=True) - q
        dz *= cache["share"]
        return dz

    def count(target: Array) -> float:
        if target.dtype.kind == "f":
            return target.size // int(target.shape[-1])
        return _weight(target, given, ignored)

    options = {
        "class_weight": given,
        "label_smoothing": smoothing,
        "ignore_index": ignored,
        "reduction": reduction,
    }
    return Loss(apply, vjp, Spec(softmax_cross_entropy, options=options), over(reduction, count))


def _entries(labels: Array, classes: int) -> Array:
    """Where each label's entry lies among all entries."""
    at: Array = np.arange(0, labels.size * classes, classes)
    at += labels.reshape(-1).astype(np.intp, copy=False)
    return at


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
    given = weights("nll", "class_weight", class_weight)
    ignored = None if ignore_index is None else _checks.integer("nll", "ignore_index", ignore_index)
    _checks.choice("nll", "reduction", reduction, REDUCTIONS)

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        log_p = batch("nll", prediction, 2)
        labels, of_example, _ = _weighted("nll", target, log_p, given, ignored)
        total = _some("nll", _weight(target, given, ignored), reduction)
        return forward(log_p, labels, of_example, total)

    @quiet
    def forward(log_p: Array, labels: Array, of_example: Array, total: float) -> tuple[Any, Cache]:
        at = _entries(labels, log_p.shape[-1])
        values = counted(of_example, -log_p.reshape(-1)[at].reshape(labels.shape))
        slope = of_example.reshape(-1) * share(total, reduction, log_p.dtype)
        return reduced(values, reduction, total), {"at": at, "slope": slope, "shape": log_p.shape}

    def vjp(cache: Cache) -> Array:
        at, slope, shape = cache["at"], cache["slope"], cache["shape"]
        dprediction = np.zeros(at.size * shape[-1], slope.dtype)
        dprediction[at] = -slope
        return dprediction.reshape(shape)

    options = {"class_weight": given, "ignore_index": ignored, "reduction": reduction}
    weight = over(reduction, lambda target: _weight(target, given, ignored))
    return Loss(apply, vjp, Spec(nll, options=options), weight)


def binary_cross_entropy_with_logits(
    *, positive_weight: float | Sequence[float] | None = None, reduction: str = "mean"
) -> Loss:
    """Cross-entropy of the sigmoid of logits, fused with it, element by element.

    Parameters
    ----------
    positive_weight : float or sequence of float, optional
        How much a target of 1 counts, at least 0, against a target of 0; one number for all classes,
        or one for each entry of the last axis.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` holds logits ``(N, ...)``; ``target`` probabilities of the same shape.

    Raises
    ------
    ValueError, TypeError
        For targets outside ``0..1``, of another shape or dtype, an empty batch.

    Notes
    -----
    Forward: ``(1 - t) softplus(z) + w t softplus(-z)``, with ``w`` the positive weight: for
    ``w = 1``, ``-t log(sigmoid(z)) - (1 - t) log(1 - sigmoid(z))``. Gradient:
    ``(1 - t) sigmoid(z) - w t sigmoid(-z)``: for ``w = 1``, ``sigmoid(z) - t``, with all its digits
    where the answer is all but right. As `torch.nn.BCEWithLogitsLoss`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import binary_cross_entropy_with_logits
    >>> loss = binary_cross_entropy_with_logits()
    >>> value, cache = loss.apply(np.array([0.0]), np.array([1.0]))
    >>> round(float(value), 4), loss.vjp(cache)
    (0.6931, array([-0.5]))
    """
    who = "binary_cross_entropy_with_logits"
    if isinstance(positive_weight, (int, float)):
        positive_weight = (positive_weight,)
    given = weights(who, "positive_weight", positive_weight)

    def check(logits: Array, target: Array) -> None:
        between(who, target, 0, 1)
        if given is not None:
            classes = logits.shape[-1] if len(given) > 1 else 1
            class_weights(who, "positive_weight", given, classes, logits.dtype)

    def positive(target: Array) -> Array:
        return target if given is None else target * np.array(given, target.dtype)

    def value(logits: Array, target: Array) -> Any:
        near_zero = numerics.log1p(numerics.exp(-np.abs(logits)))  # softplus(x) - max(x, 0)
        negative = counted(1 - target, near_zero + np.maximum(logits, 0))
        return negative + counted(positive(target), near_zero - np.minimum(logits, 0))

    def slope(logits: Array, target: Array) -> Any:
        negative = counted(1 - target, numerics.sigmoid(logits))
        return negative - counted(positive(target), numerics.sigmoid(-logits))

    options = {"positive_weight": given, "reduction": reduction}
    return elementwise(Spec(binary_cross_entropy_with_logits, options=options), value, slope, check)


def focal(*, gamma: float = 2.0, alpha: float | None = 0.25, reduction: str = "mean") -> Loss:
    """Binary cross-entropy that all but ignores the elements that are right already.

    Parameters
    ----------
    gamma : float, default 2.0
        How much less they count; 0 is the binary cross-entropy.
    alpha : float or None, default 0.25
        What a target of 1 counts; a target of 0 counts ``1 - alpha``. None: both count 1.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` holds logits ``(N, ...)``; ``target`` zeros and ones of the same shape.

    Raises
    ------
    ValueError, TypeError
        For targets that are not 0 or 1, of another shape or dtype, an empty batch.

    Notes
    -----
    With ``u = z`` where ``t = 1`` and ``-z`` where ``t = 0``, and ``q = sigmoid(-u)``, the
    probability of the wrong answer. Forward: ``a q**gamma softplus(-u)``, ``a`` one of ``alpha``
    and ``1 - alpha``. Gradient by ``u``: ``-a q**gamma (q + gamma (1 - q) softplus(-u))``. As
    `torchvision.ops.sigmoid_focal_loss`.

    References
    ----------
    T.-Y. Lin et al., "Focal loss for dense object detection", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import focal
    >>> loss = focal(alpha=None, reduction="none")
    >>> value, cache = loss.apply(np.array([0.0, 4.0]), np.array([1.0, 1.0]))
    >>> value.round(6)
    array([1.73287e-01, 6.00000e-06])
    """
    gamma = _checks.number("focal", "gamma", gamma, minimum=0)
    if alpha is not None:
        alpha = _checks.number("focal", "alpha", alpha, minimum=0, maximum=1)

    def weight(target: Array) -> Array:
        if alpha is None:
            return np.ones_like(target)
        return np.where(target == 1, alpha, 1 - alpha).astype(target.dtype)

    def factor(u: Array) -> Any:
        """``q**gamma``, by the logarithm ``-softplus(u)`` of ``q``, which has all its digits."""
        return numerics.exp(-fitted(gamma, u.dtype) * numerics.softplus(u)) if gamma else 1

    def value(logits: Array, target: Array) -> Any:
        u = (2 * target - 1) * logits
        return counted(weight(target), factor(u) * numerics.softplus(-u))

    def slope(logits: Array, target: Array) -> Any:
        sign = 2 * target - 1
        u = sign * logits
        entropy = np.minimum(numerics.softplus(-u), 1e3)  # from there on, 1 - q is 0
        growth = numerics.sigmoid(-u) + gamma * numerics.sigmoid(u) * entropy
        return -sign * counted(weight(target), factor(u) * growth)

    options = {"gamma": gamma, "alpha": alpha, "reduction": reduction}
    return elementwise(
        Spec(focal, options=options), value, slope, lambda _, target: one_of("focal", target, 0, 1)
    )


def hinge(*, reduction: str = "mean") -> Loss:
    """How much is missing to a margin of one on the right side of zero.

    Parameters
    ----------
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` holds scores ``(N, ...)``; ``target`` -1 and 1, of the same shape.

    Raises
    ------
    ValueError, TypeError
        For targets that are not -1 or 1, of another shape or dtype, an empty batch.

    Notes
    -----
    Forward: ``max(0, 1 - t p)``. Gradient: ``-t`` where ``t p < 1``, else 0. As `optax.hinge_loss`.

    References
    ----------
    C. Cortes and V. Vapnik, "Support-vector networks", 1995.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import hinge
    >>> loss = hinge(reduction="none")
    >>> value, cache = loss.apply(np.array([0.25, -3.0]), np.array([1.0, -1.0]))
    >>> value, loss.vjp(cache)
    (array([0.75, 0.  ]), array([-1.,  0.]))
    """

    def value(scores: Array, target: Array) -> Any:
        return np.maximum(1 - target * scores, 0)

    def slope(scores: Array, target: Array) -> Any:
        return np.where(target * scores < 1, -target, target.dtype.type(0))

    return elementwise(
        Spec(hinge, options={"reduction": reduction}),
        value,
        slope,
        lambda _, target: one_of("hinge", target, -1, 1),
    )


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
    who = "multi_margin"
    power = _checks.integer(who, "power", power, 1)
    if power > 2:
        _checks.refuse(who, f"`power` must be 1 or 2, got {power}")
    margin = _checks.number(who, "margin", margin)
    given = weights(who, "class_weight", class_weight)
    _checks.choice(who, "reduction", reduction, REDUCTIONS)

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        scores = batch(who, prediction, 2)
        labels, of_example, _ = _weighted(who, target, scores, given, None)
        return forward(scores, labels, of_example)

    @quiet
    def forward(scores: Array, labels: Array, of_example: Array) -> tuple[Any, Cache]:
        scores = np.where(of_example[..., None] == 0, 0, scores)
        classes = scores.shape[-1]
        at = _entries(labels, classes)
        right = scores.reshape(-1)[at].reshape(*labels.shape, 1)
        flat = np.maximum(margin - right + scores, 0).reshape(-1)
        flat[at] = 0
        missing: Array = flat.reshape(scores.shape)
        weight = (of_example / classes)[..., None]
        values = numerics.sum(missing * weight * (1 if power == 1 else missing), -1)
        return reduced(values, reduction), {"missing": missing, "weight": weight, "at": at}

    @quiet
    def vjp(cache: Cache) -> Array:
        missing, weight, at = cache["missing"], cache["weight"], cache["at"]
        dz = (missing > 0) * weight if power == 1 else 2 * missing * weight
        dz *= share(at.size, reduction, missing.dtype)
        at_right = -numerics.sum(dz, -1).reshape(-1)
        flat: Array = dz.reshape(-1)
        flat[at] = at_right
        return flat.reshape(missing.shape)

    options = {"power": power, "margin": margin, "class_weight": given, "reduction": reduction}
    return Loss(apply, vjp, Spec(multi_margin, options=options), over(reduction, np.size))
