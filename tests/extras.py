"""Modules, of the library and of its tests, that a missing extra makes impossible to import."""

from __future__ import annotations

import ast
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "funcnn"


@cache
def missing(path: Path) -> str | None:
    """The library that is not installed and that a file imports at once, itself or through another."""
    waiting, seen = [path], set()
    while waiting:
        here = waiting.pop()
        if here not in seen and here.is_file():
            seen.add(here)
            waiting += [folder / "__init__.py" for folder in here.parents if PACKAGE in folder.parents]
            for name in _imported(here):
                top = name.partition(".")[0]
                if top in (PACKAGE.name, "tests"):
                    own = PACKAGE.parent.joinpath(*name.split("."))
                    waiting += [own.with_suffix(".py"), own / "__init__.py"]
                elif top not in sys.stdlib_module_names and find_spec(top) is None:
                    return top
    return None


def missing_of(module: str) -> str | None:
    """The same of a module, or of a package, by its name."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return missing(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


@cache
def _imported(path: Path) -> tuple[str, ...]:
    waiting: list[ast.stmt] = list(ast.parse(path.read_text()).body)
    found: list[str] = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Try):
            waiting += node.body
        elif isinstance(node, ast.Import):
            found += (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.append(str(node.module))
    return tuple(found)
