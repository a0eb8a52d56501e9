"""What the repository says of itself agrees with what it is."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

import funcnn

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EVERYBODY = (
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "CODE_OF_CONDUCT.md",
    "LICENSE",
    "CITATION.cff",
)


@pytest.mark.parametrize("name", EVERYBODY)
def test_what_hosts_look_for_is_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 300


def test_the_citation_has_the_version_and_licence() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {PROJECT['version']}\n" in citation
    assert f"license: {PROJECT['license']}\n" in citation


def test_the_changes_name_this_version_and_names_that_exist() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {PROJECT['version']}\n" in changes
    for old, new in re.findall(r"\| `(funcnn\.\w+)` \| `([\w.]+)` \|", changes):
        importlib.import_module(new)
        assert old.rpartition(".")[2] in dir(funcnn)


def test_actions_are_pinned_and_may_do_little() -> None:
    for path in (ROOT / ".github/workflows").iterdir():
        text = path.read_text()
        assert re.search(r"^permissions: \{\}$", text, re.M), path
        used = re.findall(r"uses: (.*)", text)
        assert used
        for action in used:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v[\d.]+", action), action
        assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_extras_that_messages_name_exist() -> None:
    named = {
        extra
        for path in (ROOT / "funcnn").rglob("*.py")
        for extra in re.findall(r"funcnn\[(\w+)\]", path.read_text())
    }
    assert named
    assert named <= set(PROJECT["optional-dependencies"])
