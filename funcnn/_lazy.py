"""Packages whose names are imported when first asked for, so that a program pays for what it uses."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazily(package: str) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__all__``, ``__getattr__`` and ``__dir__`` of a package.

    Its names and their homes stand in one place, its stub ``__init__.pyi``, which type checkers read as
    well: ``from funcnn.layers.linear import dense as dense``.
    """
    spec: Any = sys.modules[package].__spec__
    stub = spec.loader.get_data(f"{spec.origin}i")  # also from inside a zip archive
    homes = {
        name.name: str(statement.module)
        for statement in ast.parse(stub).body
        if isinstance(statement, ast.ImportFrom)
        for name in statement.names
    }

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == package:
            return import_module(f"{package}.{name}")  # which makes it an attribute, too
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return sorted(homes), find, lambda: sorted({*vars(sys.modules[package]), *homes})
