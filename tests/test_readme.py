"""The README's code runs, one block after the other, and passes the type checker."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mypy import api

from funcnn import random, sgd_update, softmax_cross_entropy, value_and_grad
from funcnn.testing import check_layer

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


def test_there_is_code() -> None:
    assert len(BLOCKS) >= 4


def test_every_block_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "readme"}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert float(names["loss"]) < 0.5


def test_every_block_passes_the_type_checker(tmp_path: Path) -> None:
    program = tmp_path / "readme.py"
    program.write_text("\n".join(BLOCKS))
    config = str(ROOT / "pyproject.toml")
    out, problems, status = api.run(["--strict", "--config-file", config, str(program)])
    assert status == 0, out + problems


def test_the_layer_of_ones_own_keeps_every_law_and_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = (block for block in BLOCKS if "def scale()" in block)
    (tmp_path / "own_layer.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    own = import_module("own_layer")
    check_layer(own.scale(), (4, 5))
    x = random.normal(random.key(0), (32, 4))
    labels = random.randint(random.key(1), (32,), 0, 3)
    _, params = own.net.init(random.key(2), x.shape)
    step = value_and_grad(own.net, softmax_cross_entropy())
    losses = []
    for _ in range(50):
        loss, grads = step(params, x, labels)
        params = sgd_update(params, grads, lr=0.5)
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert list(grads) == ["scale1", "dense1"]
