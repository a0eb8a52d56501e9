"""What the losses share: checks of a prediction and its target, and the reductions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import _checks, numerics
from funcnn.types import Array, Cache, Loss, Spec

__all__ = ["one_hot"]

REDUCTIONS = ("mean", "sum", "none")


def one_hot(labels: Array, classes: int, dtype: Any = np.float32) -> Array:
    """Write each class as a row with a single one.

    Parameters
    ----------
    labels : ndarray of ints, ``(...)``
        Classes from 0 to ``classes - 1``.
    classes : int
        How many there are.
    dtype : numpy dtype, default float32
        Of the result.

    Returns
    -------
    ndarray, ``(..., classes)``

    Raises
    ------
    ValueError, TypeError
        For labels that are not integers, or lie outside.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import one_hot
    >>> one_hot(np.array([0, 2]), 3)
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    classes = _checks.integer("one_hot", "classes", classes, 1)
    found = _checks.labels("one_hot", _checks.array("one_hot", labels, "labels"), classes, "labels")
    out = np.zeros((*found.shape, classes), dtype)
    np.put_along_axis(out, found[..., None], 1, -1)
    return out


quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
"""Decorates arithmetic, after the checks, whose results may be infinite or NaN."""


def counted(weight: Array, values: Array) -> Array:
    """The product, 0 where the weight is: what does not count may be anything."""
    return np.where(weight == 0, 0, weight * values)


def fitted(option: float, dtype: np.dtype[Any]) -> float:
    """A positive option as a number of the dtype, neither 0 nor infinite."""
    limits = np.finfo(dtype)
    return min(max(option, float(limits.tiny)), float(limits.max))


def reduced(values: Array, reduction: str, count: Any = None) -> Any:
    """Mean, sum or all of the values; the mean divides by their number, or by `count`."""
    if reduction == "none":
        return values
    total = numerics.sum(values.reshape(-1))[()]
    if reduction == "sum":
        return total
    count = values.dtype.type(values.size if count is None else count)
    if not math.isfinite(total):  # of a mean, the sum may be too large
        return numerics.sum((values / count).reshape(-1))[()]
    return total / count


def over(reduction: str, count: Callable[[Any], float]) -> Callable[[Any], float | None]:
    """What a loss says as its `weight`: for a mean ``count(target)``, for a sum None."""
    return count if "mean" in reduction else lambda target: None


def share(count: Any, reduction: str, dtype: np.dtype[Any]) -> Any:
    """The derivative of the reduced value by each single one."""
    return dtype.type(1 / count if reduction == "mean" else 1)


def batch(who: str, prediction: object, min_rank: int, name: str = "prediction") -> Array:
    """A float prediction with at least one example."""
    found = _checks.floating(who, prediction, name)
    if found.ndim < min_rank or not found.size:
        _checks.refuse(
            who,
            f"`{name}` must have at least {min_rank} axes and one example, got shape {found.shape}",
        )
    return found


def shaped(who: str, target: Array, shape: tuple[int, ...]) -> None:
    """A target of the shape that the prediction asks for."""
    if target.shape != shape:
        _checks.refuse(who, f"`target` must have the shape {shape}, got {target.shape}")


def alike(who: str, prediction: object, target: object) -> tuple[Array, Array]:
    """Prediction and target of one shape and dtype, ``(N, ...)``."""
    found = batch(who, prediction, 1)
    known = _checks.floating(who, target, "target")
    shaped(who, known, found.shape)
    _checks.same_dtype(who, known, found, "target", "the prediction is")
    return found, known


def several(who: str, prediction: object, names: tuple[str, ...]) -> tuple[Array, ...]:
    """A prediction that is a tuple of arrays of one shape and dtype."""
    if not isinstance(prediction, tuple) or len(prediction) != len(names):
        got = f"{len(prediction)}" if isinstance(prediction, tuple) else type(prediction).__name__
        _checks.refuse_type(
            who, f"`prediction` must be a tuple of {len(names)} arrays ({', '.join(names)}), got {got}"
        )
    parts = tuple(batch(who, part, 1, name) for name, part in zip(names, prediction, strict=True))
    for name, part in zip(names[1:], parts[1:], strict=True):
        if part.shape != parts[0].shape:
            _checks.refuse(
                who, f"`{name}` must have the shape {parts[0].shape} of `{names[0]}`, got {part.shape}"
            )
        if part.dtype != parts[0].dtype:
            _checks.refuse_type(
                who, f"`{name}` must have the dtype {parts[0].dtype} of `{names[0]}`, got {part.dtype}"
            )
    return parts


def between(who: str, target: Array, least: float, most: float) -> None:
    """A target within bounds."""
    low, high = np.minimum.reduce(target, None), np.maximum.reduce(target, None)
    if not (low >= least and high <= most):
        worst = high if low >= least else low
        _checks.refuse(who, f"`target` must lie in {least}..{most}, got {worst}")


def one_of(who: str, target: Array, first: int, second: int) -> None:
    """A target that is one of two numbers everywhere."""
    if target.dtype.kind not in "iuf":
        _checks.refuse_type(who, f"`target` must be numbers, got {target.dtype}")
    wrong = (target != first) & (target != second)
    if wrong.any():
        _checks.refuse(who, f"`target` must be {first} or {second}, got {target[wrong][0]}")


def elementwise(
    spec: Spec,
    value: Callable[[Array, Array], Any],
    slope: Callable[[Array, Array], Any],
    check: Callable[[Array, Array], None] | None = None,
) -> Loss:
    """A loss from ``value(prediction, target)`` and its derivative, element by element."""
    who, reduction = spec.kind, spec.options["reduction"]

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        found, known = alike(who, prediction, target)
        if check is not None:
            check(found, known)
        return forward(found, known), {"prediction": found, "target": known}

    @quiet
    def forward(found: Array, known: Array) -> Any:
        return reduced(value(found, known), reduction)

    @quiet
    def vjp(cache: Cache) -> Array:
        dprediction: Array = slope(cache["prediction"], cache["target"])
        dprediction *= share(dprediction.size, reduction, dprediction.dtype)
        return dprediction

    _checks.choice(who, "reduction", reduction, REDUCTIONS)
    return Loss(apply, vjp, spec, over(reduction, np.size))


def weights(who: str, name: str, value: object) -> tuple[float, ...] | None:
    """One number of at least 0 for each class, as a tuple."""
    if value is None:
        return None
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = tuple(value)
    if not isinstance(value, (tuple, list)) or not value:
        got = _checks.shown(value)
        _checks.refuse_type(who, f"`{name}` must be a number for each class, got {got}")
    return tuple(_checks.number(who, name, part, minimum=0) for part in value)


def class_weights(
    who: str, name: str, given: tuple[float, ...] | None, classes: int, dtype: np.dtype[Any]
) -> Array:
    """The weights as an array, once it is known how many classes there are."""
    if given is None:
        return np.ones(classes, dtype)
    if len(given) != classes:
        text = f"`{name}` must have a number for each of {classes} classes, got {len(given)}"
        _checks.refuse(who, text)
    if not max(given) <= float(np.finfo(dtype).max):
        _checks.refuse(who, f"`{name}` must be finite in {dtype}, got {max(given)}")
    return np.array(given, dtype)
