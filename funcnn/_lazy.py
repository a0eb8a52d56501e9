"""Packages whose names are imported when first asked for, so that a program pays for what it uses."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any


def lazily(package: str) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__all__``, ``__getattr__`` and ``__dir__`` of a package.

    Its names and their homes stand in its stub ``__init__.pyi``, which type checkers read as well:
    ``from funcnn.layers.linear import dense as dense``, or ``import *`` for a module's ``__all__``,
    or, where it has none, for what it defines without a leading underscore.
    """
    homes = dict(_names_of_stub(package, package))

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == package:
            return import_module(f"{package}.{name}")  # which makes it an attribute, too
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return sorted(homes), find, lambda: sorted({*vars(sys.modules[package]), *homes})


def _names_of_stub(package: str, module: str) -> Iterator[tuple[str, str]]:
    """Each name in the stub of a package at or below another, and its home."""
    for statement in ast.parse(_source(package, module, "/__init__.pyi")).body:
        if isinstance(statement, ast.ImportFrom):
            home = str(statement.module)
            for name in statement.names:
                yield from [(name.name, home)] if name.name != "*" else _all_of(package, home)


def _all_of(package: str, module: str) -> Iterator[tuple[str, str]]:
    """The public names of a module that is not imported yet."""
    try:
        source = _source(package, module, ".py").decode()
    except OSError:  # a package, with a stub of its own
        yield from _names_of_stub(package, module)
        return
    listed = re.search(r"__all__ = \[([^]]*)", source)
    defined = r"^(?:def |class )?([A-Za-z]\w+)(?=[(:]| =)"  # one letter: a type variable
    for name in re.findall(r'"(\w+)"', listed[1]) if listed else re.findall(defined, source, re.M):
        yield name, module


def _source(package: str, module: str, ending: str) -> bytes:
    """The text of a file at or below a package, from wherever it was loaded: a folder or an archive."""
    spec: Any = sys.modules[package].__spec__
    below = module.removeprefix(package).replace(".", "/")
    text: bytes = spec.loader.get_data(spec.origin.removesuffix("/__init__.py") + below + ending)
    return text


def renamed(old: str, new: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that has another name now."""

    def find(name: str) -> Any:
        found = None if name.startswith("_") else getattr(import_module(new), name, None)
        if found is None:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        warnings.warn(f"{old} is {new} now", DeprecationWarning, stacklevel=2)
        return found

    return find
