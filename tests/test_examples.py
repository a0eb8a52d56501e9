"""The research scripts: short, typed, and they run."""

from __future__ import annotations

import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from funcnn import tree
from tests.books import cells, executed
from tests.elsewhere import environment
from tests.lines import lines_of_code

EXAMPLES = Path(__file__).parents[1] / "scripts" / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
IN_OWN_PROCESS = ("autoencoder", "digits", "language_model", "optimizer_study", "sweep")
REACHED: dict[str, Callable[[Any], bool]] = {  # what `main` gives after a whole training
    "adversarial": lambda distance: distance < 0.1,
    "autoencoder": lambda lost: lost < 0.35,
    "batch_norm": lambda accuracy: accuracy >= 0.96,
    "digits": lambda accuracy: accuracy >= 0.98,
    "fine_tuning": lambda accuracy: accuracy >= 0.93,
    "grad_cam": lambda right: right == 1,
    "language_model": lambda perplexity: perplexity < 8.0,
    "lengths": lambda accuracy: accuracy >= 0.95,
    "notebook": lambda accuracy: accuracy >= 0.95,
    "one_file": lambda accuracy: accuracy >= 0.95,
    "optimizer_study": lambda losses: losses["Adam"] < 0.01,
    "own_parts": lambda below: 0.85 < below < 0.96,
    "sweep": lambda loss: loss < 0.05,
    "table": lambda explained: explained > 0.9,
    "transformer": lambda loss: loss < 1.8,
    "two_inputs": lambda accuracy: accuracy >= 0.9,
    "variational": lambda lost: lost < 0.3,
}


def loaded(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def whole(script: Path) -> Any:
    """What `main` gives after a whole training, or the last cell of a notebook."""
    if script.stem == "notebook":
        return float(executed(cells(script, False), script.parent)[-1][0].data["text/plain"])
    if script.stem != "sweep":
        return runpy.run_path(str(script))["main"](short=False)
    done = subprocess.run(  # its processes must find its functions: they are in no module here
        [sys.executable, str(script)], env=environment(), capture_output=True, text=True, check=True
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def test_each_is_short() -> None:
    assert {script.stem for script in SCRIPTS} == set(REACHED)
    for script in SCRIPTS:
        assert lines_of_code(script.read_text()) < 48, script.name


@pytest.mark.parametrize("name", sorted(REACHED.keys() - {*IN_OWN_PROCESS, "notebook"}))
def test_each_runs_short(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if name == "grad_cam":
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert math.isfinite(loaded(name)["main"](short=True))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", IN_OWN_PROCESS)
def test_each_runs_short_as_a_script(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), "--short"], capture_output=True, text=True,
        env=environment(OPENBLAS_NUM_THREADS="1"), cwd=tmp_path, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout
    wanted = {
        "autoencoder": "autoencoder.png",
        "digits": "digits.html",
        "optimizer_study": "optimizers.png",
    }.get(name)
    if wanted:
        assert (tmp_path / "out" / wanted).stat().st_size > 10_000


def test_a_resumed_training_has_the_bits_of_one_that_went_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = loaded("batch_norm")
    once = program["training"](epochs=2)
    program["training"](epochs=1, checkpoint="run.npz")
    assert tree.equal(once.params, program["training"](epochs=2, resume="run.npz").params)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REACHED))
def test_each_learns_what_it_should(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    found = whole(EXAMPLES / f"{name}.py")
    assert REACHED[name](found), found


def test_lines_of_code_are_counted_without_blank_ones_comments_and_docstrings() -> None:
    text = '"""A\ndocstring."""\n\nfrom a import (\n    b,\n)\n\n# A comment.\nc = [\n    b,  # one\n]'
    assert lines_of_code(text) == 4
    assert lines_of_code('def f():\n    """Doc."""\n    return """two\nlines"""\n') == 3
