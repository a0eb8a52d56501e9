"""Metrics of numbers: how far predictions lie from what is true."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcnn import checks, numerics
from funcnn.checks import shown
from funcnn.metrics.core import mean, metric, weights
from funcnn.types import Array

__all__ = ["mae", "r2", "rmse"]


def _numbers(
    prediction: object, target: object, weight: Array | None
) -> tuple[Array, Array, Array | None]:
    """Predictions, targets and weights that count, in float64, ``(N, F)`` and ``(N,)``."""
    found = checks.floating(prediction, "prediction")
    known = checks.array(target, "target")
    if known.dtype.kind not in "iuf":
        checks.refuse_type(f"`target` must be numbers, got {known.dtype}")
    if not found.ndim or known.shape != found.shape:
        checks.refuse(
            "`prediction` and `target` must have one shape (N, ...), "
            f"got {shown(found.shape)} and {shown(known.shape)}"
        )
    rows = found.shape if found.ndim == 1 else found.shape[:-1]
    width = 1 if found.ndim == 1 else found.shape[-1]
    each = weights(weight, rows)
    columns = [x.astype(np.float64).reshape(math.prod(rows), width) for x in (found, known)]
    if each is not None:
        columns = [x[each != 0] for x in columns]
        each = each[each != 0].astype(np.float64)
    for name, x in zip(("prediction", "target"), columns, strict=True):
        if np.isnan(x).any():
            checks.refuse(f"`{name}` must hold no NaN")
    return columns[0], columns[1], each


def _spread(values: Array, weight: Array | None) -> float:
    """The mean of all elements, each row by its weight."""
    each = None if weight is None else np.repeat(weight, values.shape[1])
    return mean(values.reshape(-1), each)


@metric("min")
def mae(prediction: Array, target: Array, *, weight: Array | None = None) -> float:
    """The mean absolute error.

    Parameters
    ----------
    prediction, target : ndarray, ``(N, ...)``
        Numbers.
    weight : ndarray, optional
        How much each row counts, or which do (booleans): ``(N, ...)`` without the last axis.

    Returns
    -------
    float
        NaN for no examples.

    Raises
    ------
    ValueError, TypeError
        For shapes that differ, or numbers that are NaN.

    Examples
    --------
    >>> mae(np.array([[1.0], [4.0]]), np.array([[2.0], [2.0]]))
    1.5
    """
    found, known, each = _numbers(prediction, target, weight)
    return _spread(np.abs(found - known), each)


@metric("min")
def rmse(prediction: Array, target: Array, *, weight: Array | None = None) -> float:
    """The square root of the mean squared error.

    Parameters
    ----------
    prediction, target, weight
        As for `mae`.

    Returns
    -------
    float
        NaN for no examples.

    Raises
    ------
    ValueError, TypeError
        For what `mae` refuses.

    Examples
    --------
    >>> rmse(np.array([[1.0], [9.0]]), np.array([[2.0], [2.0]]))
    5.0
    """
    found, known, each = _numbers(prediction, target, weight)
    distance = np.abs(found - known)
    top = _scale(distance)
    return float(top * np.sqrt(_spread((distance / top) ** 2, each)))


@metric("max")
def r2(prediction: Array, target: Array, *, weight: Array | None = None) -> float:
    """The part of the targets' variance that the predictions explain.

    Parameters
    ----------
    prediction, target, weight
        As for `mae`.

    Returns
    -------
    float
        1 at best, 0 for predicting the mean, below 0 for worse; over several columns, the last
        axis, their mean. NaN for fewer than two examples. Of a column that does not vary, 1 if it
        is predicted exactly, else 0.

    Raises
    ------
    ValueError, TypeError
        For what `mae` refuses.

    Notes
    -----
    ``1 - sum((p - t)**2) / sum((t - mean(t))**2)``. As `sklearn.metrics.r2_score`.

    Examples
    --------
    >>> r2(np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    0.0
    """
    found, known, each = _numbers(prediction, target, weight)
    if len(known) < 2 or not known.size:
        return float("nan")
    columns = zip(found.T, known.T, strict=True)
    return float(numerics.mean(np.array([_explained(p, t, each) for p, t in columns])))


def _explained(p: Array, t: Array, weight: Array | None) -> float:
    top = _scale(np.concatenate([p, t]))
    p, t = p / top, t / top
    if (t == t[0]).all():
        return float(np.array_equal(p, t))
    varied = mean((t - mean(t, weight)) ** 2, weight)
    return 1 - mean((p - t) ** 2, weight) / varied


def _scale(x: Array) -> Any:
    """The largest absolute number, by which others are divided before they are squared."""
    top = np.max(np.abs(x), initial=0)
    return top if 0 < top < np.inf else np.float64(1)
