"""Packages that import their names late refuse what is not theirs as Python does."""

from __future__ import annotations

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
def test_unknown_names_are_refused_as_python_does(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        import_module(package).nonsense  # noqa: B018
