"""The README's code runs, one block after the other, and passes the type checker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from mypy import api

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


def test_there_is_code() -> None:
    assert len(BLOCKS) >= 5


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
