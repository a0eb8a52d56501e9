"""What the losses share: constraints, checks of a prediction and its target, and the reductions."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, numerics
from funcnn.checks import Choice, Number, shown, takes
from funcnn.types import Array, Cache, Loss

__all__ = ["one_hot"]

REDUCTION = Choice("mean", "sum", "none")


class Weights(NamedTuple):
    """None, or one number of at least 0 for each class, kept as a tuple; perhaps a single one."""

    single: bool = False

    def check(self, name: str, value: Any, /) -> tuple[float, ...] | None:
        if value is None:
            return None
        if isinstance(value, np.ndarray) and value.ndim == 1:
            value = tuple(value)
        if self.single and not isinstance(value, (tuple, list)):
            value = (value,)
        if not isinstance(value, (tuple, list)) or not value:
            checks.refuse_type(f"`{name}` must be a number for each class, got {shown(value)}")
        return tuple(Number(minimum=0).check(name, part) for part in value)

    def wrong(self) -> tuple[object, ...]:
        return ((), (1.0, -1.0), [math.nan], "ab", np.ones((2, 2)), (1, True), -1.0, {1.0: 2.0})


@takes(classes=checks.Integer(1))
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
    found = checks.labels(checks.array(labels, "labels"), classes, "labels")
    kind = checks.number_dtype(dtype)
    if classes * max(found.size, 1) * kind.itemsize > sys.maxsize:
        checks.refuse(f"`classes` must be few enough for memory, got {shown(classes)}")
    out = np.zeros((*found.shape, classes), kind)
    np.put_along_axis(out, found[..., None], 1, -1)
    return out


# --- arithmetic -----------------------------------------------------------------------------------


def counted(weight: Array, values: Array) -> Array:
    """The product, 0 where the weight is: what does not count may be anything."""
    return np.where(weight == 0, 0, weight * values)


def fitted(option: float, dtype: np.dtype[Any]) -> float:
    """A positive option as a number of the dtype, neither 0 nor infinite."""
    limits = np.finfo(dtype)
    return min(max(option, float(limits.tiny)), float(limits.max))


def entropy(logits: Array, negative: Array, positive: Array) -> Array:
    """``negative softplus(z) + positive softplus(-z)``: how wrong a logit is, by two weights."""
    near_zero = numerics.log1p(numerics.exp(-np.abs(logits)))  # softplus(x) - max(x, 0)
    wrong = counted(negative, near_zero + np.maximum(logits, 0))
    return wrong + counted(positive, near_zero - np.minimum(logits, 0))


def entropy_slope(logits: Array, negative: Array, positive: Array) -> Array:
    """The derivative of `entropy` by the logits."""
    wrong = counted(negative, numerics.sigmoid(logits))
    return wrong - counted(positive, numerics.sigmoid(-logits))


_SMALL = 2.0**-64  # by which numbers are multiplied whose sum could be too large

Times = Callable[[Any], Any]  # of a factor: the factor times some numbers, which may be too large alone


def reduced(values: Array, reduction: str, count: Any = None, times: Times | None = None) -> Any:
    """Mean, sum or all of the values; the mean divides by their number, or by `count`."""
    if reduction == "none":
        return times_share(values, 1, times)
    total = numerics.sum(values.reshape(-1))[()]
    count = values.dtype.type(1 if reduction == "sum" else values.size if count is None else count)
    if math.isfinite(total):
        return total / count if reduction == "mean" else total
    if times is None or values.dtype != np.float64:  # of a mean, the sum may be too large
        return numerics.sum((values / count).reshape(-1))[()]
    parts = times_share(values, _SMALL / count, times)
    return numerics.sum(parts.reshape(-1))[()] / _SMALL


def times_share(numbers: Array, share: Any, times: Times | None) -> Array:
    """Numbers times their share, in place; of those beyond float64 by way of a smaller factor."""
    if share != 1:
        numbers *= share
    if times is None or numbers.dtype != np.float64 or (known := np.isfinite(numbers)).all():
        return numbers
    found = times(share * _SMALL) / _SMALL
    return np.where(~known & (np.abs(found) > 0), found, numbers)  # 0 or NaN: too small a factor


def times_difference(a: Array, b: Array, factor: Any) -> Array:
    """A difference times a factor, which may be finite where the difference is not."""
    return a - b if factor == 1 else factor * a - factor * b


def over(reduction: str, count: Callable[[Any], float]) -> Callable[[Any], float | None]:
    """What a loss says as its `weight`: for a mean ``count(target)``, for a sum None."""
    return count if "mean" in reduction else lambda target: None


def share(count: Any, reduction: str, dtype: np.dtype[Any]) -> Any:
    """The derivative of the reduced value by each single one."""
    return dtype.type(1 / count if reduction == "mean" else 1)


def elementwise(
    reduction: str,
    value: Callable[[Array, Array, Any], Any],
    slope: Callable[[Array, Array, Any], Any],
    check: Callable[[Array, Array], None] | None = None,
) -> Loss:
    """A loss from ``value(prediction, target, factor)`` and its derivative, element by element.

    Both come times the factor, which is 1, or so small that what is too large alone is not.
    """

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        found, known = alike(prediction, target)
        if check is not None:
            check(found, known)
        out = reduced(value(found, known, 1), reduction, times=partial(value, found, known))
        return out, {"prediction": found, "target": known}

    def vjp(cache: Cache) -> Array:
        p, target = cache["prediction"], cache["target"]
        part = share(p.size, reduction, p.dtype)
        return times_share(slope(p, target, 1), part, partial(slope, p, target))

    return Loss(apply, vjp, weight=over(reduction, np.size))


# --- checks ---------------------------------------------------------------------------------------


def batch(prediction: object, min_rank: int, name: str = "prediction") -> Array:
    """A float prediction with at least one example."""
    found = checks.floating(prediction, name)
    if found.ndim < min_rank or not found.size:
        checks.refuse(
            f"`{name}` must have at least {min_rank} axes and one example, got shape {found.shape}",
        )
    return found


def shaped(target: Array, shape: tuple[int, ...]) -> None:
    """A target of the shape that the prediction asks for."""
    if target.shape != shape:
        checks.refuse(f"`target` must have the shape {shown(shape)}, got {shown(target.shape)}")


def like(target: object, prediction: Array) -> Array:
    """A target of the prediction's shape and dtype."""
    known = checks.floating(target, "target")
    shaped(known, prediction.shape)
    checks.same_dtype(known, prediction, "target", "the prediction is")
    return known


