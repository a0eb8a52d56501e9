"""Losses of distributions: how unlikely a target is, or how far two distributions lie apart."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from funcnn import checks, numerics
from funcnn.checks import Choice, Flag, Number
from funcnn.losses.core import (
    REDUCTION,
    alike,
    counted,
    elementwise,
    fitted,
    like,
    not_negative,
    over,
    reduced,
    several,
    share,
    times_difference,
    times_share,
)
from funcnn.losses.rounding import loss
from funcnn.types import Array, Cache, Loss

__all__ = ["gaussian_nll", "kl_divergence", "poisson_nll"]

_EPSILON = 1e-8
_LOG_2_PI = 1.8378770664093453  # written out: the C library's logarithm could differ


@loss(log_target=Flag(), reduction=Choice(*REDUCTION.words, "batch_mean"))
def kl_divergence(*, log_target: bool = False, reduction: str = "mean") -> Loss:
    """Kullback-Leibler divergence of a target distribution from predicted log-probabilities.

    Parameters
    ----------
    log_target : bool, default False
        Whether the target holds log-probabilities, too.
    reduction : "mean", "batch_mean", "sum" or "none", default "mean"
        What becomes of the values of the elements: "mean" divides by the number of elements,
        "batch_mean" by the number of examples, which is the divergence as it is defined.

    Returns
    -------
    Loss
        ``prediction`` holds log-probabilities ``(N, ...)``, ``target`` probabilities of the same
        shape.

    Raises
    ------
    ValueError, TypeError
        For negative probabilities, a target of another shape or dtype, an empty batch.

    Notes
    -----
    Forward: ``t (log(t) - p)``, 0 where ``t = 0``, whatever ``p`` is there. Gradient: ``-t``. As
    `torch.nn.KLDivLoss`.

    References
    ----------
    S. Kullback and R. Leibler, "On information and sufficiency", 1951.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import kl_divergence
    >>> loss = kl_divergence(reduction="batch_mean")
    >>> value, cache = loss.apply(np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    >>> round(float(value), 4), loss.vjp(cache)
    (0.6931, array([[-1., -0.]]))
    """
    inner = "mean" if reduction == "batch_mean" else reduction
    counts: Any = len if reduction == "batch_mean" else np.size

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        found, known = alike(prediction, target)
        if log_target:
            log_t, likely = known, partial(_exponential, known)
        else:
            not_negative(known, "target")
            log_t = numerics.log(np.where(known > 0, known, known.dtype.type(1)))
            likely = partial(np.multiply, known)

        def values(s: Any) -> Any:
            return counted(likely(s), log_t - found)

        part = share(counts(known), inner, found.dtype)
        slope = -times_share(likely(1), part, likely)
        return reduced(values(1), inner, counts(known), values), {"slope": slope}

    def vjp(cache: Cache) -> Array:
        slope: Array = cache["slope"].copy()
        return slope

    return Loss(apply, vjp, weight=over(reduction, counts))


@loss(log_input=Flag(), full=Flag(), epsilon=Number(minimum=0), reduction=REDUCTION)
def poisson_nll(
    *, log_input: bool = True, full: bool = False, epsilon: float = _EPSILON, reduction: str = "mean"
) -> Loss:
    """Negative log-likelihood of counts under a Poisson distribution.

    Parameters
    ----------
    log_input : bool, default True
        Whether the prediction is the logarithm of the expected count.
    full : bool, default False
        Whether to add Stirling's approximation of ``log(t!)``, which does not depend on the
        prediction.
    epsilon : float, default 1e-8
        Added to the prediction in its logarithm; with `log_input`, which takes none, another one is
        refused.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` and ``target``, the counts, have one shape, ``(N, ...)``.

    Raises
    ------
    ValueError, TypeError
        For negative counts, a target of another shape or dtype, an empty batch.

    Notes
    -----
    Forward: ``exp(p) - t p``, or without `log_input` ``p - t log(p + epsilon)``; with `full`, plus
    ``t log(t) - t + log(2 pi t) / 2`` where ``t > 1``. A count of 0 leaves out what it multiplies,
    infinities, too. Gradient: ``exp(p) - t``, or ``(p - t + epsilon) / (p + epsilon)``.
    As `torch.nn.PoissonNLLLoss`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import poisson_nll
    >>> loss = poisson_nll()
    >>> value, cache = loss.apply(np.array([0.0]), np.array([3.0]))
    >>> float(value), loss.vjp(cache)
    (1.0, array([-2.]))
    """
    if log_input and epsilon != _EPSILON:
        checks.refuse(f"`epsilon` must be {_EPSILON} with log_input=True, got {epsilon}")

    def check(prediction: Array, target: Array) -> None:
        not_negative(target, "target")
        if not log_input:
            not_negative(prediction, "prediction")

    def added(dtype: np.dtype[Any]) -> float:
        return fitted(epsilon, dtype) if epsilon else 0

    def value(prediction: Array, target: Array, s: Any) -> Any:
        if log_input:
            rate, log_rate = _exponential(prediction, s), prediction
        else:
            rate, log_rate = s * prediction, numerics.log(prediction + added(prediction.dtype))
        if not full:
            return _less(rate, counted(s * target, log_rate))
        log_many = numerics.log(np.maximum(target, 1))
        many = target > 1
        values = _less(rate, counted(s * target, log_rate - np.where(many, log_many - 1, 0)))
        return values + np.where(many, 0.5 * s * (log_many + _LOG_2_PI), 0)

    def slope(prediction: Array, target: Array, s: Any) -> Any:
        if log_input and s != 1:
            return _exponential(prediction, s) - s * target
        if log_input:
            one = target >= 0.5  # taken from both sides: where they all but agree, this is exact
            rate = np.where(one, numerics.expm1(prediction), numerics.exp(prediction))
            return rate - (target - one)
        more = added(prediction.dtype)
        rate = prediction + more
        each = s * (prediction - target + more) / rate
        return np.where((target == 0) | (rate == np.inf), s, each)

    return elementwise(reduction, value, slope, check)


def _exponential(x: Array, factor: Any) -> Array:
    """A factor times ``exp(x)``, which may be finite where the exponential is not."""
    if factor == 1:
        return numerics.exp(x)
    root: Array = numerics.exp(0.5 * x)
    out: Array = factor * root * root
    return out


def _less(rate: Array, other: Array) -> Array:
    """The difference; an infinite rate has outgrown what grows by its logarithm."""
    return np.where(rate == np.inf, rate, rate - other)


@loss(full=Flag(), epsilon=Number(above=0), reduction=REDUCTION)
def gaussian_nll(*, full: bool = False, epsilon: float = 1e-6, reduction: str = "mean") -> Loss:
    """Negative log-likelihood of numbers under normal distributions, mean and variance predicted.

    Parameters
    ----------
    full : bool, default False
        Whether to add ``log(2 pi) / 2``, which does not depend on the prediction.
    epsilon : float, default 1e-6
        The smallest variance; a smaller one counts as this.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the elements.

    Returns
    -------
    Loss
        ``prediction`` is a tuple ``(mean, variance)``; both have the shape ``(N, ...)`` of
        ``target``, and so have the two gradients.

    Raises
    ------
    ValueError, TypeError
        For negative variances, a target of another shape or dtype, an empty batch.

    Notes
    -----
    Forward: ``(log(v) + (t - m)**2 / v) / 2`` with ``v = max(variance, epsilon)``. Gradient:
    ``dm = (m - t) / v`` and ``dv = (1 / v - dm**2) / 2``, below `epsilon`, too, so that a
    variance can grow again. As `torch.nn.GaussianNLLLoss`.

    References
    ----------
    D. Nix and A. Weigend, "Estimating the mean and variance of the target probability
    distribution", 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import gaussian_nll
    >>> loss = gaussian_nll()
    >>> value, cache = loss.apply((np.array([0.0]), np.array([1.0])), np.array([2.0]))
    >>> float(value), loss.vjp(cache)
    (2.0, (array([-2.]), array([-1.5])))
    """

    def apply(prediction: tuple[Array, Array], target: Array) -> tuple[Any, Cache]:
        mean, variance = several(prediction, ("mean", "variance"))
        known = like(target, mean)
        not_negative(variance, "variance")
        v = np.maximum(variance, fitted(epsilon, variance.dtype))

        def values(s: Any) -> Any:
            d = times_difference(mean, known, s)
            out = 0.5 * s * numerics.log(v) + d / v * (0.5 * d) / s
            return out + 0.5 * s * _LOG_2_PI if full else out

        cache = {"mean": mean, "target": known, "variance": v}
        return reduced(values(1), reduction, times=values), cache

    def vjp(cache: Cache) -> tuple[Array, Array]:
        mean, known, v = cache["mean"], cache["target"], cache["variance"]
        part = share(v.size, reduction, v.dtype)

        def of_mean(s: Any) -> Any:
            return times_difference(mean, known, s) / v

        def of_variance(s: Any) -> Any:
            slope = of_mean(s)
            return 0.5 * (s / v - slope * slope / s)

        dmean, dvariance = of_mean(1), of_variance(1)
        return times_share(dmean, part, of_mean), times_share(dvariance, part, of_variance)

    return Loss(apply, vjp, weight=over(reduction, np.size))
