"""Curves: one number to another, by a formula of the step."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from funcnn import numerics
from funcnn.checks import Choice, Integer, Number, declared
from funcnn.schedules.core import Schedule

__all__ = [
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "inverse_sqrt",
    "linear",
    "one_cycle",
    "polynomial",
    "step_decay",
]


def _power(base: float, exponent: float) -> float:
    """``base ** exponent`` with the same bits wherever `numerics` promises them."""
    with np.errstate(over="ignore"):
        return float(numerics.power(np.array(base), exponent))


def _between(start: float, stop: float, left: float) -> float:
    """From `start`, where all is left, to `stop`; exact at both ends."""
    return start * left + stop * (1 - left)


def _falling_cosine(progress: float) -> float:
    """From 1 at 0 to 0 at 1, along half a cosine."""
    return (1 + float(numerics.cos(np.array(pi * progress)))) / 2


@declared(value=Number())
def constant(value: float) -> Schedule:
    """The same number at every step.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from funcnn import schedules
    >>> schedules.constant(0.1)(1000)
    0.1
    """
    return Schedule(_constant, (value,))


def _constant(_step: int, value: float) -> float:
    return value


@declared(start=Number(), stop=Number(), steps=Integer(1))
def linear(start: float, stop: float, steps: int) -> Schedule:
    """A straight line from one number to another.

    Parameters
    ----------
    start, stop : float
        The number at step 0, and from step `steps` on.
    steps : int
        How long it takes.

    Returns
    -------
    Schedule

    Notes
    -----
    ``stop + (start - stop) (1 - t / steps)``, as `torch.optim.lr_scheduler.LinearLR` and
    `optax.linear_schedule`.

    Examples
    --------
    >>> from funcnn import schedules
    >>> schedules.linear(0.0, 1.0, 4)(3)
    0.75
    """
    return Schedule(_polynomial, (start, stop, steps, 1.0))


@declared(start=Number(), stop=Number(), steps=Integer(1), power=Number(above=0))
def polynomial(start: float, stop: float, steps: int, power: float = 2.0) -> Schedule:
    """A power of the part that is left, from one number to another.

    Parameters
    ----------
    start, stop : float
        The number at step 0, and from step `steps` on.
    steps : int
        How long it takes.
    power : float, default 2.0
        The power; 1 is `linear`.

    Returns
    -------
    Schedule

    Notes
    -----
    ``stop + (start - stop) (1 - t / steps)**power``, as `torch.optim.lr_scheduler.PolynomialLR`
    (whose `stop` is 0) and `optax.polynomial_schedule`.

    Examples
    --------
    >>> from funcnn import schedules
    >>> schedules.polynomial(1.0, 0.0, 4)(2)
    0.25
    """
    return Schedule(_polynomial, (start, stop, steps, power))


def _polynomial(step: int, start: float, stop: float, steps: int, power: float) -> float:
    left = 1 - min(step, steps) / steps
    return _between(start, stop, left if power == 1 else _power(left, power))


@declared(start=Number(), factor=Number(above=0), steps=Integer(1))
def exponential(start: float, factor: float, steps: int = 1) -> Schedule:
    """Multiplied by a factor every so many steps, smoothly.

    Parameters
    ----------
    start : float
        The number at step 0.
    factor : float
        What it is multiplied by in the course of `steps`.
    steps : int, default 1
        How long that takes.

    Returns
    -------
    Schedule

    Notes
    -----
    ``start * factor**(t / steps)``, as `torch.optim.lr_scheduler.ExponentialLR` (whose `steps` is
    1) and `optax.exponential_decay`.

    Examples
    --------
    >>> from funcnn import schedules
    >>> schedules.exponential(1.0, 0.25, steps=2)(1)
    0.5
    """
    return Schedule(_exponential, (start, factor, steps))


def _exponential(step: int, start: float, factor: float, steps: int) -> float:
    return start * _power(factor, step / steps)


@declared(start=Number(), factor=Number(above=0), every=Integer(1))
def step_decay(start: float, factor: float, every: int) -> Schedule:
    """Multiplied by a factor every so many steps, in stairs.

    Parameters
    ----------
    start : float
        The number at step 0.
    factor : float
        What it is multiplied by at each stair.
    every : int
        Steps from stair to stair.

    Returns
    -------
    Schedule

    Notes
    -----
    ``start * factor**floor(t / every)``, as `torch.optim.lr_scheduler.StepLR`. For stairs at
    chosen steps, `join` constants.

    Examples
    --------
    >>> from funcnn import schedules
    >>> [schedules.step_decay(1.0, 0.5, 3)(step) for step in (0, 2, 3, 6)]
    [1.0, 1.0, 0.5, 0.25]
    """
    return Schedule(_step_decay, (start, factor, every))


def _step_decay(step: int, start: float, factor: float, every: int) -> float:
    return start * _power(factor, step // every)


@declared(start=Number(), steps=Integer(1), stop=Number())
def cosine(start: float, steps: int, stop: float = 0.0) -> Schedule:
    """Half a cosine from one number down to another.

    Parameters
    ----------
    start : float
        The number at step 0.
    steps : int
        How long it takes.
    stop : float, default 0.0
        The number from step `steps` on.

    Returns
    -------
    Schedule

    Notes
    -----
    ``stop + (start - stop) (1 + cos(pi t / steps)) / 2``, as
    `torch.optim.lr_scheduler.CosineAnnealingLR` up to step `steps`, and
    `optax.cosine_decay_schedule`, which stay at `stop` afterwards; PyTorch's rises again.

    References
    ----------
    I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017.

    Examples
    --------
    >>> from funcnn import schedules
    >>> schedules.cosine(1.0, 100)(0), round(schedules.cosine(1.0, 100)(50), 6)
    (1.0, 0.5)
    """
    return Schedule(_cosine, (start, steps, stop))


def _cosine(step: int, start: float, steps: int, stop: float) -> float:
    return _between(start, stop, _falling_cosine(min(step, steps) / steps))


@declared(start=Number(), period=Integer(1), growth=Integer(1), stop=Number())
def cosine_restarts(start: float, period: int, growth: int = 1, stop: float = 0.0) -> Schedule:
    """Half a cosine down, again and again.

    Parameters
    ----------
    start : float
        The number at the start of each period.
    period : int
        Steps of the first period.
    growth : int, default 1
        How many times longer each period is than the one before.
    stop : float, default 0.0
        What each period falls towards.

    Returns
    -------
    Schedule

    Notes
    -----
    ``stop + (start - stop) (1 + cos(pi t / period)) / 2``, with ``t`` counted from the last
    restart, as `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`.

    References
    ----------
    I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017.

    Examples
    --------
    >>> from funcnn import schedules
    >>> rate = schedules.cosine_restarts(1.0, 10, growth=2)
    >>> rate(0), rate(10), round(rate(20), 6), rate(30)
    (1.0, 1.0, 0.5, 1.0)
    """
    return Schedule(_cosine_restarts, (start, period, growth, stop))


def _cosine_restarts(step: int, start: float, period: int, growth: int, stop: float) -> float:
    if growth == 1:
        step %= period
    while step >= period:
        step -= period
        period *= growth
    return _cosine(step, start, period, stop)


@declared(
    peak=Number(),
    steps=Integer(2),
    rise=Number(minimum=0, below=1),
    start_divisor=Number(above=0),
    stop_divisor=Number(above=0),
    shape=Choice("cosine", "linear"),
)
def one_cycle(
    peak: float,
    steps: int,
    *,
    rise: float = 0.3,
    start_divisor: float = 25.0,
    stop_divisor: float = 1e4,
    shape: str = "cosine",
) -> Schedule:
    """Up to a peak, and down to next to nothing.

    Parameters
    ----------
    peak : float
        The largest number.
    steps : int
        Steps in all.
    rise : float, default 0.3
        The part of the steps in which it rises.
    start_divisor : float, default 25.0
        It starts at ``peak / start_divisor``.
    stop_divisor : float, default 1e4
        It ends at ``peak / start_divisor / stop_divisor``.
    shape : "cosine" or "linear", default "cosine"
        The shape of both parts.

    Returns
    -------
    Schedule

    Notes
    -----
    As `torch.optim.lr_scheduler.OneCycleLR`, whose peak lies at step ``rise * steps - 1`` and whose
    end lies at ``steps - 1``. It stays at the end afterwards.

    References
    ----------
    L. Smith and N. Topin, "Super-convergence: very fast training of neural networks using large
    learning rates", 2018.

    Examples
    --------
    >>> from funcnn import schedules
    >>> rate = schedules.one_cycle(1.0, 100)
    >>> round(rate(0), 6), round(rate(29), 6), round(rate(99), 6)
    (0.04, 1.0, 4e-06)
    """
    lowest = Number().check("peak / start_divisor", peak / start_divisor)
    last = Number().check("peak / start_divisor / stop_divisor", lowest / stop_divisor)
    return Schedule(_one_cycle, (peak, steps, rise, lowest, last, shape))


def _one_cycle(
    step: int, peak: float, steps: int, rise: float, lowest: float, last: float, shape: str
) -> float:
    top, end = rise * steps - 1, float(steps - 1)
    at = min(float(step), end)
    if at <= top:
        begin, stop, progress = lowest, peak, at / top if top > 0 else 1.0
    else:
        begin, stop, progress = peak, last, (at - top) / (end - top)
    left = _falling_cosine(progress) if shape == "cosine" else 1 - progress
    return _between(begin, stop, left)


@declared(peak=Number(), warmup_steps=Integer(1))
def inverse_sqrt(peak: float, warmup_steps: int) -> Schedule:
    """A straight line up, then down as one over the square root of the step.

    Parameters
    ----------
    peak : float
        The largest number, reached at step ``warmup_steps - 1``.
    warmup_steps : int
        Steps of the line.

    Returns
    -------
    Schedule

    Notes
    -----
    ``peak * min(n / w, sqrt(w / n))`` with ``n = t + 1`` and ``w = warmup_steps``; the transformer's
    schedule has ``peak = 1 / sqrt(features * w)``.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017, section 5.3.

    Examples
    --------
    >>> from funcnn import schedules
    >>> rate = schedules.inverse_sqrt(1.0, 4)
    >>> rate(0), rate(3), rate(15)
    (0.25, 1.0, 0.5)
    """
    return Schedule(_inverse_sqrt, (peak, warmup_steps))


def _inverse_sqrt(step: int, peak: float, warmup_steps: int) -> float:
    now = step + 1
    return peak * min(now / warmup_steps, sqrt(warmup_steps / now))
