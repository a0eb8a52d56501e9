"""The device that turns a constructor's call into its `Spec`, and names who refuses.

A constructor declares the constraints of its parameters and returns plain functions. At each call,
`declared` checks the arguments, calls the constructor with them, and completes what it returns: with
the `Spec` of the call, and with the constructor's name in every refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, wraps
from inspect import BoundArguments, Parameter, Signature, signature
from types import FunctionType
from typing import Any

import numpy as np

from funcnn.checks.options import Constraint, Layers, Number, Optional, When, beyond, refuse_beyond
from funcnn.checks.refusals import Refusal, refuse, refuse_type, shown
from funcnn.types import Layer, P, R, Spec, Trait, no_statistics

DEEPEST = 64  # layers inside each other: each takes a few of Python's 1,000 frames
_DECLARATIONS = "__funcnn_declaration__"
_BARE = "__funcnn_bare__"


def declared(*traits: Trait, **constraints: Constraint) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare the constraints of a constructor's parameters, each by its name, and its traits.

    The constructor returns a `Layer`, `Loss` or `Optimizer` without a spec; a trait that depends on
    options, it gives itself: ``Layer(init, apply, vjp, Spec(traits=...))``. In the `Spec`, parameters
    without a default become arguments, layers become children, and all others, those behind layers too,
    options. A schedule has no `Spec`: it prints its call.
    """

    def finish(made: R, found: Mapping[str, Any]) -> R:
        return _holding(made, _held(found, constraints))

    return declaring(finish, traits, constraints)


