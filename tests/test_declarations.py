"""What constructors declare: every option of every constructor refuses what its constraint refuses."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from funcnn import checks, dense, random, serial
from funcnn.checks import Choice, Either, Flag, Integer, Integers, Number, Optional, Refusal, declared
from funcnn.testing import check_layer
from funcnn.types import Array, Cache, Key, Params, Preserving, Shape, Spec, rebuild
from tests import registry


class Declared(NamedTuple):
    """A constructor with a call that works."""

    spec: Spec

    @property
    def id(self) -> str:
        """The call."""
        return repr(self.spec)


def _declared() -> Iterator[Declared]:
    """One call of every declared constructor that a case of the registry makes."""
    seen = set()
    cases = [*registry.layers()], [*registry.losses()]
    for spec in [case.layer.spec for case in cases[0]] + [case.loss.spec for case in cases[1]]:
        for inner in registry.specs(spec):
            if checks.declaration(inner.build) and inner.build not in seen:
                seen.add(inner.build)
                yield Declared(inner)


DECLARED = tuple(_declared())


def _call(spec: Spec, changed: str, value: object) -> Any:
    """The same call with one argument changed."""
    parameters = inspect.signature(spec.build).parameters
    call = inspect.signature(spec.build).bind(*spec.args, *map(rebuild, spec.children), **spec.options)
    call.apply_defaults()
    if parameters[changed].kind is inspect.Parameter.VAR_POSITIONAL:
        value = (value,)
    call.arguments[changed] = value
    return spec.build(*call.args, **call.kwargs)


@pytest.mark.parametrize("case", DECLARED, ids=[case.id for case in DECLARED])
def test_every_wrong_option_is_refused(case: Declared) -> None:
    spec = case.spec
    constraints = checks.declaration(spec.build)
    assert constraints.keys() == inspect.signature(spec.build).parameters.keys()
    for name, constraint in constraints.items():
        for value in constraint.wrong():
            with pytest.raises((ValueError, TypeError)) as caught:
                _call(spec, name, value)
            text = str(caught.value)
            assert isinstance(caught.value, Refusal), f"{name}={value!r}: {text}"
            assert text.startswith(f"{spec.kind}: "), text
            assert f"`{name}`" in text or "every child" in text, text
            assert len(text) < 300, text
            assert "\n" not in text, text


HUGE: tuple[Any, ...] = (
    "word" * 10_000, "line\n" * 10_000, b"bytes" * 10_000, 10**5000, -(10**5000), np.zeros((4, 50)),
    np.zeros((1,) * 40), [0.5] * 10_000, (0.5,) * 10_000, (1,) * 10_000, ((1, 2),) * 1000,
    {"a" * 999: 1}, complex(1e300, 1e300), object, np.float64, len,
)  # fmt: skip


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = (value,)
    return value


@pytest.mark.parametrize("case", DECLARED, ids=[case.id for case in DECLARED])
def test_refusals_of_huge_options_are_one_short_line(case: Declared) -> None:
    """And what is accepted prints, and gives the shape of an output or refuses shortly."""
    for name in checks.declaration(case.spec.build):
        for value in (*HUGE, _nested(500)):
            text = ""
            try:
                made = _call(case.spec, name, value)
                if hasattr(made, "init"):
                    made.init(random.NO_DRAW, (2, 3))
            except Refusal as error:
                text = str(error)
            assert len(text) < 300, text
            assert "\n" not in text, text


@declared("monotone", factor=Number(above=0), times=Integer(1), flip=Flag(), how=Choice("a", "b"))
def scaled(factor: float, *, times: int = 1, flip: bool = False, how: str = "a") -> Preserving:
    """Multiply, as a user's own layer would."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return checks.any_shape(shape), {}

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Cache]:
        checks.leaves(params, {})
        return checks.any_ranked(x) * x.dtype.type(factor), {"shape": x.shape, "dtype": x.dtype}

    def vjp(cache: Cache, dout: Array) -> tuple[Params, Array]:
        checks.gradient(dout, cache["shape"], cache["dtype"])
        return {}, dout * dout.dtype.type(factor)

    return Preserving(init, apply, vjp)


def test_a_call_becomes_a_spec() -> None:
    layer = scaled(np.float32(2.0), how="b")  # type: ignore[arg-type]
    assert repr(layer) == "scaled(2.0, how='b')"
    assert layer.spec.build is scaled
    assert layer.spec.traits == {"monotone"}
    assert type(layer.spec.args[0]) is float
    assert repr(pickle.loads(pickle.dumps(layer))) == repr(layer)
    assert rebuild(layer.spec).spec == layer.spec


def test_a_declared_layer_keeps_every_law() -> None:
    check_layer(scaled(2.0), (3, 4))


def test_who_refuses_is_named_alone_and_by_its_path_in_a_network() -> None:
    x: Any = [[1.0]]
    for network, start in ((scaled(2.0), "scaled: "), (serial(scaled(2.0)), "scaled1: ")):
        with pytest.raises(TypeError) as caught:
            network.apply({}, x)
        assert str(caught.value) == start + "`x` must be a NumPy array, got list"


def test_a_wrong_call_names_the_constructor() -> None:
    wrong: Any = scaled
    calls: tuple[tuple[Any, Any], ...] = (((), {}), ((1.0, 2), {}), ((1.0,), {"z": 3}))
    for args, options in calls:
        with pytest.raises(TypeError, match=r"^scaled: the arguments must fit scaled\(\.\.\.\): "):
            wrong(*args, **options)


def test_signatures_are_those_of_the_constructors() -> None:
    names = ["out_features", "bias", "weight_init", "bias_init"]
    assert list(inspect.signature(dense).parameters) == names
    assert dense(3).init(random.key(0), (1, 2))[0] == (1, 3)


@pytest.mark.parametrize(
    ("constraint", "given", "kept"),
    [
        (Integer(0), np.int8(3), 3),
        (Integers(2), 4, (4, 4)),
        (Integers(2), (np.int64(1), 2), (1, 2)),
        (Number(minimum=0), np.float32(0.5), 0.5),
        (Number(), 3, 3.0),
        (Flag(), np.True_, True),
        (Optional(Integer()), None, None),
        (Either(Choice("same"), Integers(1)), "same", "same"),
        (Either(Choice("same"), Integers(1)), 2, (2,)),
    ],
)
def test_what_is_kept(constraint: Any, given: Any, kept: Any) -> None:
    found = constraint.check("x", given)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    "constraint",
    [
        Integer(),
        Integer(1),
        Integers(2, 1),
        Number(above=0, below=1),
        Number(-1, maximum=1),
        Flag(),
        Choice("a"),
        Optional(Flag()),
        Either(Choice("a"), Integers(2)),
    ],
)
def test_wrong_values_are_wrong(constraint: Any) -> None:
    assert constraint.wrong()
    for value in constraint.wrong():
        with pytest.raises((ValueError, TypeError), match=r"^`x` must be"):
            constraint.check("x", value)