def alike(prediction: object, target: object) -> tuple[Array, Array]:
    """Prediction and target of one shape and dtype, ``(N, ...)``."""
    found = batch(prediction, 1)
    return found, like(target, found)


def several(prediction: object, names: tuple[str, ...]) -> tuple[Array, ...]:
    """A prediction that is a tuple of arrays of one shape and dtype."""
    if not isinstance(prediction, tuple) or len(prediction) != len(names):
        got = f"{len(prediction)}" if isinstance(prediction, tuple) else type(prediction).__name__
        checks.refuse_type(
            f"`prediction` must be a tuple of {len(names)} arrays ({', '.join(names)}), got {got}"
        )
    parts = tuple(batch(part, 1, name) for name, part in zip(names, prediction, strict=True))
    first, shape, dtype = names[0], parts[0].shape, parts[0].dtype
    for name, part in zip(names[1:], parts[1:], strict=True):
        if part.shape != shape:
            wanted, got = shown(shape), shown(part.shape)
            checks.refuse(f"`{name}` must have the shape {wanted} of `{first}`, got {got}")
        if part.dtype != dtype:
            checks.refuse_type(f"`{name}` must have the dtype {dtype} of `{first}`, got {part.dtype}")
    return parts


def between(x: Array, least: float, most: float, name: str = "target") -> None:
    """Numbers within bounds."""
    low, high = np.minimum.reduce(x, None), np.maximum.reduce(x, None)
    if not (low >= least and high <= most):
        worst = high if low >= least else low
        checks.refuse(f"`{name}` must lie in {least}..{most}, got {worst}")


def not_negative(x: Array, name: str) -> None:
    """Numbers of at least 0."""
    least = np.minimum.reduce(x, None)
    if least < 0:
        checks.refuse(f"`{name}` must not be negative, got {least}")


def of_numbers(target: Array) -> None:
    """A target that is not of words, dates or objects."""
    if target.dtype.kind not in "iuf":
        checks.refuse_type(f"`target` must be numbers, got {target.dtype}")


def one_of(target: Array, first: int, second: int) -> None:
    """A target that is one of two numbers everywhere."""
    of_numbers(target)
    wrong = (target != first) & (target != second)
    if wrong.any():
        checks.refuse(f"`target` must be {first} or {second}, got {target[wrong][0]}")


def class_weights(
    name: str, given: Sequence[float] | None, classes: int, dtype: np.dtype[Any], factor: float = 1.0
) -> Array:
    """The weights, times a factor, as an array, once it is known how many classes there are."""
    if given is None:
        return np.ones(classes, dtype)
    if len(given) != classes:
        checks.refuse(f"`{name}` must have a number for each of {classes} classes, got {len(given)}")
    if not max(given) <= float(np.finfo(dtype).max):
        checks.refuse(f"`{name}` must be finite in {dtype}, got {max(given)}")
    return (np.array(given) * factor).astype(dtype)


def unit(most: float) -> float:
    """By what weights are multiplied where only what they are to each other counts, by the largest.

    A power of 2, so that no digit changes, and 1 for ordinary ones: no sum overflows or vanishes.
    """
    exponent = math.frexp(most or 1.0)[1]
    return 2.0 ** min(-exponent, 1000) if abs(exponent) > 20 else 1.0
