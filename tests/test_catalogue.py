"""The catalogue is complete, and says nothing of what does not exist."""

from __future__ import annotations

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import funcnn
from funcnn import (
    combinators,
    initializers,
    layers,
    losses,
    models,
    optimizers,
    schedules,
)

PAGE = (Path(__file__).parent.parent / "docs/catalogue.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| funcnn", "| **"))
]
FAMILIES = [
    import_module(f"funcnn.layers.{info.name}") for info in pkgutil.iter_modules(layers.__path__)
]
AT_THE_TOP = (*FAMILIES, combinators, losses)
BY_MODULE = (models, optimizers, schedules, initializers)
NO_CONSTRUCTORS = {"frozen_paths", "statistics"}  # they look at what others have made


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _functions(module: Any) -> list[str]:
    return [name for name in module.__all__ if inspect.isfunction(getattr(module, name))]


def _expected() -> set[str]:
    """Every public constructor, as the table writes it."""
    top = {name for module in AT_THE_TOP for name in _functions(module)} - NO_CONSTRUCTORS
    below = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in BY_MODULE
        for name in _functions(module)
    }
    return top | below


def _found(root: Any, name: str) -> bool:
    """Whether a dotted name leads anywhere, modules included that nobody has imported."""
    here = root
    for part in name.split("."):
        if not hasattr(here, part):
            try:
                import_module(f"{here.__name__}.{part}")
            except (ImportError, AttributeError):
                return False
        here = getattr(here, part)
    return True


def test_every_constructor_is_listed_once_and_exists() -> None:
    listed = [name for row in ROWS for name in _names(row[0])]
    assert sorted(listed) == sorted(_expected())
    for name in listed:
        assert _found(funcnn, name), name


def test_every_row_names_what_it_is_elsewhere() -> None:
    for row in ROWS:
        ours, torch, jax = row
        for cell in (torch, jax):
            assert _names(cell) or cell == "-", f"{ours}: a name or '-'"
            parts = cell.split(", ")
            if "-" in parts and len(parts) > 1:  # then one stands for each of ours, in order
                assert len(parts) == len(_names(ours)), f"{ours}: {cell}"


def test_names_in_pytorch_exist() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    named = [name for row in ROWS for name in _names(row[1])]
    assert len(named) > 100
    assert [name for name in named if not _found(torch, name)] == []


@pytest.mark.parametrize(
    ("prefix", "module", "least"), [("stax", "jax.example_libraries.stax", 20), ("optax", "optax", 40)]
)
def test_names_in_stax_and_optax_exist(prefix: str, module: str, least: int) -> None:
    library = pytest.importorskip(module, reason=f"{prefix} is not installed")
    named = [name.split(".", 1) for row in ROWS for name in _names(row[2])]
    assert {start for start, _ in named} == {"stax", "optax"}
    own = [name for start, name in named if start == prefix]
    assert len(own) >= least
    assert [name for name in own if not _found(library, name)] == []
