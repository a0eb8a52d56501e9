"""The registry is complete: every public constructor has its cases, every option has been set."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from funcnn import combinators, initializers, layers, losses
from tests import registry

_LAYER = ("Layer[", "Preserving")


def _rooms() -> Iterator[tuple[ModuleType, str | tuple[str, ...]]]:
    """Modules that make things which laws hold for, and what they return."""
    for info in pkgutil.iter_modules(layers.__path__):
        yield import_module(f"funcnn.layers.{info.name}"), _LAYER
    yield combinators, _LAYER
    yield losses, "Loss"
    yield initializers, "Initializer"


def _constructors() -> list[Any]:
    found = []
    for module, returned in _rooms():
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) and str(inspect.signature(value).return_annotation).startswith(
                returned
            ):
                found.append(pytest.param(value, id=f"{module.__name__}.{name}"))
    return found


def _built() -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every constructor call in the registry, with the arguments by name."""
    wholes = [case.layer.spec for case in registry.layers()]
    wholes += [case.loss.spec for case in registry.losses()]
    for whole in wholes:
        for spec in registry.specs(whole):
            given = (*spec.args, *spec.children)
            bound = inspect.signature(spec.build).bind(*given, **spec.options)
            bound.apply_defaults()
            by_name = {child.name: child for child in spec.children if child.name in bound.arguments}
            yield spec.build, bound.arguments | by_name


CALLS = list(_built())


@pytest.mark.parametrize("build", _constructors())
def test_every_constructor_has_cases(build: Any) -> None:
    if build.__module__.startswith(initializers.__name__):
        shown = [repr(case.initializer).partition("(")[0] for case in registry.initializers()]
        assert build.__name__ in shown
        return
    calls = [arguments for made, arguments in CALLS if made is build]
    assert calls, f"add a case of {build.__name__} to tests/cases"
    for name, parameter in inspect.signature(build).parameters.items():
        values = {repr(arguments[name]) for arguments in calls}
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        assert values - {repr(parameter.default)}, f"no case sets {name} of {build.__name__}"
