"""The checks as they were called before `funcnn.checks`, with the name of who refuses in front."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, NoReturn, ParamSpec, TypeVar

from funcnn import checks
from funcnn.checks import Refusal, RefusedType, RefusedValue, shown
from funcnn.types import Array

__all__ = ["Refusal", "RefusedType", "RefusedValue", "shown"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def _said_by(check: Callable[P, R]) -> Callable[Concatenate[str, P], R]:
    def call(who: str, /, *args: P.args, **given: P.kwargs) -> R:
        try:
            return check(*args, **given)
        except Refusal as refusal:
            raise refusal.by(who)

    return call


def refuse(who: str, text: str) -> NoReturn:
    checks.refuse(text, who)


def refuse_type(who: str, text: str) -> NoReturn:
    checks.refuse_type(text, who)


def _integer(name: str, value: object, minimum: int | None = None) -> int:
    return checks.Integer(minimum).check(name, value)


def _integers(name: str, value: object, count: int, minimum: int = 0) -> tuple[int, ...]:
    return checks.Integers(count, minimum).check(name, value)


def _number(name: str, value: object, **bounds: float | None) -> float:
    return checks.Number(**bounds).check(name, value)


def _choice(name: str, value: object, options: tuple[str, ...]) -> str:
    return checks.Choice(*options).check(name, value)


def _boolean(name: str, value: object) -> bool:
    return checks.Flag().check(name, value)


def instance(who: str, name: str, value: object, kind: type[T], words: str) -> T:
    found: T = _said_by(checks.Instance(kind, words).check)(who, name, value)
    return found


integer, integers, number = _said_by(_integer), _said_by(_integers), _said_by(_number)
choice, boolean = _said_by(_choice), _said_by(_boolean)
key, shape, any_shape, sizes = (
    _said_by(checks.key),
    _said_by(checks.shape),
    _said_by(checks.any_shape),
    _said_by(checks.sizes),
)
float_dtype, integer_dtype = _said_by(checks.float_dtype), _said_by(checks.integer_dtype)
together, exact_shape = _said_by(checks.together), _said_by(checks.exact_shape)
floating, ranked = _said_by(checks.floating), _said_by(checks.ranked)


def _array(x: object, name: str = "x") -> Array:
    return checks.array(x, name)


array = _said_by(_array)
any_ranked, sized = _said_by(checks.any_ranked), _said_by(checks.sized)
same_dtype, labels = _said_by(checks.same_dtype), _said_by(checks.labels)
leaves, children = _said_by(checks.leaves), _said_by(checks.children)
gradient, kept = _said_by(checks.gradient), _said_by(checks.kept)
feature_axis = _said_by(checks.feature_axis)
