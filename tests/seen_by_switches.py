"""Run by `tests.test_switches` in another process: the settings hold there."""

from __future__ import annotations

import os
from importlib.util import find_spec


def test_one_processor() -> None:
    assert not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) == 1


def test_no_oracles() -> None:
    assert find_spec("torch") is None
    assert find_spec("optax") is None


def test_variables() -> None:
    assert os.environ["PLANTED"] == "1"