def declaring(
    finish: Callable[[R, Mapping[str, Any]], R],
    traits: tuple[Trait, ...],
    constraints: Mapping[str, Constraint],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """As `declared`; what a constructor makes also goes through ``finish(made, arguments)``.

    Here is what becomes of options that float32 does not hold: a layer refuses float32 if they may
    come out; a loss or an optimizer computes in float64.
    """

    def declare(constructor: Callable[P, R]) -> Callable[P, R]:
        who = constructor.__name__

        @wraps(constructor)
        def construct(*args: Any, **given: Any) -> Any:
            try:
                bound = _bind(constructor, args, given)
                found = bound.arguments
                for name, value in found.items():
                    found[name] = constraints[name].check(name, value)
                _refuse_idle(constructor, found, constraints)
                made: Any = finish(constructor(*bound.args, **bound.kwargs), found)
            except Refusal as refusal:
                raise refusal.by(who)
            spec = _spec(construct, constructor, found, constraints)
            if hasattr(made, "shown"):
                return made._replace(shown=made.shown or repr(spec))
            own: Spec = made.spec
            spec = spec._replace(
                children=own.children or spec.children, traits=own.traits | frozenset(traits)
            )
            if _depth(spec) > DEEPEST:
                refuse(f"layers must be nested at most {DEEPEST} deep, got {_depth(spec)}", who)
            guarded = {
                field: _guarded(part, who)
                for field, part in _parts(made)
                if isinstance(part, FunctionType)
                and not (field == "remake" or part is no_statistics or hasattr(part, _BARE))
            }
            if isinstance(made, Layer) and not made.children:
                inside = [layer for layer in found.values() if isinstance(layer, Layer)]
                made = made._replace(children=tuple(("", layer) for layer in inside))
            return made._replace(spec=spec, **guarded)

        setattr(construct, _DECLARATIONS, constraints)
        return construct

    return declare


def _refuse_idle(
    constructor: Callable[..., Any], found: Mapping[str, Any], constraints: Mapping[str, Constraint]
) -> None:
    """Refuse options that would do nothing beside the others."""
    for name, constraint in constraints.items():
        if isinstance(constraint, When) and constraint.idle(found[constraint.other]):
            given, beside = found[name], found[constraint.other]
            default = _signature(constructor).parameters[name].default
            if given != default:
                where = f"for {constraint.other} {shown(beside)}"
                refuse(f"`{name}` must be {shown(default)} {where}, got {shown(given)}")


def _held(found: Mapping[str, Any], constraints: Mapping[str, Constraint]) -> dict[str, Any]:
    """The options that may come out and are large."""
    held = {}
    for name, constraint in constraints.items():
        inner = constraint.inner if isinstance(constraint, (When, Optional)) else constraint
        if isinstance(inner, Number) and inner.held and abs(found[name] or 0) > 2:
            held[name] = found[name]
    return held


def _holding(made: R, options: Mapping[str, Any]) -> R:
    """The same layer, which refuses float32 arrays if options are too large for them."""
    if not beyond(options, np.float32):
        return made
    whole: Any = made
    apply = whole.apply

    def held(params: Any, x: Any, **given: Any) -> Any:
        inputs = x if isinstance(x, tuple) else (x,)
        if np.float32 in (getattr(each, "dtype", None) for each in inputs):
            refuse_beyond(options, np.float32)
        return apply(params, x, **given)

    return whole._replace(apply=held)  # type: ignore[no-any-return]


def _depth(spec: Spec) -> int:
    """How many layers are inside each other."""
    depth, level = 0, [spec]
    while level:
        depth += 1
        level = list({id(child): child for one in level for child in one.children}.values())
    return depth


def declaration(constructor: object) -> Mapping[str, Constraint]:
    """The constraints that a constructor was declared with; none if it was not."""
    return getattr(constructor, _DECLARATIONS, {})


def named(function: Callable[P, R], who: str = "") -> Callable[P, R]:
    """The same function, whose refusals say that it refuses, or `who` does."""
    name = who or function.__name__

    @wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> R:
        try:
            return function(*args, **given)
        except Refusal as refusal:
            raise refusal.by(name)
        except (OverflowError, ValueError) as problem:
            _refuse_too_large(problem, name)
            raise

    setattr(call, _BARE, function)
    return call


def takes(**constraints: Constraint) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """As `named`, of a function whose arguments are also checked, each by its constraint."""

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def checked(*args: Any, **given: Any) -> R:
            bound = _bind(function, args, given)
            for name, constraint in constraints.items():
                bound.arguments[name] = constraint.check(name, bound.arguments[name])
            return function(*bound.args, **bound.kwargs)

        return named(checked)

    return declare


_TOO_LARGE = (  # what Python and NumPy say of arrays that no machine can have
    "array is too big",
    "Maximum allowed dimension exceeded",
    "iterator is too large",
    "int too large to convert",
    "cannot fit 'int' into an index-sized integer",
)


def _refuse_too_large(problem: Exception, who: str) -> None:
    """Refuse sizes that are beyond any memory, if it is this that went wrong."""
    if any(text in str(problem) for text in _TOO_LARGE):
        refuse(f"sizes must be small enough for an array: {problem}", who)


def _guarded(function: Callable[P, R], who: str) -> Callable[P, R]:
    """A part of a layer or loss: its refusals name it, and NumPy does not warn of what is infinite."""
    quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")(function)  # in half the time

    @wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> R:
        try:
            return quiet(*args, **given)
        except Refusal as refusal:
            raise refusal.by(who)
        except (OverflowError, ValueError) as problem:
            _refuse_too_large(problem, who)
            raise

    setattr(call, _BARE, function)
    return call


def bare(layer: R) -> R:
    """A layer whose refusals name nobody, for a combinator that names its children itself."""
    whole: Any = layer
    plain = {field: getattr(part, _BARE) for field, part in _parts(whole) if hasattr(part, _BARE)}
    return whole._replace(**plain)  # type: ignore[no-any-return]


def _parts(made: Any) -> list[tuple[str, Any]]:
    """The functions and data of a layer, loss or optimizer, by their names."""
    return [(field, getattr(made, field)) for field in made.__match_args__]


@cache
def _signature(constructor: Callable[..., Any]) -> Signature:
    return signature(constructor)


def _bind(constructor: Callable[..., Any], args: Any, given: Any) -> BoundArguments:
    """Each parameter's value."""
    try:
        bound = _signature(constructor).bind(*args, **given)
    except TypeError as error:
        refuse_type(f"the arguments must fit {constructor.__name__}(...): {error}")
    bound.apply_defaults()
    return bound


def _spec(
    construct: Callable[..., Any],
    constructor: Callable[..., Any],
    found: Mapping[str, Any],
    constraints: Mapping[str, Constraint],
) -> Spec:
    """The call as data."""
    args: list[Any] = []
    options: dict[str, Any] = {}
    children: list[Spec] = []
    for name, parameter in _signature(constructor).parameters.items():
        value = found[name]
        several = parameter.kind is Parameter.VAR_POSITIONAL
        if isinstance(constraints[name], Layers):
            children += [layer.spec for layer in (value if several else (value,))]
        elif several:
            args += value
        elif isinstance(getattr(constraints[name], "inner", None), Layers):
            pass  # an option that is a layer: the constructor counts it among its children
        elif parameter.default is Parameter.empty and not children:
            args.append(value)
        else:
            options[name] = value
    return Spec(construct, tuple(args), options, tuple(children))
