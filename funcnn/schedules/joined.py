"""One schedule after the other."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from funcnn import checks
from funcnn.schedules.core import Schedule
from funcnn.schedules.curves import constant, linear

__all__ = ["join", "warmup"]


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


@checks.takes(steps=checks.Integer(1))
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
    rise = linear(checks.Number().check("start", start), first, steps)
    shown = f"warmup({schedule!r}, {steps!r}{f', {start!r}' if start else ''})"
    return Schedule(_join, ((rise, after), (steps,)), shown)


def _join(step: int, schedules: tuple[Schedule, ...], boundaries: tuple[int, ...]) -> float:
    which = bisect_right(boundaries, step)
    return schedules[which](step - (boundaries[which - 1] if which else 0))


def _as_schedule(name: str, value: object) -> Any:
    return value if callable(value) else constant(checks.Number().check(name, value))
