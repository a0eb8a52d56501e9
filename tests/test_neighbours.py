"""The page of layers in PyTorch and ONNX says what runs."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("jax", reason="JAX is not installed")
pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnx", reason="ONNX is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from tests import neighbours


def test_every_layer_is_in_the_table_once() -> None:
    listed = re.findall(r"`(\w+)`", neighbours.parts()[1])
    assert sorted(listed) == sorted(neighbours.kinds())


def test_a_cell_says_what_its_cases_say() -> None:
    assert neighbours.mark([True, None, True]) == "yes"
    assert neighbours.mark([True, False]) == "in part"
    assert neighbours.mark([False, None]) == "no"
    assert neighbours.mark([None]) == "-"


@pytest.mark.slow
def test_the_table_says_what_runs() -> None:
    assert neighbours.parts()[1] == neighbours.table(), "python -m tests.neighbours writes it anew"
