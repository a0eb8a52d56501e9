"""What `mypy --strict` says of right and wrong networks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
ROOT = HERE.parent


@pytest.fixture(scope="module")
def verdict() -> dict[str, dict[int, list[str]]]:
    """Errors of both programs, by file and line, from one run of the checker."""
    files = [str(HERE / "wiring" / name) for name in ("right.py", "wrong.py")]
    out, problems, _ = api.run(
        ["--strict", "--no-error-summary", "--config-file", str(ROOT / "pyproject.toml"), *files]
    )
    assert not problems
    errors: dict[str, dict[int, list[str]]] = {"right.py": {}, "wrong.py": {}}
    for match in re.finditer(r"^(\S+?):(\d+): error: (.*)$", out, re.MULTILINE):
        path, line, text = match.groups()
        errors.setdefault(Path(path).name, {}).setdefault(int(line), []).append(text)
    return errors


def test_right_networks_are_accepted(verdict: dict[str, dict[int, list[str]]]) -> None:
    assert verdict["right.py"] == {}


def test_wrong_networks_are_rejected_and_nothing_else(
    verdict: dict[str, dict[int, list[str]]],
) -> None:
    lines = (HERE / "wiring" / "wrong.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert len(marked) >= 20
    assert set(verdict["wrong.py"]) == marked


def test_the_message_shows_both_sides_of_the_joint(
    verdict: dict[str, dict[int, list[str]]],
) -> None:
    lines = (HERE / "wiring" / "wrong.py").read_text().splitlines()
    line = 1 + lines.index("serial(conv(6, 5), flatten(), max_pool(2))  # wrong")
    assert any("Serial" in text for text in verdict["wrong.py"][line])
