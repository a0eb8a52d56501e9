"""Schedules: the learning rate, or any number, as a pure function of the 0-based step.

A `Schedule` is data: it can be pickled, compared and printed. Where an optimizer takes a learning
rate, it takes a schedule, too; any function of the step will do, if it need not be pickled.

Examples
--------
>>> from funcnn import schedules
>>> rate = schedules.warmup(schedules.cosine(0.1, 100), 10)
>>> rate
warmup(cosine(0.1, 100), 10)
>>> rate(0), rate(5), rate(10), rate(110)
(0.0, 0.05, 0.1, 0.0)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from math import pi, sqrt
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, numerics

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "inverse_sqrt",
    "join",
    "linear",
    "one_cycle",
    "polynomial",
    "step_decay",
    "warmup",
]


class Schedule(NamedTuple):
    """A number for every step: call it with the 0-based step.

    Parameters
    ----------
    rule : callable
        ``(step, *options) -> number``: a function at the top of a module, so that the schedule can
        be pickled.
    options : tuple
        What `rule` takes beyond the step.
    shown : str
        How it prints: the call that made it.

    Examples
    --------
    >>> linear(1.0, 0.0, 4)(1)
    0.75
    >>> linear(1.0, 0.0, 4) == linear(1.0, 0.0, 4), linear(1.0, 0.0, 4) == linear(1.0, 0.0, 5)
    (True, False)
    """

    rule: Callable[..., float]
    options: tuple[Any, ...] = ()
    shown: str = ""

    def __call__(self, step: int) -> float:
        """The number at a step; after the last step that a schedule plans, its last number."""
        try:
            return float(self.rule(checks.Integer(0).check("step", step), *self.options))
        except checks.Refusal as refusal:
            raise refusal.by(checks.shown(self))

    def __repr__(self) -> str:
        return self.shown or f"{self.rule.__name__}({', '.join(map(repr, self.options))})"


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


def _constant(_step: int, value: float) -> float:
    return value


@checks.named
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
    number = checks.Number().check("value", value)
    return Schedule(_constant, (number,), f"constant({number!r})")


def _polynomial(step: int, start: float, stop: float, steps: int, power: float) -> float:
    left = 1 - min(step, steps) / steps
    return _between(start, stop, left if power == 1 else _power(left, power))


@checks.named
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
    options = (
        checks.Number().check("start", start),
        checks.Number().check("stop", stop),
        checks.Integer(1).check("steps", steps),
    )
    return Schedule(_polynomial, (*options, 1.0), f"linear{options!r}")


@checks.named
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
    options = (
        checks.Number().check("start", start),
        checks.Number().check("stop", stop),
        checks.Integer(1).check("steps", steps),
        checks.Number(above=0).check("power", power),
    )
    return Schedule(_polynomial, options, f"polynomial{options!r}")


def _exponential(step: int, start: float, factor: float, steps: int) -> float:
    return start * _power(factor, step / steps)


@checks.named
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
    options = (
        checks.Number().check("start", start),
        checks.Number(above=0).check("factor", factor),
        checks.Integer(1).check("steps", steps),
    )
    return Schedule(_exponential, options, f"exponential{options!r}")


def _step_decay(step: int, start: float, factor: float, every: int) -> float:
    return start * _power(factor, step // every)


@checks.named
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
    options = (
        checks.Number().check("start", start),
        checks.Number(above=0).check("factor", factor),
        checks.Integer(1).check("every", every),
    )
    return Schedule(_step_decay, options, f"step_decay{options!r}")


def _cosine(step: int, start: float, steps: int, stop: float) -> float:
    return _between(start, stop, _falling_cosine(min(step, steps) / steps))


@checks.named
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
    options = (
        checks.Number().check("start", start),
        checks.Integer(1).check("steps", steps),
        checks.Number().check("stop", stop),
    )
    return Schedule(_cosine, options, f"cosine({', '.join(map(repr, options[: 2 + (stop != 0)]))})")


def _cosine_restarts(step: int, start: float, period: int, growth: int, stop: float) -> float:
    if growth == 1:
        step %= period
    while step >= period:
        step -= period
        period *= growth
    return _cosine(step, start, period, stop)


@checks.named
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
    options = (
        checks.Number().check("start", start),
        checks.Integer(1).check("period", period),
        checks.Integer(1).check("growth", growth),
        checks.Number().check("stop", stop),
    )
    return Schedule(_cosine_restarts, options, f"cosine_restarts{options!r}")


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


@checks.named
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
    peak = checks.Number().check("peak", peak)
    steps = checks.Integer(2).check("steps", steps)
    rise = checks.Number(minimum=0, below=1).check("rise", rise)
    lowest = peak / checks.Number(above=0).check("start_divisor", start_divisor)
    last = lowest / checks.Number(above=0).check("stop_divisor", stop_divisor)
    checks.Choice("cosine", "linear").check("shape", shape)
    shown = f"one_cycle({peak!r}, {steps!r}, rise={rise!r}, start_divisor={start_divisor!r}, "
    shown += f"stop_divisor={stop_divisor!r}, shape={shape!r})"
    return Schedule(_one_cycle, (peak, steps, rise, lowest, last, shape), shown)


def _inverse_sqrt(step: int, peak: float, warmup_steps: int) -> float:
    now = step + 1
    return peak * min(now / warmup_steps, sqrt(warmup_steps / now))


@checks.named
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
    options = (
        checks.Number().check("peak", peak),
        checks.Integer(1).check("warmup_steps", warmup_steps),
    )
    return Schedule(_inverse_sqrt, options, f"inverse_sqrt{options!r}")


def _join(step: int, schedules: tuple[Schedule, ...], boundaries: tuple[int, ...]) -> float:
    which = bisect_right(boundaries, step)
    return schedules[which](step - (boundaries[which - 1] if which else 0))


def _as_schedule(name: str, value: object) -> Any:
    return value if callable(value) else constant(checks.Number().check(name, value))


@checks.named
def join(schedules: tuple[Any, ...] | list[Any], boundaries: tuple[int, ...] | list[int]) -> Schedule:
    """One schedule after the other.

    Parameters
    ----------
    schedules : sequence of Schedule or float
        They follow each other; each begins with its own step 0.
    boundaries : sequence of int
        Where the second begins, and the third, ...; increasing.

    Returns
    -------
    Schedule

    Raises
    ------
    ValueError
        Unless there is one boundary fewer than schedules, in increasing order.

    Notes
    -----
    As `optax.join_schedules` and `torch.optim.lr_scheduler.SequentialLR`.

    Examples
    --------
    >>> from funcnn import schedules
    >>> stairs = schedules.join([0.1, 0.01], [30])
    >>> stairs(29), stairs(30)
    (0.1, 0.01)
    """
    for name, given in (("schedules", schedules), ("boundaries", boundaries)):
        if not isinstance(given, (list, tuple)) or isinstance(given, Schedule):
            checks.refuse_type(f"`{name}` must be a list or a tuple, got {checks.shown(given)}")
    parts = tuple(_as_schedule("schedules", part) for part in schedules)
    bounds = tuple(checks.Integer(1).check("boundaries", bound) for bound in boundaries)
    if len(bounds) != len(parts) - 1 or list(bounds) != sorted(set(bounds)):
        checks.refuse(
            f"`boundaries` must be {len(parts) - 1} increasing steps, one between any two "
            f"schedules, got {checks.shown(bounds)}",
        )
    return Schedule(_join, (parts, bounds), f"join({list(parts)!r}, {list(bounds)!r})")


@checks.named
def warmup(schedule: Any, steps: int, start: float = 0.0) -> Schedule:
    """A straight line up to where a schedule starts, then that schedule from its step 0.

    Parameters
    ----------
    schedule : Schedule or float
        What follows; a number stays as it is.
    steps : int
        Steps of the line.
    start : float, default 0.0
        The number at step 0.

    Returns
    -------
    Schedule

    Notes
    -----
    ``start + (schedule(0) - start) t / steps`` for ``t < steps``, then ``schedule(t - steps)``; with
    a `cosine`, it is `optax.warmup_cosine_decay_schedule`.

    Examples
    --------
    >>> from funcnn import schedules
    >>> rate = schedules.warmup(0.4, 4)
    >>> rate(1), rate(4), rate(5)
    (0.1, 0.4, 0.4)
    """
    after = _as_schedule("schedule", schedule)
    first = checks.Number().check("schedule(0)", after(0))
    steps = checks.Integer(1).check("steps", steps)
    rise = linear(checks.Number().check("start", start), first, steps)
    shown = f"warmup({schedule!r}, {steps!r}{f', {start!r}' if start else ''})"
    return Schedule(_join, ((rise, after), (steps,)), shown)
