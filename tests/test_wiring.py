"""What `mypy --strict` says of right and wrong networks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

from tests.test_docs import FRAGMENTS, PAGES, program
from tests.test_readme import BLOCKS

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


def _line(text: str) -> int:
    lines = (HERE / "wiring" / "wrong.py").read_text().splitlines()
    return 1 + lines.index(f"{text}  # wrong")


KINDS = {
    "Vector": "ndarray[tuple[int, int], dtype[floating[Any]]]",
    "Sequence": "ndarray[tuple[int, int, int], dtype[floating[Any]]]",
    "Image": "ndarray[tuple[int, int, int, int], dtype[floating[Any]]]",
}


def _said(verdict: dict[str, dict[int, list[str]]], network: str) -> str:
    text = "\n".join(verdict["wrong.py"][_line(network)])
    for name, kind in KINDS.items():
        text = text.replace(kind, name)
    return text


@pytest.mark.parametrize(
    ("network", "place", "found", "expected"),
    [
        ("serial(conv(6, 5), dense(10))", 2, "Vector, Vector", "Image, Vector"),
        ("serial(conv(6, 5), relu(), dense(10))", 3, "Vector, Vector", "Image, Vector"),
        ("serial(embedding(9, 4), relu(), dense(3))", 3, "Vector, Vector", "Sequence, Vector"),
        ("serial(conv(6, 5), flatten(), max_pool(2))", 3, "Image, Image", "Vector, Image"),
        (
            "serial(conv(6, 5), relu(), max_pool(2), flatten(), dense(9), relu(), max_pool(2))",
            7, "Image, Image", "Vector, Image",
        ),
        (
            "serial(conv(6, 5), relu(), max_pool(2), conv(16, 5), relu(), max_pool(2), dense(10))",
            7, "Vector, Vector", "Image, Vector",
        ),
        (
            f"serial({', relu(), '.join(f'dense({i})' for i in range(1, 11))}, conv(1, 1))",
            20, "Image, Image", "Vector, Image",
        ),
    ],
)  # fmt: skip
def test_the_message_names_the_layer_and_what_it_expects(
    verdict: dict[str, dict[int, list[str]]], network: str, place: int, found: str, expected: str
) -> None:
    assert _said(verdict, network) == (
        f'Argument {place} to "__call__" of "Serial" has incompatible type "Layer[{found}]"; '
        f'expected "Layer{place}[{expected}]"  [arg-type]'
    )


def test_behind_a_layer_that_keeps_any_shape_the_message_names_the_joint(
    verdict: dict[str, dict[int, list[str]]],
) -> None:
    said = _said(verdict, "serial(relu(), conv(6, 5), dense(3))")
    assert '"From2To3" of "__call__" of "Serial"' in said


def test_more_than_twenty_layers_are_refused_with_what_to_do(
    verdict: dict[str, dict[int, list[str]]],
) -> None:
    long = _said(verdict, f"serial({', '.join(['dense(1)'] * 21)})")
    assert long.startswith('Value of type variable "AfterLayer20NestAnotherSerial"')


# What other checkers say, in the versions of November 2026: ty 0.0.108, pyrefly 1.5, pyright 1.1.414.
OTHERS = {
    "ty": ["check", "--python", sys.executable, "--output-format", "concise"],
    "pyrefly": [
        "check",
        "--preset",
        "default",
        "--python-interpreter-path",
        sys.executable,
        "--output-format",
        "min-text",
    ],
    "pyright": ["--pythonpath", sys.executable],
}
MISSED = {"pyrefly": {"residual(conv(6, 3), flatten())"}}


def _says(checker: str, files: list[Path]) -> str:
    """What another checker says of some programs."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which(checker, path=beside)
    if program is None:
        pytest.skip(f"{checker} is not installed")
    command = [program, *OTHERS[checker], *map(str, files)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return ran.stdout + ran.stderr


ERROR = re.compile(r"(\w+\.py):(\d+):\d+.*?(?:error|\[).*")


@pytest.mark.slow
@pytest.mark.parametrize("checker", OTHERS)
def test_other_checkers_reject_what_is_wrong_and_nothing_else(checker: str) -> None:
    out = _says(checker, [HERE / "wiring" / name for name in ("right.py", "wrong.py")])
    lines = (HERE / "wiring" / "wrong.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    wrong = marked - {_line(text) for text in MISSED.get(checker, ())}
    assert set(ERROR.findall(out)) == {("wrong.py", str(number)) for number in wrong}, out[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("checker", OTHERS)
def test_other_checkers_accept_the_programs_of_the_documentation(checker: str, tmp_path: Path) -> None:
    programs = ["\n".join(BLOCKS), *(program(page) for page in PAGES if page.stem not in FRAGMENTS)]
    wrong = "from funcnn import conv, dense, serial\n\nserial(conv(6, 5), dense(3))\n"
    files = [tmp_path / f"page{i}.py" for i in range(len(programs) + 1)]
    for file, text in zip(files, [*programs, wrong], strict=True):
        file.write_text(text, "utf-8")
    out = _says(checker, files)
    # Pyright's PossiblyUnbound: of a variable that a loop assigns, which runs at least once
    found = {match[1] for match in ERROR.finditer(out) if "PossiblyUnbound" not in match[0]}
    assert found == {files[-1].name}, out[-3000:]
