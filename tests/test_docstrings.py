"""Every public function explains itself: numpydoc, with an example that runs."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import funcnn
from tests.extras import missing_of


def _modules() -> Iterator[str]:
    """All that can be imported here: the header of the test run says which extras are missing."""
    yield "funcnn"
    for info in pkgutil.walk_packages(funcnn.__path__, "funcnn."):
        if not missing_of(info.name):
            yield info.name


def _public() -> Iterator[Any]:
    """What the modules define themselves and list in `__all__`, plus the package's own names."""
    for name in _modules():
        module = import_module(name)
        for public in getattr(module, "__all__", ()):
            value = getattr(module, public, None)  # what is missing fails below
            if getattr(value, "__module__", None) == name and (
                inspect.isfunction(value) or inspect.isclass(value)
            ):
                yield pytest.param(value, id=f"{name}.{public}")


def _sections(value: Any) -> set[str]:
    return set(re.findall(r"^([A-Z][a-z]+(?: Also)?)\n-{4,}$", inspect.getdoc(value) or "", re.M))


def _is_protocol(value: Any) -> bool:
    return bool(getattr(value, "_is_protocol", False))


@pytest.mark.parametrize("value", list(_public()))
def test_public_names_have_a_numpydoc_docstring(value: Any) -> None:
    doc = inspect.getdoc(value) or ""
    first, _, rest = doc.partition("\n")
    assert first, "no docstring"
    assert first.endswith((".", ":")), "the first line must be a sentence"
    assert not rest or rest.startswith("\n"), "a blank line must follow the first"
    if _is_protocol(value):
        return
    found = _sections(value)
    assert "Examples" in found
    assert ">>> " in doc.partition("Examples\n")[2], "the example must be a doctest"
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        if signature.parameters:
            assert "Parameters" in found
            listed = doc.partition("Parameters\n")[2]
            for name in signature.parameters:
                assert re.search(rf"^(\w+, )*\*?\*?{name}(, \*?\w+)*( :|$)", listed, re.M), (
                    f"`{name}` is not explained"
                )
        returned = signature.return_annotation
        if returned not in (None, "None", "NoReturn", inspect.Signature.empty):
            assert found & {"Returns", "Yields"}


def test_every_name_in_all_exists() -> None:
    for module in map(import_module, _modules()):
        public = list(getattr(module, "__all__", ()))
        assert len(public) == len(set(public))
        for name in public:
            assert hasattr(module, name), f"{module.__name__}.__all__ lists {name}"
