"""Schedules: their ends, their kinds, and that they are data."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest

from funcnn import numerics, schedules
from funcnn.schedules import Schedule
from tests import odd

_LOOSE: Any = schedules  # to call what mypy would refuse

CASES = [
    schedules.constant(0.1),
    schedules.linear(0.1, 0.5, 10),
    schedules.polynomial(0.1, 0.01, 10, 1.5),
    schedules.exponential(0.1, 0.9, 4),
    schedules.step_decay(0.1, 0.5, 3),
    schedules.cosine(0.1, 10),
    schedules.cosine(0.1, 10, 0.01),
    schedules.cosine_restarts(0.1, 4, 2),
    schedules.one_cycle(0.1, 20, rise=0.25, shape="linear"),
    schedules.inverse_sqrt(0.1, 5),
    schedules.join([schedules.cosine(0.1, 5), 0.05, schedules.linear(0.05, 0.0, 3)], [5, 9]),
    schedules.warmup(schedules.cosine(0.1, 10), 5, 0.01),
    schedules.warmup(0.1, 5),
]

each = pytest.mark.parametrize("schedule", CASES, ids=repr)


@each
def test_it_is_data(schedule: Schedule) -> None:
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule
    assert repr(again) == repr(schedule)
    assert [again(step) for step in range(30)] == [schedule(step) for step in range(30)]


@each
def test_what_it_prints_makes_it_again(schedule: Schedule) -> None:
    names = {name: getattr(schedules, name) for name in vars(schedules)["__all__"]}
    again = eval(repr(schedule), names)
    assert [again(step) for step in range(30)] == [schedule(step) for step in range(30)]


@each
def test_it_gives_numbers_that_portable_arithmetic_confirms(schedule: Schedule) -> None:
    fast = [schedule(step) for step in range(30)]
    assert all(type(number) is float and number >= 0 for number in fast)
    with numerics.portable():
        portable = [schedule(step) for step in range(30)]
    assert fast == pytest.approx(portable, rel=1e-12, abs=1e-17)


@each
def test_a_step_that_is_none_is_refused(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="`step` must be at least 0"):
        schedule(-1)
    with pytest.raises(TypeError, match="`step` must be an int"):
        schedule(0.5)  # type: ignore[arg-type]


_EXTREMES = (1e-320, 1e-46, 1e300, 1.7e308, -1.7e308, 1 - 1e-16)
_WHOLE = (0, 1, 2**31, 2**62, 2**63 - 1)
_MADE: dict[str, dict[str, Any]] = {
    "constant": {"value": 0.1},
    "linear": {"start": 1.0, "stop": 0.0, "steps": 10},
    "polynomial": {"start": 1.0, "stop": 0.0, "steps": 10, "power": 2.0},
    "exponential": {"start": 1.0, "factor": 0.5, "steps": 3},
    "step_decay": {"start": 1.0, "factor": 0.5, "every": 3},
    "cosine": {"start": 1.0, "steps": 10, "stop": 0.1},
    "cosine_restarts": {"start": 1.0, "period": 5, "growth": 2, "stop": 0.1},
    "one_cycle": {"peak": 1.0, "steps": 10, "rise": 0.3, "start_divisor": 25.0, "stop_divisor": 1e4},
    "inverse_sqrt": {"peak": 1.0, "warmup_steps": 4},
    "warmup": {"schedule": 0.5, "steps": 4, "start": 0.1},
}


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, kw in _MADE.items() for o in kw])
def test_options_of_any_size_give_finite_numbers_or_are_refused(name: str, option: str) -> None:
    for value in _EXTREMES if isinstance(_MADE[name][option], float) else _WHOLE:
        try:
            schedule = getattr(_LOOSE, name)(**{**_MADE[name], option: value})
            for step in (0, 1, 2, 5, 9, 10, 11, 1000, 10**9, 2**62):
                assert np.isfinite(schedule(step)), f"{option}={value} at step {step}"
        except ValueError as refusal:
            if not re.match(rf"^{name}.*`.*({option}|step|schedule).*` must ", str(refusal)):
                raise


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^exponential.*`step` must have a finite number, got inf at"):
        schedules.exponential(1.0, 1e300)(5)
    with pytest.raises(ValueError, match=r"^one_cycle: `peak / start_divisor` must be finite, got inf"):
        schedules.one_cycle(1.0, 10, start_divisor=1e-320)


def test_every_schedule_has_a_case() -> None:
    shown = [repr(case).partition("(")[0] for case in CASES]
    assert set(vars(schedules)["__all__"]) - {"Schedule"} == set(shown)


def test_ends_are_exact_and_last() -> None:
    for schedule, start, stop in (
        (schedules.linear(0.1, 0.7, 7), 0.1, 0.7),
        (schedules.polynomial(0.1, 0.7, 7, 3), 0.1, 0.7),
        (schedules.cosine(0.3, 7, 0.1), 0.3, 0.1),
        (schedules.one_cycle(0.3, 7, start_divisor=3), 0.3 / 3, 0.3 / 3 / 1e4),
    ):
        assert schedule(0) == start
        assert schedule(7) == schedule(10**9) == stop


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: schedules.linear(0.1, 0.0, 0), ValueError, "linear: `steps` must be at least 1"),
        (lambda: _LOOSE.cosine("a", 3), TypeError, "cosine: `start` must be a number"),
        (lambda: schedules.exponential(0.1, 0.0), ValueError, "`factor` must be above 0"),
        (lambda: schedules.one_cycle(0.1, 9, shape="x"), ValueError, "`shape` must be one of"),
        (
            lambda: schedules.join([0.1, 0.2], [3, 5]),
            ValueError,
            "join: `boundaries` must be 1 increasing steps",
        ),
        (
            lambda: schedules.join([0.1, 0.2, 0.3], [5, 3]),
            ValueError,
            "join: `boundaries` must be 2 increasing steps",
        ),
    ],
)
def test_bad_options_are_refused(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_odd_arguments_are_refused_in_one_line() -> None:
    usual = {
        "value": 0.1, "start": 1.0, "stop": 0.1, "steps": 10, "power": 2.0, "factor": 0.5, "every": 3,
        "period": 5, "peak": 0.1, "warmup_steps": 3, "schedule": 0.3, "schedules": [0.1, 0.2],
        "boundaries": [3],
    }  # fmt: skip

    def use(made: schedules.Schedule) -> None:
        for step in (0, 1, 9, 10, 10**6, 2**62):
            assert isinstance(made(step), float)

    for what, call in odd.calls(schedules, usual, use):
        odd.refused_in_one_line(what, call)


@each
def test_odd_steps_are_refused_in_one_line(schedule: schedules.Schedule) -> None:
    loose: Any = schedule
    for step in odd.VALUES:
        odd.refused_in_one_line(f"{schedule}({step!r:.40})", lambda: loose(step))  # noqa: B023
    for step in (-1, 1.0, 2**63, np.float64(3), True, None):
        with pytest.raises((ValueError, TypeError), match="`step` must be"):
            loose(step)
    assert loose(np.int8(5)) == schedule(5)
