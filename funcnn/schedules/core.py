"""What a schedule is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from funcnn import checks

__all__ = ["Schedule"]


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
    >>> from funcnn.schedules import linear
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
            found = float(self.rule(checks.Integer(0).check("step", step), *self.options))
            if not math.isfinite(found):
                checks.refuse(f"`step` must have a finite number, got {found} at step {step}")
            return found
        except checks.Refusal as refusal:
            raise refusal.by(checks.shown(self))

    def __repr__(self) -> str:
        return self.shown or f"{self.rule.__name__}({', '.join(map(repr, self.options))})"
