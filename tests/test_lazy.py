"""Packages that import their names late: the same names for programs and for type checkers."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAZY = [
    ".".join(path.relative_to(ROOT).parent.parts)
    for path in sorted((ROOT / "funcnn").rglob("__init__.py"))
    if "lazily(" in path.read_text()
]


def test_some_packages_are_lazy() -> None:
    assert {"funcnn", "funcnn.training", "funcnn.optimizers"} <= set(LAZY)


@pytest.mark.parametrize("package", LAZY)
def test_names_are_found_where_the_type_checker_finds_them(package: str) -> None:
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    module = import_module(package)
    seen = set()
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            seen.add(alias.name)
            found = getattr(module, alias.name)
            if node.module == package:
                assert found is import_module(f"{package}.{alias.name}")
            else:
                assert node.module is not None
                assert found is getattr(import_module(node.module), alias.name)
    assert seen == set(module.__all__)
    assert seen <= set(dir(module))


@pytest.mark.parametrize("package", LAZY)
def test_unknown_names_are_refused_as_python_does(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        import_module(package).nonsense  # noqa: B018
