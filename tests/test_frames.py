"""Between a layer and its arithmetic lie few calls: what a step of LeNet enters is counted."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from funcnn import numerics

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")
MOST = 250


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "scripts"))
    return import_module("count_frames")


@pytest.mark.parametrize("kernels", ["off", pytest.param("require", marks=needs_numba)])
@pytest.mark.parametrize("update", ["sgd_update", "sgd"])
@pytest.mark.parametrize("batch", [1, 32])
def test_a_step_of_lenet_enters_few_frames(
    counting: Any, batch: int, update: str, kernels: Any
) -> None:
    with numerics.compiled(kernels):
        seen: Counter[str] = counting.count(counting.steps(batch)[update])
    assert seen["/training/gradients.py: value_and_grad.<locals>.step"] == 1
    assert 100 < seen.total() <= MOST, seen.most_common(12)
