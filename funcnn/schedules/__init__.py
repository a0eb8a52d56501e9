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

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
