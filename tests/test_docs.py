"""The documentation is whole: public names, pages in tables of contents, links, typed programs."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from mypy import api

import funcnn
from tests.elsewhere import environment
from tests.test_rooms import FLOORS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    p for p in DOCS.rglob("*.md") if p.relative_to(DOCS).parts[0] not in {"_build", "reference"}
)
INSIDE = {"checks", "files", "machine", "parameterless", "structure"}  # for those who add to funcnn
OF_0_1 = {"looking", "outline", "reparametrization", "sequences"}  # old names, which warn
FRAGMENTS = {"contributing"}  # whose code is no program: a test follows it


def _name(path: Path) -> str:
    return path.relative_to(DOCS).with_suffix("").as_posix()


@cache
def _conf() -> Any:
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("conf")
    finally:
        sys.path.remove(str(DOCS))


def _room(name: str) -> Any:
    if name.startswith("interop."):
        return pytest.importorskip(
            f"funcnn.{name}", reason="the library is not installed", exc_type=ImportError
        )
    return importlib.import_module(f"funcnn.{name}")


def _named(page: str) -> list[str]:
    """What a page of the reference tells of."""
    return re.findall(r"^\.\. auto(?:function|class):: (\w+)$", page, re.M) + re.findall(
        r"^`(\w+)`\n: \w", page, re.M
    )


def test_every_public_room_is_in_the_reference() -> None:
    there = {
        info.name for info in pkgutil.iter_modules(funcnn.__path__) if not info.name.startswith("_")
    }
    neighbours = Path(str(importlib.import_module("funcnn.interop").__file__)).parent
    there |= {f"interop.{info.name}" for info in pkgutil.iter_modules([str(neighbours)])} - {"interop"}
    assert set(_conf().ROOMS) == there - INSIDE - OF_0_1 - {"interop"}


@pytest.mark.parametrize("name", _conf().ROOMS)
def test_every_name_of_a_room_is_in_the_reference(name: str) -> None:
    room = _room(name)
    names = [one for one in room.__all__ if not inspect.ismodule(getattr(room, one))]
    assert names
    assert sorted(_named(_conf().page(name, "Title"))) == sorted(names)


def test_every_name_at_the_top_is_in_the_reference() -> None:
    rooms = [_room(name) for name in _conf().ROOMS if not name.startswith("interop.")]
    there = {id(getattr(room, name)) for room in rooms for name in room.__all__}
    there |= {id(getattr(funcnn, name)) for name in _named(_conf().top())}
    things = [(name, getattr(funcnn, name)) for name in importlib.import_module("funcnn").__all__]
    assert [name for name, it in things if id(it) not in there and not inspect.ismodule(it)] == []


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {"index", "reference/index"}
    for path in PAGES:
        for table in re.findall(r"^```\{toctree\}\n(.*?)^```", path.read_text("utf-8"), re.M | re.S):
            for line in table.splitlines():
                if line and not line.startswith(":"):
                    listed.add((path.parent / line).relative_to(DOCS).as_posix())
    assert listed == {_name(path) for path in PAGES} | {"reference/index"}


def _anchors(text: str) -> set[str]:
    """The fragments of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    reference = {"index", "top", *_conf().ROOMS}
    for path in (ROOT / "README.md", *PAGES):
        text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?://|mailto:", link):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            where = f"{path.name}: {link}"
            if target.parent == DOCS / "reference":
                assert target.name.removesuffix(".md") in reference, where
                continue
            assert target.exists(), where
            if anchor:
                assert anchor in _anchors(target.read_text("utf-8")), where


def program(path: Path) -> str:
    """The code of a page: its cells and blocks, one behind the other."""
    blocks = re.findall(
        r"^```(?:\{code-cell\}|python)\n(.*?)^```", path.read_text("utf-8"), re.M | re.S
    )
    return "\n".join(re.sub(r"\A(:.*\n)*", "", block) for block in blocks)


def test_the_programs_of_all_pages_pass_the_type_checker(tmp_path: Path) -> None:
    programs = {path: program(path) for path in PAGES if _name(path) not in FRAGMENTS}
    files = []
    for path, text in programs.items():
        if text:
            files.append(tmp_path / f"{_name(path).replace('/', '_').replace('-', '_')}.py")
            files[-1].write_text(text, "utf-8")
    assert files
    config = str(ROOT / "pyproject.toml")
    out, problems, status = api.run(["--strict", "--config-file", config, *map(str, files)])
    assert status == 0, out + problems


def test_the_page_of_the_rooms_has_the_floors() -> None:
    """And what each room is for, in its own words."""
    page = (DOCS / "explanation/rooms.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", page, re.M)
    assert {int(floor): set(re.findall(r"`(\w+)`", rooms)) for floor, rooms in rows} == dict(
        enumerate(FLOORS)
    )
    for room, words in re.findall(r"^`(\w+)`\n: (.*)$", page, re.M):
        assert words in str(importlib.import_module(f"funcnn.{room}").__doc__), room


def _needs(extra: str) -> set[str]:
    """The distributions of an extra, as they are written in lower case."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return {
        re.split(r"[>=<\[]", one)[0].lower()
        for one in settings["project"]["optional-dependencies"][extra]
    }


def test_what_the_notebooks_import_is_installed_with_the_documentation() -> None:
    names = {"sklearn": "scikit-learn"}
    there = _needs("docs") | {"numpy", "funcnn"} | set(sys.stdlib_module_names)
    unrun = {page for needed in _conf().NEEDED.values() for page in needed}  # shown without results
    for path in PAGES:
        if "{code-cell}" not in path.read_text("utf-8"):
            continue
        found = set(re.findall(r"^(?:import|from) (\w+)", program(path), re.M))
        assert {names.get(name, name) for name in found} <= there | unrun, path


@pytest.mark.slow
def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    """In short: no notebook is run, the reference has names alone. `scripts/docs` builds all."""
    for needed in ("sphinx", "myst_nb", "numpydoc", "furo", "sphinx_copybutton", "latex2mathml"):
        pytest.importorskip(needed)
    short = ["-t", "short", "-D", "nb_execution_mode=off", "-D", "suppress_warnings=myst-nb.lexer"]
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", *short, "-b", "html"]
    built = subprocess.run(
        [*command, str(DOCS), str(tmp_path)], capture_output=True, text=True, timeout=300,
        env=environment(),
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    for path in PAGES:
        assert (tmp_path / f"{_name(path)}.html").stat().st_size > 1000, path


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
