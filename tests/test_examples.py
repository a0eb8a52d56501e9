"""The research scripts: short, typed, and they run."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.elsewhere import environment

EXAMPLES = Path(__file__).parents[1] / "scripts" / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def loaded(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_there_are_four_of_fewer_than_sixty_lines() -> None:
    assert len(SCRIPTS) >= 4
    for script in SCRIPTS:
        assert len(script.read_text().splitlines()) < 60, script.name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.stem))
def test_each_runs_short(script: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = subprocess.run(
        [sys.executable, str(script), "--short"], env=environment(OPENBLAS_NUM_THREADS="1"),
        capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout
    wanted = {
        "autoencoder": "autoencoder.png",
        "digits": "digits.html",
        "optimizer_study": "optimizers.png",
    }.get(script.stem)
    if wanted:
        assert (tmp_path / "out" / wanted).stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("digits", lambda found: found >= 0.98),
        ("language_model", lambda found: found < 8.0),
        ("autoencoder", lambda found: found < 0.35),
        ("optimizer_study", lambda found: found["Adam"] < 0.01),
    ],
)
def test_each_learns_what_it_should(
    name: str, reached: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    found = loaded(name)["main"](short=False)
    assert reached(found), found
