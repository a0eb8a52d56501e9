"""Every option either acts or is refused: none is taken in silence."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from funcnn import checks, initializers
from funcnn.checks import (
    Choice,
    Constraint,
    Either,
    Flag,
    Instance,
    Integer,
    Integers,
    Number,
    Optional,
    Refusal,
    Several,
    Sizes,
    When,
    declared,
)
from funcnn.parameterless import elementwise
from funcnn.testing import Subject, _values
from funcnn.types import Array, Layer, Preserving, Spec, rebuild
from tests import registry
from tests.registry import Case


def _others(constraint: Constraint, value: Any) -> Iterator[Any]:
    """Some more values that a constraint lets through."""
    match constraint:
        case Flag():
            yield not value
        case Choice():
            yield from (word for word in constraint.words if word != value)
        case Integer():
            yield from (value + 1, value - 1) if isinstance(value, int) else (1, 2, 3)
        case Number():
            yield from (value / 2, value + 0.25, value - 0.25) if isinstance(value, float) else (0.25,)
        case Integers() | Sizes():
            one = 1 if value is None else value
            several = one if isinstance(one, tuple) else (one,) * constraint.axes
            yield tuple(n + 1 for n in several)
            yield tuple(n - 1 for n in several)
        case Several():
            for place, part in enumerate(value if isinstance(value, tuple) else ()):
                for other in _others(constraint.inner, part):
                    yield (*value[:place], other, *value[place + 1 :])
            if not isinstance(value, tuple):
                yield from _others(constraint.inner, value)
        case When():
            yield from _others(constraint.inner, value)
        case Optional():
            yield from (None,) if value is not None else ()
            yield from _others(constraint.inner, value)
        case Either():
            yield from _others(constraint.words, value)
            yield from () if isinstance(value, str) else _others(constraint.other, value)
        case Instance() if constraint.kind is initializers.Initializer:
            yield initializers.constant(0.375)


def _call(spec: Spec) -> dict[str, Any]:
    signature = inspect.signature(spec.build)
    call = signature.bind(*spec.args, *map(rebuild, spec.children), **spec.options)
    call.apply_defaults()
    return dict(call.arguments)


def _built(spec: Spec, arguments: dict[str, Any]) -> Layer[Any, Any]:
    call = inspect.signature(spec.build).bind_partial()
    call.arguments = arguments
    made: Layer[Any, Any] = spec.build(*call.args, **call.kwargs)
    return made


def _behaviour(layer: Layer[Any, Any], case: Case) -> list[Any]:
    """All that one can see of a layer."""
    subject = Subject(layer, case.shape, x=case.x, stopped=case.stopped)
    runs = [subject.run(mode) for mode in subject.modes]
    leaves = [leaf for part in (subject.started, *runs) for _, leaf in _values.leaves(part)]
    return [(a.shape, a.tobytes()) if isinstance(a, np.ndarray) else repr(a) for a in leaves]


def _idle(build: Any, cases: list[Case]) -> list[str]:
    """Options that make no difference beside some word or flag, whatever else they stand beside."""
    declared = checks.declaration(build)
    inner = {name: kind.inner if isinstance(kind, When) else kind for name, kind in declared.items()}
    words = [name for name, kind in inner.items() if isinstance(kind, (Flag, Choice))]
    acting: dict[str, bool] = {}
    for case in cases:
        arguments, before = _call(case.layer.spec), _behaviour(case.layer, case)
        for name, constraint in declared.items():
            for value in _others(constraint, arguments[name]):
                if repr(value) == repr(arguments[name]):
                    continue
                try:
                    acts = (
                        _behaviour(_built(case.layer.spec, arguments | {name: value}), case) != before
                    )
                except Refusal:
                    acts = True
                for beside in (
                    "",
                    *(f" beside {word}={arguments[word]}" for word in words if word != name),
                ):
                    acting[name + beside] = acting.get(name + beside, False) or acts
    return [option for option, acts in acting.items() if not acts]


CASES: dict[Any, list[Case]] = {}
for _case in registry.layers():
    if checks.declaration(_case.layer.spec.build):
        CASES.setdefault(_case.layer.spec.build, []).append(_case)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("build", CASES, ids=lambda build: str(build.__name__))
def test_every_option_acts_or_is_refused(build: Any) -> None:
    assert _idle(build, CASES[build]) == []


@declared(how=Choice("times", "plus"), factor=Number(), shift=When(Number(), "how", "plus"))
def moved(how: str, factor: float = 2.0, shift: float = 1.0) -> Preserving:
    """Multiply or add: `factor` does nothing beside ``how="plus"``, and does not say so."""

    def value(x: Array) -> Any:
        return factor * x if how == "times" else x + shift

    return elementwise(value, lambda x: np.full_like(x, factor if how == "times" else 1))


def test_an_idle_option_is_caught() -> None:
    assert _idle(moved, [Case(moved("times"), (2, 3)), Case(moved("plus"), (2, 3))]) == [
        "factor beside how=plus"
    ]
    with pytest.raises(ValueError, match=r"^moved: `shift` must be 1.0 for how 'times', got 3.0$"):
        moved("times", shift=3.0)
