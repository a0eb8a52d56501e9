"""Losses of numbers: how far a prediction lies from a target, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn.checks import Number
from funcnn.losses.core import REDUCTION, elementwise, fitted, times_difference
from funcnn.losses.rounding import loss
from funcnn.types import Array, Loss

__all__ = ["huber", "l1", "log_cosh", "mean_squared_error", "smooth_l1"]

_LOG_2 = 0.6931471805599453  # written out: the C library's logarithm could differ


def _of_distance(
    reduction: str, value: Callable[[Array, Array, Any], Any], slope: Callable[[Array, Array], Any]
) -> Loss:
    """A loss from ``value(d, e, s)`` of the distance ``d = p - t``, and its ``slope(d, e)``.

    Both come times the factor ``s``, as ``e = s d`` does, which may be finite where ``d`` is not.
    """

    def distances(p: Array, t: Array, s: Any) -> tuple[Array, Array]:
        return p - t, times_difference(p, t, s)

    def values(p: Array, t: Array, s: Any) -> Any:
        return value(*distances(p, t, s), s)

    def slopes(p: Array, t: Array, s: Any) -> Any:
        return slope(*distances(p, t, s))

    return elementwise(reduction, values, slopes)


def _bent(d: Array, bend: float) -> Array:
    """The distance, no longer than the bend."""
    return np.minimum(np.maximum(d, -bend), bend)


@loss(reduction=REDUCTION)
def mean_squared_error(*, reduction: str = "mean") -> Loss:
    """Squared distance, element by element.

    Parameters
    ----------
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` and ``target`` have one shape, ``(N, ...)``.

    Raises
    ------
    ValueError, TypeError
        For a target of another shape or dtype, an empty batch.

    Notes
    -----
    Forward: ``(p - t)**2``, its mean over all elements. Gradient: ``2 (p - t) / count``. As
    `torch.nn.MSELoss`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import mean_squared_error
    >>> loss = mean_squared_error()
    >>> value, cache = loss.apply(np.array([[3.0]]), np.array([[1.0]]))
    >>> float(value), loss.vjp(cache)
    (4.0, array([[4.]]))
    """
    return _of_distance(reduction, lambda d, e, s: d * e, lambda d, e: 2 * e)


@loss(reduction=REDUCTION)
def l1(*, reduction: str = "mean") -> Loss:
    """Absolute distance, element by element.

    Parameters
    ----------
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` and ``target`` have one shape, ``(N, ...)``.

    Raises
    ------
    ValueError, TypeError
        For a target of another shape or dtype, an empty batch.

    Notes
    -----
    Forward: ``|p - t|``. Gradient: ``sign(p - t)``, 0 where they are equal. As `torch.nn.L1Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import l1
    >>> loss = l1()
    >>> value, cache = loss.apply(np.array([3.0, 1.0]), np.array([1.0, 1.0]))
    >>> float(value), loss.vjp(cache)
    (1.0, array([0.5, 0. ]))
    """
    return _of_distance(reduction, lambda d, e, s: np.abs(e), lambda d, e: np.sign(d))


@loss(delta=Number(above=0), reduction=REDUCTION)
def huber(*, delta: float = 1.0, reduction: str = "mean") -> Loss:
    """Half the squared distance near the target, linear far from it.

    Parameters
    ----------
    delta : float, default 1.0
        The distance at which it turns linear, and the slope from there on.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` and ``target`` have one shape, ``(N, ...)``.

    Raises
    ------
    ValueError, TypeError
        For a target of another shape or dtype, an empty batch, a `delta` that is not above 0.

    Notes
    -----
    Forward, with ``d = p - t``: ``d**2 / 2`` where ``|d| <= delta``, else
    ``delta (|d| - delta / 2)``. Gradient: ``d`` clipped to ``-delta .. delta``. As
    `torch.nn.HuberLoss`.

    References
    ----------
    P. Huber, "Robust estimation of a location parameter", 1964.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import huber
    >>> loss = huber(reduction="none")
    >>> value, cache = loss.apply(np.array([0.5, 3.0]), np.array([0.0, 0.0]))
    >>> value, loss.vjp(cache)
    (array([0.125, 2.5  ]), array([0.5, 1. ]))
    """

    def value(d: Array, e: Array, s: Any) -> Any:
        near = _bent(d, fitted(delta, d.dtype))
        return near * (e - 0.5 * s * near)

    return _of_distance(reduction, value, lambda d, e: _bent(d, fitted(delta, d.dtype)))


@loss(beta=Number(above=0), reduction=REDUCTION)
def smooth_l1(*, beta: float = 1.0, reduction: str = "mean") -> Loss:
    """Absolute distance, rounded near the target.

    Parameters
    ----------
    beta : float, default 1.0
        The distance below which it is rounded.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` and ``target`` have one shape, ``(N, ...)``.

    Raises
    ------
    ValueError, TypeError
        For a target of another shape or dtype, an empty batch, a `beta` that is not above 0.

    Notes
    -----
    Forward, with ``d = p - t``: ``d**2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``.
    Gradient: ``d / beta`` clipped to ``-1 .. 1``. As `torch.nn.SmoothL1Loss`; `huber` with
    ``delta = beta``, divided by ``beta``.

    References
    ----------
    R. Girshick, "Fast R-CNN", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import smooth_l1
    >>> loss = smooth_l1(beta=2.0, reduction="none")
    >>> value, cache = loss.apply(np.array([1.0, 3.0]), np.array([0.0, 0.0]))
    >>> value, loss.vjp(cache)
    (array([0.25, 2.  ]), array([0.5, 1. ]))
    """

    def value(d: Array, e: Array, s: Any) -> Any:
        bend = fitted(beta, d.dtype)
        near = _bent(d, bend)
        return near / bend * (e - 0.5 * s * near)

    return _of_distance(reduction, value, lambda d, e: _bent(d / fitted(beta, d.dtype), 1))


@loss(reduction=REDUCTION)
def log_cosh(*, reduction: str = "mean") -> Loss:
    """The logarithm of the hyperbolic cosine of the distance: smooth, and linear far away.

    Parameters
    ----------
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` and ``target`` have one shape, ``(N, ...)``.

    Raises
    ------
    ValueError, TypeError
        For a target of another shape or dtype, an empty batch.

    Notes
    -----
    Forward, with ``d = p - t``: ``log(cosh(d)) = |d| + log(1 + exp(-2 |d|)) - log(2)``, and where
    that would cancel ``log(1 + m**2 / (2 (1 + m)))`` with ``m = exp(-|d|) - 1``. Gradient:
    ``tanh(d)``. As `optax.log_cosh`; PyTorch has none.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import log_cosh
    >>> loss = log_cosh()
    >>> value, cache = loss.apply(np.array([1.0]), np.array([0.0]))
    >>> round(float(value), 4), loss.vjp(cache).round(4)
    (0.4338, array([0.7616]))
    """

    def value(d: Array, e: Array, s: Any) -> Any:
        distance = np.abs(d)
        far = np.abs(e) + s * (numerics.log1p(numerics.exp(-2 * distance)) - _LOG_2)
        m = numerics.expm1(-np.minimum(distance, 1))
        return np.where(distance < 1, numerics.log1p(m * m / (2 * (1 + m))), far)

    return _of_distance(reduction, value, lambda d, e: numerics.tanh(d))
