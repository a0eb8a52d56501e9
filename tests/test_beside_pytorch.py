"""The programs of the page beside PyTorch: as long as it says, and all of them run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lines import lines_of_code
from tests.test_examples import EXAMPLES, REACHED, whole

DOCS = Path(__file__).parents[1] / "docs"
THEIRS = DOCS / "pytorch"
NAMES = sorted(path.stem for path in THEIRS.glob("*.py"))
PAGE = (DOCS / "explanation/beside-pytorch.md").read_text("utf-8")


def lines(name: str) -> tuple[int, int]:
    """Of the program with funcnn, and of that with PyTorch."""
    ours, theirs = (lines_of_code((at / f"{name}.py").read_text("utf-8")) for at in (EXAMPLES, THEIRS))
    return ours, theirs


def test_there_are_thirteen() -> None:
    assert len(NAMES) == 13
    assert set(NAMES) <= set(REACHED)


@pytest.mark.parametrize("name", NAMES)
def test_no_program_is_longer_than_that_of_pytorch(name: str) -> None:
    ours, theirs = lines(name)
    assert ours <= theirs


def test_the_page_shows_both_programs_and_their_lines() -> None:
    """In the order of its table."""
    rows = re.findall(r"^\| \[(.+)\]\(#.+\) \| (\d+) \| (\d+) \|$", PAGE, re.M)
    parts = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", PAGE, re.M))
    assert [title for title, _, _ in rows] == list(parts)
    shown = []
    for title, ours, theirs in rows:
        first, second = re.findall(r"\{literalinclude\} (\S+)/(\w+)\.py", parts[title])
        assert (first[0], second[0], first[1]) == ("../../scripts/examples", "../pytorch", second[1])
        assert (int(ours), int(theirs)) == lines(first[1]), first[1]
        shown.append(first[1])
    assert sorted(shown) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_program_with_pytorch_reaches_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    if name == "table":
        pytest.importorskip("pandas")
    if name == "notebook":
        pytest.importorskip("sklearn")
    if name == "grad_cam":
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    found = whole(THEIRS / f"{name}.py")
    assert REACHED[name](found), found
