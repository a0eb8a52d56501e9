"""A weight for each value of a loss: masks, and examples of which some count more."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import checks, numerics, tree
from funcnn._kernels import steps
from funcnn.checks import LOSS, Flag, shown
from funcnn.losses.core import REDUCTION, counted, over, reduced, share, unit
from funcnn.losses.rounding import loss
from funcnn.types import Array, Cache, Loss, has_trait

__all__ = ["weighted"]


def _weights(target: object) -> tuple[Any, Array]:
    """The loss's own target, and the weights."""
    if not isinstance(target, tuple) or len(target) != 2:
        checks.refuse_type("`target` must be a tuple (target, weight)")
    return target[0], checks.weights(target[1])


def _until(target: object) -> tuple[Any, Array]:
    """The loss's own target, and flags of the steps that count."""
    if not isinstance(target, tuple) or len(target) != 2:
        checks.refuse_type("`target` must be a tuple (target, lengths)")
    shape: Any = next((np.shape(leaf) for _, leaf in tree.leaves(target[0])), ())
    if len(shape) < 2:
        checks.refuse(f"`target` must be sequences (N, T, ...), got shape {shown(shape)}")
    return target[0], steps.counted(checks.counts(target[1], shape[:2]), shape[1])


def _settled(name: str, whole: Any, counts: Array) -> Any:
    """What does not count, replaced by something that does: it may hold anything, so nobody looks.

    It comes from the same example, if anything counts there: no example sees what another holds.
    """
    if isinstance(whole, tuple):
        return tuple([_settled(name, part, counts) for part in whole])
    if not isinstance(whole, np.ndarray) or whole.shape[: counts.ndim] != counts.shape:
        return whole
    checks.array(whole, name)
    out = whole.copy()
    if not counts.any():
        out[~counts] = 0
        return out
    flat = counts.reshape(len(counts), -1)
    own = np.arange(len(flat)) * flat.shape[1] + flat.argmax(1)
    places = np.where(flat.any(1), own, own[flat.any(1)][0])
    rows = whole.reshape(flat.size, *whole.shape[counts.ndim :])[np.repeat(places, flat.shape[1])]
    out[~counts] = rows.reshape(whole.shape)[~counts]
    return out


def _fit(weight: Array, dtype: np.dtype[Any]) -> bool:
    """Whether a dtype has all these weights."""
    limits, some = np.finfo(dtype), weight[weight != 0]
    return not some.size or bool(some.min() >= limits.tiny and some.max() <= limits.max)


def _total(weight: Array) -> float:
    return float(numerics.sum(weight.astype(np.float64).reshape(-1)))


@loss(loss=LOSS, lengths=Flag(), reduction=REDUCTION)
def weighted(loss: Loss, *, lengths: bool = False, reduction: str = "mean") -> Loss:
    """Give each value of a loss a weight, or say which of them count.

    Parameters
    ----------
    loss : Loss
        With ``reduction="none"``.
    lengths : bool, default False
        Whether the weights are the lengths of sequences, ints ``(N,)``: of each, so many first steps
        count. `funcnn.metrics.with_lengths` makes metrics that take the same target.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the weighted values; the mean divides by the sum of the weights.

    Returns
    -------
    Loss
        ``prediction`` is that of the loss; ``target`` a tuple ``(target, weight)``, whose weights are
        booleans or numbers of at least 0, in the shape of the loss's values or of their first axes.
        Predictions and targets of weight 0 may be anything. Or ``(target, lengths)``.

    Raises
    ------
    ValueError, TypeError
        For a loss that gives one value, or whose examples depend on one another; for weights of
        another shape or kind, negative ones, a mean over weights that are all 0.

    Notes
    -----
    Forward: ``sum(weight * value) / sum(weight)``. Gradient: the loss's own, times
    ``weight / sum(weight)``. The `weight` of PyTorch's binary cross-entropies, whose mean divides by
    the number of values.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import l1, weighted
    >>> loss = weighted(l1(reduction="none"))
    >>> mask = np.array([[True, False], [True, True]])
    >>> target = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> value, cache = loss.apply(np.array([[0.0, np.nan], [3.0, 2.0]]), (target, mask))
    >>> float(value), loss.vjp(cache)[0]
    (1.0, array([-0.33333333,  0.        ]))
    """
    if loss.spec.options.get("reduction") != "none":
        checks.refuse(f"`loss` must have reduction='none', got {shown(loss)}")
    if has_trait(loss.spec, "couples_batch"):
        checks.refuse(f"`loss` must not couple its examples, got {shown(loss)}")

    inner = checks.bare(loss)

    def apply(prediction: Any, target: tuple[Any, Array]) -> tuple[Any, Cache]:
        known, weight = _until(target) if lengths else _weights(target)
        if weight.size and not weight.all():
            prediction = _settled("prediction", prediction, weight != 0)
            known = _settled("target", known, weight != 0)
        values, cache = inner.apply(prediction, known)
        if weight.shape != values.shape[: weight.ndim] or not weight.ndim:
            checks.refuse(
                f"`weight` must have the shape {shown(values.shape)} or that of its first axes, "
                f"got {shown(weight.shape)}"
            )
        if reduction == "mean":  # in which only what the weights are to each other counts
            weight = weight.astype(np.float64)
            weight *= unit(float(np.maximum.reduce(weight, None)))
        total = _total(weight) * (values.size // weight.size)
        if reduction == "mean" and not total > 0:
            checks.refuse("`weight` must be above 0 somewhere")
        each = weight.reshape(*weight.shape, *(1,) * (values.ndim - weight.ndim))
        dtype = values.dtype if _fit(weight, values.dtype) else np.float64
        each = np.broadcast_to(each, values.shape).astype(dtype)
        slope = each * share(total, reduction, each.dtype)
        value = reduced(counted(each, values), reduction, total).astype(values.dtype)
        return value, {"loss": cache, "slope": slope}

    def vjp(cache: Cache) -> Any:
        slope, found = cache["slope"], inner.vjp(cache["loss"])

        def times(leaf: Array) -> Array:
            each = slope.reshape(*slope.shape, *(1,) * (leaf.ndim - slope.ndim))
            return counted(each, leaf).astype(leaf.dtype, copy=False)

        return tuple(map(times, found)) if isinstance(found, tuple) else times(found)

    return Loss(apply, vjp, weight=over(reduction, lambda target: _total(target[1])))
