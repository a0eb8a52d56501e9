"""Losses of embeddings: which vectors should lie close together, and which far apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import checks, numerics
from funcnn._kernels.distances import lengths
from funcnn._kernels.softmax import balanced, log_softmax
from funcnn.checks import NET, Flag, Number, Optional
from funcnn.losses.core import REDUCTION, fitted, one_of, over, reduced, several, shaped, share
from funcnn.losses.rounding import enough, loss
from funcnn.types import Array, Cache, Layer, Loss

__all__ = ["contrastive", "cosine_embedding", "triplet"]

_TRIPLET = ("anchor", "positive", "negative")
_TINY = 1e-12
_LONG = 2.0**13  # margins: the difference of longer lengths has fewer than ten binary digits
_FAINT = 1e-30  # a cosine whose products could be so small that float32 does not have them


def _dots(a: Array, b: Array) -> Array:
    """The scalar product of each row of one with the same row of the other, ``(N, 1)``."""
    return numerics.sum(a * b, -1, keepdims=True)


def _vectors(prediction: object, names: tuple[str, ...]) -> tuple[Array, ...]:
    """Batches of vectors, all of one shape ``(N, F)``."""
    parts = several(prediction, names)
    checks.ranked(parts[0], "N, F", names[0])
    return parts


def _unit(x: Array) -> tuple[Array, Array]:
    """Each row at length 1, and its length ``sqrt(x . x + 1e-12)``, ``(N, 1)``.

    Rows of large numbers are made smaller first, by a power of 2, which changes no digit.
    """
    most = np.finfo(x.dtype).max
    x = np.clip(x, -most, most)
    _, power = np.frexp(np.max(np.abs(x), -1, keepdims=True))
    power = np.maximum(power, 0)
    near = np.ldexp(x, -power)
    length = np.sqrt(_dots(near, near) + np.ldexp(x.dtype.type(_TINY), -2 * power))
    whole = np.ldexp(length, power)
    enough(np.isfinite(whole), x)
    return near / length, whole


@loss(margin=Number(minimum=-1, maximum=1), reduction=REDUCTION)
def cosine_embedding(*, margin: float = 0.0, reduction: str = "mean") -> Loss:
    """One minus the cosine of the angle between vectors that belong together, or the cosine.

    Parameters
    ----------
    margin : float, default 0.0
        The cosine up to which vectors that do not belong together are left alone, in ``-1 .. 1``.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the examples.

    Returns
    -------
    Loss
        ``prediction`` is a tuple of two arrays ``(N, F)``, and so is its gradient; ``target``
        ``(N,)`` is 1 for those that belong together, -1 for those that do not.

    Raises
    ------
    ValueError, TypeError
        For targets that are not -1 or 1, arrays of other shapes or dtypes, an empty batch.

    Notes
    -----
    Forward: ``1 - c`` for the target 1, ``max(0, c - margin)`` for -1, with
    ``c = u . v``, ``u = a / |a|`` and ``v = b / |b|``, ``|a| = sqrt(a . a + 1e-12)``. Gradient:
    ``dc/da = (v - c u) / |a|``. As `torch.nn.CosineEmbeddingLoss`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import cosine_embedding
    >>> loss = cosine_embedding(reduction="none")
    >>> a, b = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [3.0, 4.0]])
    >>> loss.apply((a, b), np.array([1, -1]))[0]
    array([1. , 0.6])
    """

    def apply(prediction: tuple[Array, Array], target: Array) -> tuple[Any, Cache]:
        a, b = _vectors(prediction, ("first", "second"))
        known = checks.array(target, "target")
        shaped(known, a.shape[:1])
        one_of(known, -1, 1)
        (a, length_a), (b, length_b) = _unit(a), _unit(b)
        cosine = _dots(a, b)
        c, together = cosine[:, 0], known == 1
        enough(np.abs(c) > _FAINT, c)
        values = np.where(together, 1 - c, np.maximum(c - margin, 0))
        dcosine = np.where(together, -1, c > margin).astype(a.dtype)[:, None]
        cache = {"units": (a, b), "lengths": (length_a, length_b), "cosine": cosine}
        return reduced(values, reduction), {**cache, "dcosine": dcosine}

    def vjp(cache: Cache) -> tuple[Array, Array]:
        (a, b), (length_a, length_b), cosine = cache["units"], cache["lengths"], cache["cosine"]
        dcosine = cache["dcosine"] * share(len(a), reduction, a.dtype)
        return dcosine * (b - cosine * a) / length_a, dcosine * (a - cosine * b) / length_b

    return Loss(apply, vjp, weight=over(reduction, np.size))


@loss(
    margin=Number(above=0),
    norm_type=Number(minimum=1),
    swap=Flag(),
    epsilon=Number(above=0),
    distance=Optional(NET),
    reduction=REDUCTION,
)
def triplet(
    *,
    margin: float = 1.0,
    norm_type: float = 2.0,
    swap: bool = False,
    epsilon: float = 1e-6,
    distance: Layer[Any, Any] | None = None,
    reduction: str = "mean",
) -> Loss:
    """How much closer, by a margin, an anchor should lie to its like than to another.

    Parameters
    ----------
    margin : float, default 1.0
        The margin.
    norm_type : float, default 2.0
        The exponent ``p`` of the lengths, at least 1.
    swap : bool, default False
        Whether the other counts as close as it lies to the anchor or to the anchor's like, whichever
        is closer.
    epsilon : float, default 1e-6
        Added to each difference, so that a distance of 0 has a gradient.
    distance : Layer, optional
        A distance of one's own in place of these lengths: without parameters, of a tuple of two arrays
        ``(N, ...)``, it gives ``(N,)``.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the examples.

    Returns
    -------
    Loss
        ``prediction`` is a tuple ``(anchor, positive, negative)`` of arrays ``(N, F)``, and so is
        its gradient; ``target`` is ``()`` or None, as there is none.

    Raises
    ------
    ValueError, TypeError
        For a target, arrays of other shapes or dtypes, an empty batch.

    Notes
    -----
    Forward: ``max(0, margin + |a - p + epsilon| - |a - n + epsilon|)``. Gradient, where it is
    positive: ``dp = -u``, ``dn = v`` and ``da = u - v``, with ``u`` and ``v`` the slopes of the two
    lengths: ``d|x| = sign(x) (abs(x) / |x|)^(p - 1)``, which is ``x / |x|`` for ``p = 2``. With
    `swap`, ``|p - n + epsilon|`` stands for the second length where it is smaller, and ``p`` for
    ``a``. As `torch.nn.TripletMarginLoss`; with a distance, whose pullback gives the slopes, as
    `torch.nn.TripletMarginWithDistanceLoss`.

    References
    ----------
    F. Schroff, D. Kalenichenko and J. Philbin, "FaceNet: a unified embedding for face recognition
    and clustering", 2015; for the swap, V. Balntas et al., "Learning local feature descriptors with
    triplets and shallow convolutional neural networks", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import triplet
    >>> anchor, positive, negative = (np.array([[x, 0.0]]) for x in (0.0, 1.0, 1.5))
    >>> float(triplet().apply((anchor, positive, negative), ())[0].round(4))
    0.5
    """
    if distance is not None:
        if (norm_type, epsilon) != (2.0, 1e-6):
            checks.refuse("`norm_type` and `epsilon` must be left out beside a `distance`")
        return _triplet_by(checks.bare(distance), margin, swap, reduction)

    def apply(prediction: tuple[Array, Array, Array], target: Any = ()) -> tuple[Any, Cache]:
        anchor, positive, negative = _vectors(prediction, _TRIPLET)
        _no_target(target)
        near, u = lengths(anchor - positive + epsilon, norm_type)
        far, v = lengths(anchor - negative + epsilon, norm_type)
        swapped = np.zeros(far.shape, bool)
        if swap:
            other, w = lengths(positive - negative + epsilon, norm_type)
            swapped = other < far
            far, v = np.where(swapped, other, far), np.where(swapped, w, v)
        enough(np.maximum(near, far) <= _LONG * max(margin, 1), near)
        missing = np.maximum(margin + near - far, 0)
        cache = {"u": u, "v": v, "swapped": swapped, "active": missing > 0}
        return reduced(missing[:, 0], reduction), cache

    def vjp(cache: Cache) -> tuple[Array, Array, Array]:
        u, v, swapped = cache["u"], cache["v"], cache["swapped"]
        part = cache["active"] * share(len(u), reduction, u.dtype)
        u, v = u * part, v * part
        return u - v * ~swapped, -u - v * swapped, v

    return Loss(apply, vjp, weight=_triplet_weight(reduction))


def _no_target(target: object) -> None:
    if not (target is None or (isinstance(target, tuple) and not target)):
        checks.refuse_type(f"`target` must be () or None, got {type(target).__name__}")


def _triplet_by(distance: Layer[Any, Any], margin: float, swap: bool, reduction: str) -> Loss:
    """The triplet loss of a layer that gives distances."""

    def apply(prediction: tuple[Array, Array, Array], target: Any = ()) -> tuple[Any, Cache]:
        anchor, positive, negative = several(prediction, _TRIPLET)
        _no_target(target)
        pairs = [(anchor, positive), (anchor, negative), *[(positive, negative)] * swap]
        found, caches = zip(*(distance.apply({}, pair) for pair in pairs), strict=True)
        for one in found:
            checks.exact_shape(np.shape(one), (len(anchor),), "distance")
        far = found[1]
        swapped = found[2] < far if swap else np.zeros(far.shape, bool)
        far = np.where(swapped, found[2], far) if swap else far
        missing = np.maximum(margin + found[0] - far, 0)
        cache = {"pairs": caches, "swapped": swapped, "active": (missing > 0).astype(missing.dtype)}
        return reduced(missing, reduction), cache

    def vjp(cache: Cache) -> tuple[Array, Array, Array]:
        swapped, (near, far, *other) = cache["swapped"], cache["pairs"]
        part = cache["active"] * share(len(swapped), reduction, cache["active"].dtype)
        _, (da, dp) = distance.vjp(near, part)
        _, (more, dn) = distance.vjp(far, -part * ~swapped)
        da = da + more
        for one in other:
            _, (dp_more, dn_more) = distance.vjp(one, -part * swapped)
            dp, dn = dp + dp_more, dn + dn_more
        return da, dp, dn

    return Loss(apply, vjp, weight=_triplet_weight(reduction))


def _triplet_weight(reduction: str) -> Any:
    """There is no target to count: the mean is over the examples."""
    return None if reduction == "mean" else over(reduction, len)


@loss("couples_batch", temperature=Number(above=0), reduction=REDUCTION)
def contrastive(*, temperature: float = 0.5, reduction: str = "mean") -> Loss:
    """Which of all other vectors in the batch is my partner: NT-Xent, a cross-entropy.

    Parameters
    ----------
    temperature : float, default 0.5
        By which the cosines are divided.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the examples.

    Returns
    -------
    Loss
        ``prediction`` holds vectors ``(N, F)``; ``target`` ``(N,)`` integers, the same for two
        views of one example. With more than two of a kind, each has several partners, as in the
        supervised contrastive loss.

    Raises
    ------
    ValueError, TypeError
        For an example without a partner, a target of another shape or kind, an empty batch.

    Notes
    -----
    With ``s = z zᵀ / temperature`` of the vectors ``z`` at length 1 and ``p`` the softmax of a row
    of ``s`` without its diagonal. Forward: ``-sum(q log(p))``, with ``q`` one over the number of
    partners at each of them. Gradient: ``ds = p - q``, ``dz = (ds + dsᵀ) z / temperature``, less
    its part along ``z``, over the vector's length.

    References
    ----------
    T. Chen et al., "A simple framework for contrastive learning of visual representations", 2020;
    P. Khosla et al., "Supervised contrastive learning", 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import contrastive
    >>> views = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    >>> float(contrastive().apply(views, np.array([0, 1, 0, 1]))[0].round(4))
    0.2395
    """

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        x = _vectors((prediction,), ("prediction",))[0]
        known = checks.integers(target, "target")
        shaped(known, x.shape[:1])
        partners = (known[:, None] == known) & ~np.eye(len(known), dtype=bool)
        alone = ~partners.any(1)
        if alone.any():
            checks.refuse(f"`target` must have each number twice, got {known[alone][0]} once")
        z, length = _unit(x)
        similarity = numerics.matmul(z, z.T) / fitted(temperature, x.dtype)
        np.fill_diagonal(similarity, np.finfo(x.dtype).min / 2)  # exp() of it is 0
        log_p = log_softmax(similarity)
        q = (partners / np.count_nonzero(partners, axis=1, keepdims=True)).astype(x.dtype)
        values = -numerics.sum(q * log_p, -1)
        return reduced(values, reduction), {"z": z, "length": length, "log_p": log_p, "q": q}

    def vjp(cache: Cache) -> Array:
        z, length = cache["z"], cache["length"]
        p = numerics.exp(cache["log_p"])
        ds = balanced(p - cache["q"], p)
        ds *= share(len(z), reduction, z.dtype)
        dz = numerics.matmul(ds + ds.T, z) / fitted(temperature, z.dtype)
        dprediction: Array = (dz - z * _dots(dz, z)) / length
        return dprediction

    return Loss(apply, vjp, weight=over(reduction, len))
