"""What `docs/contributing.md` tells contributors is enough: a copy of the library follows it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from funcnn import numerics

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
TABLE = [line.split("|")[1:-1] for line in TEXT.splitlines() if line.startswith("| ")][1:5]
FILES = {row[0].strip(): re.findall("`([^`]+)`", "|".join(row)) for row in TABLE}
SECTIONS = dict(re.findall(r"^## An? ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
ORACLES = {"activation": ["tests/test_limits.py"], "loss": ["tests/test_loss_limits.py"]}
PLACE = r"`([^`\n]+\.\w+)`,\s(?:at the end|under\s`([^`]+)`(?: and `([^`]+)`)?)"
ADDED = "absolute|scaling|half_square|signum"


class Step(NamedTuple):
    """Some lines to add to a file: under a line, or at the end where there is none."""

    file: str
    under: str
    lines: str


def _steps(section: str) -> list[Step]:
    """What a recipe says to add, in order: each block goes where the words before it say."""
    steps: list[Step] = []
    parts = re.split(r"^```\w*\n", section, flags=re.MULTILINE)
    for words, block in zip(parts[::2], parts[1::2], strict=False):
        place = re.search(PLACE, words)
        if place:
            file, *under = place.groups(default="")
        steps.append(Step(file, under.pop(0), block))
    return steps


def _follow(step: Step, root: Path) -> None:
    path = root / step.file
    text = path.read_text(encoding="utf-8")
    names = re.findall(r"^def (\w+)", step.lines, re.MULTILINE)
    if not step.under:
        text = f"{text}\n\n{step.lines}"
        for name in names:
            text = text.replace("__all__ = [", f'__all__ = ["{name}", ', 1)
    else:
        assert text.count(f"\n{step.under}\n") == 1, step
        text = text.replace(f"\n{step.under}\n", f"\n{step.under}\n{step.lines}", 1)
    path.write_text(text, encoding="utf-8")


def _import(file: str, name: str, root: Path) -> None:
    path = root / file
    text = path.read_text(encoding="utf-8")
    for line in ("from funcnn import (\n    ", "from funcnn import "):
        if line in text:
            path.write_text(text.replace(line, f"{line}{name}, ", 1), encoding="utf-8")
            return


def test_a_recipe_touches_two_files_and_one_case() -> None:
    assert list(FILES) == list(SECTIONS)
    assert len(FILES) == 4
    for kind, section in SECTIONS.items():
        steps = _steps(section)
        touched = list(dict.fromkeys(step.file for step in steps))
        assert touched[:3] == FILES[kind]
        assert not any(file.startswith("funcnn/") for file in touched[1:])
        assert touched[3:] == ORACLES.get(kind, [])


@pytest.mark.parametrize("kind", FILES)
def test_a_recipe_uses_what_its_file_has(kind: str) -> None:
    """The quick part of what the copy proves: its names are there."""
    step = _steps(SECTIONS[kind])[0]
    module = import_module(step.file.removesuffix(".py").replace("/", "."))
    scope = {**vars(module), "numerics": numerics}
    exec(step.lines, scope)
    (name,) = set(ADDED.split("|")) & scope.keys()
    made = scope[name](*[0.1] * (kind == "optimizer"))
    assert made.spec.kind == name
    assert name not in vars(module)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    for name in ("funcnn", "tests", "docs", "scripts"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, root)
    for section in SECTIONS.values():
        for step in _steps(section):
            _follow(step, root)
    _import("funcnn/layers/linear.py", "numerics", root)
    _import("tests/cases/activations.py", "absolute", root)
    _import("tests/cases/core.py", "scaling", root)
    return root


def _run(root: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_what_is_added_keeps_the_laws(copy: Path) -> None:
    """And is in the catalogue, refuses wrong options, and is right at every magnitude."""
    complete = "test_catalogue or test_registry or test_every_activation_has or test_every_loss_has"
    files = ["laws", "catalogue", "registry", "declarations", "limits", "loss_limits", "optimizers"]
    tests = [f"tests/test_{name}.py" for name in (*files, "options")]
    chosen = f"{ADDED.replace('|', ' or ')} or {complete} or test_every_constructor"
    out = _run(copy, "pytest", "-q", "-n", "0", "-k", chosen, *tests)
    passed = re.search(r"(\d+) passed", out)
    assert passed is not None
    assert int(passed[1]) > 200, out
    homes = ["funcnn/layers/activations/straight.py", "funcnn/layers/linear.py"]
    homes += ["funcnn/losses/regression.py", "funcnn/optimizers/signs.py"]
    assert "4 passed" in _run(copy, "pytest", "-q", "-n", "0", "-k", ADDED.replace("|", " or "), *homes)


@pytest.mark.slow
def test_what_is_added_is_typed(copy: Path) -> None:
    program = "\n".join(
        [
            "from funcnn import absolute, conv, half_square, optimizers, scaling, serial",
            "from funcnn.types import Loss",
            "net = serial(scaling(), absolute(0.5))",
            "loss: Loss = half_square()",
            "optimizer: optimizers.Optimizer = optimizers.signum(0.1)",
            "serial(scaling(), conv(3, 3))  # type: ignore[arg-type]",
        ]
    )
    (copy / "program.py").write_text(program, encoding="utf-8")
    files = [row[0] for row in FILES.values()]
    assert "Success" in _run(copy, "mypy", "--strict", "program.py", *files)
