"""Between a layer and its arithmetic lie few calls: what a step of LeNet enters is counted."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

MOST = 250


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "scripts"))
    return import_module("count_frames")


@pytest.mark.parametrize("update", ["sgd_update", "sgd"])
@pytest.mark.parametrize("batch", [1, 32])
def test_a_step_of_lenet_enters_few_frames(counting: Any, batch: int, update: str) -> None:
    seen: Counter[str] = counting.count(counting.steps(batch)[update])
    assert seen["/training/gradients.py: value_and_grad.<locals>.step"] == 1
    assert 100 < seen.total() <= MOST, seen.most_common(12)
