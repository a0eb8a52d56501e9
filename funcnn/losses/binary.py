"""Losses of two answers: one score against yes or no, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcnn import checks, numerics
from funcnn.checks import Number, Optional
from funcnn.losses.core import (
    REDUCTION,
    Weights,
    between,
    class_weights,
    counted,
    elementwise,
    entropy,
    entropy_slope,
    fitted,
    one_of,
    over,
    reduced,
    several,
    shaped,
    share,
    times_difference,
)
from funcnn.losses.rounding import loss
from funcnn.types import Array, Cache, Loss

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "focal",
    "hinge",
    "hinge_embedding",
    "margin_ranking",
    "soft_margin",
]


@loss(reduction=REDUCTION)
def binary_cross_entropy(*, reduction: str = "mean") -> Loss:
    """Cross-entropy of probabilities, element by element.

    Where there are logits, `binary_cross_entropy_with_logits` keeps the digits that a probability close
    to 1 has lost.

    Parameters
    ----------
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` and ``target`` hold probabilities of one shape, ``(N, ...)``.

    Raises
    ------
    ValueError, TypeError
        For numbers outside ``0..1``, a target of another shape or dtype, an empty batch.

    Notes
    -----
    Forward: ``-t log(p) - (1 - t) log(1 - p)``, with ``0 log(0) = 0``. Gradient:
    ``(1 - t) / (1 - p) - t / p``, which is ``(p - t) / (p (1 - p))``. As `torch.nn.BCELoss`, which
    counts a probability of 0 as ``exp(-100)``, while here the value is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import binary_cross_entropy
    >>> loss = binary_cross_entropy()
    >>> value, cache = loss.apply(np.array([0.5]), np.array([1.0]))
    >>> round(float(value), 4), loss.vjp(cache)
    (0.6931, array([-2.]))
    """

    def check(p: Array, target: Array) -> None:
        between(p, 0, 1, "prediction")
        between(target, 0, 1)

    def value(p: Array, target: Array, s: Any) -> Any:
        return s * (counted(target, -numerics.log(p)) + counted(1 - target, -numerics.log1p(-p)))

    def slope(p: Array, target: Array, s: Any) -> Any:
        p = p + 0  # -0, too, from above
        between = s * (p - target) / (p * (1 - p))  # the two terms could all but cancel
        return np.where(target == 0, s / (1 - p), np.where(target == 1, -s / p, between))

    return elementwise(reduction, value, slope, check)


@loss(positive_weight=Weights(single=True), reduction=REDUCTION)
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
    given: Any = positive_weight

    def check(logits: Array, target: Array) -> None:
        between(target, 0, 1)
        if given is not None:
            classes = logits.shape[-1] if len(given) > 1 else 1
            class_weights("positive_weight", given, classes, logits.dtype)

    def positive(target: Array) -> Array:
        return target if given is None else target * np.array(given, target.dtype)

    def value(logits: Array, target: Array, s: Any) -> Any:
        return entropy(logits, s * (1 - target), s * positive(target))

    def slope(logits: Array, target: Array, s: Any) -> Any:
        return entropy_slope(logits, s * (1 - target), s * positive(target))

    return elementwise(reduction, value, slope, check)


@loss(gamma=Number(minimum=0), alpha=Optional(Number(minimum=0, maximum=1)), reduction=REDUCTION)
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

    def weight(target: Array) -> Array:
        if alpha is None:
            return np.ones_like(target)
        return np.where(target == 1, alpha, 1 - alpha).astype(target.dtype)

    def factor(u: Array) -> Any:
        """``q**gamma``, by the logarithm ``-softplus(u)`` of ``q``, which has all its digits."""
        return numerics.exp(-fitted(gamma, u.dtype) * numerics.softplus(u)) if gamma else 1

    def value(logits: Array, target: Array, s: Any) -> Any:
        u = (2 * target - 1) * logits
        return counted(s * weight(target), factor(u) * numerics.softplus(-u))

    def slope(logits: Array, target: Array, s: Any) -> Any:
        sign = 2 * target - 1
        u = sign * logits
        growth = numerics.sigmoid(-u) * factor(u)
        if gamma:
            entropy = np.minimum(numerics.softplus(-u), 1e3)  # from there on, 1 - q is 0
            growth += fitted(gamma, u.dtype) * factor(u) * numerics.sigmoid(u) * entropy
        return -sign * counted(s * weight(target), growth)

    return elementwise(reduction, value, slope, lambda _, target: one_of(target, 0, 1))


@loss(reduction=REDUCTION)
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

    def value(scores: Array, target: Array, s: Any) -> Any:
        return np.maximum(s - s * target * scores, 0)

    def slope(scores: Array, target: Array, s: Any) -> Any:
        return np.where(target * scores < 1, -s * target, 0)

    return elementwise(reduction, value, slope, lambda _, target: one_of(target, -1, 1))


@loss(reduction=REDUCTION)
def soft_margin(*, reduction: str = "mean") -> Loss:
    """The logistic loss: a hinge without a corner.

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
    Forward: ``log(1 + exp(-t p))``. Gradient: ``-t sigmoid(-t p)``. As `torch.nn.SoftMarginLoss`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import soft_margin
    >>> loss = soft_margin()
    >>> value, cache = loss.apply(np.array([0.0]), np.array([-1.0]))
    >>> round(float(value), 4), loss.vjp(cache)
    (0.6931, array([0.5]))
    """

    def value(scores: Array, target: Array, s: Any) -> Any:
        return s * numerics.softplus(-target * scores)

    def slope(scores: Array, target: Array, s: Any) -> Any:
        return -s * target * numerics.sigmoid(-target * scores)

    return elementwise(reduction, value, slope, lambda _, target: one_of(target, -1, 1))


@loss(margin=Number(), reduction=REDUCTION)
def hinge_embedding(*, margin: float = 1.0, reduction: str = "mean") -> Loss:
    """A distance that should be small for what is alike, and at least a margin for what is not.

    Parameters
    ----------
    margin : float, default 1.0
        The distance from which on what is not alike is left alone.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` holds distances ``(N, ...)``; ``target`` 1 and -1, of the same shape.

    Raises
    ------
    ValueError, TypeError
        For targets that are not -1 or 1, of another shape or dtype, an empty batch.

    Notes
    -----
    Forward: ``p`` where ``t = 1``, else ``max(0, margin - p)``. Gradient: 1, or -1 where ``p`` is
    below the margin, else 0. As `torch.nn.HingeEmbeddingLoss`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import hinge_embedding
    >>> loss = hinge_embedding(reduction="none")
    >>> value, cache = loss.apply(np.array([0.5, 0.25, 3.0]), np.array([1.0, -1.0, -1.0]))
    >>> value, loss.vjp(cache)
    (array([0.5 , 0.75, 0.  ]), array([ 1., -1.,  0.]))
    """

    def value(distance: Array, target: Array, s: Any) -> Any:
        return np.where(target == 1, s * distance, np.maximum(s * margin - s * distance, 0))

    def slope(distance: Array, target: Array, s: Any) -> Any:
        return np.where((target == 1) | (distance < margin), s * target, 0)

    return elementwise(reduction, value, slope, lambda _, target: one_of(target, -1, 1))


@loss(margin=Number(), reduction=REDUCTION)
def margin_ranking(*, margin: float = 0.0, reduction: str = "mean") -> Loss:
    """How much is missing until one score is larger than the other, by a margin.

    Parameters
    ----------
    margin : float, default 0.0
        The margin.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` is a tuple of two arrays ``(N, ...)``, and so is its gradient; ``target`` of
        the same shape is 1 where the first should be larger, -1 where the second should.

    Raises
    ------
    ValueError, TypeError
        For targets that are not -1 or 1, arrays of other shapes or dtypes, an empty batch.

    Notes
    -----
    Forward: ``max(0, margin - t (a - b))``. Gradient, where it is positive: ``da = -t``, ``db = t``.
    As `torch.nn.MarginRankingLoss`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import margin_ranking
    >>> loss = margin_ranking(margin=1.0)
    >>> value, cache = loss.apply((np.array([2.0]), np.array([1.5])), np.array([1]))
    >>> float(value), loss.vjp(cache)
    (0.5, (array([-1.]), array([1.])))
    """

    def apply(prediction: tuple[Array, Array], target: Array) -> tuple[Any, Cache]:
        a, b = several(prediction, ("first", "second"))
        known = checks.array(target, "target")
        shaped(known, a.shape)
        one_of(known, -1, 1)
        t = known.astype(a.dtype)

        def missing(s: Any) -> Any:
            return np.maximum(s * margin - t * times_difference(a, b, s), 0)

        values = missing(1)
        slope = np.where(values > 0, t, 0)
        return reduced(values, reduction, times=missing), {"slope": slope}

    def vjp(cache: Cache) -> tuple[Array, Array]:
        slope = cache["slope"] * share(cache["slope"].size, reduction, cache["slope"].dtype)
        return -slope, slope

    return Loss(apply, vjp, weight=over(reduction, np.size))
