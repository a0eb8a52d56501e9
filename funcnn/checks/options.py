"""Constraints on options, as data: each checks a value, and names values that it refuses.

`Constraint.check` gives back the value as the library keeps it: NumPy's numbers become Python's.
`Constraint.wrong` lists values that must be refused, from which tests of every constructor follow.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from inspect import signature
from types import FunctionType
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np

from funcnn.checks.refusals import refuse, refuse_type, shown
from funcnn.types import Layer, Loss


class Constraint(Protocol):
    """What a value must be."""

    def check(self, name: str, value: Any, /) -> Any:
        """The value as it is kept; a refusal of anything else."""
        ...

    def wrong(self) -> tuple[object, ...]:
        """Some values that are refused."""
        ...


class Integer(NamedTuple):
    """An int (never a bool), at least `minimum`."""

    minimum: int | None = None

    def check(self, name: str, value: Any, /) -> int:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            refuse_type(f"`{name}` must be an int, got {shown(value)}")
        if self.minimum is not None and value < self.minimum:
            refuse(f"`{name}` must be at least {self.minimum}, got {shown(value)}")
        if not -(2**63) <= value < 2**63:
            refuse(f"`{name}` must be an int that int64 holds, got {shown(value)}")
        return int(value)

    def wrong(self) -> tuple[object, ...]:
        low = () if self.minimum is None else (self.minimum - 1, np.int64(self.minimum - 1))
        return (1.5, True, "3", None, np.ones(2), 10**400, *low)


class Integers(NamedTuple):
    """One int for each of `axes` axes; a single int stands for all of them."""

    axes: int
    minimum: int = 0

    def check(self, name: str, value: Any, /) -> tuple[int, ...]:
        if isinstance(value, list):  # a spec that holds it would change with it
            text = f"`{name}` must be an int or a tuple of {self.axes}, got {shown(value)}"
            refuse_type(f"{text}: write {shown(tuple(value))}")
        one = Integer(self.minimum)
        if not isinstance(value, tuple):
            return (one.check(name, value),) * self.axes
        if len(value) != self.axes:
            refuse(f"`{name}` must be an int or {self.axes} of them, got {shown(value)}")
        return tuple(one.check(name, part) for part in value)

    def wrong(self) -> tuple[object, ...]:
        several = ((2,) * (self.axes + 1), [2] * self.axes, (2.5,) * self.axes)
        return (*Integer(self.minimum).wrong(), *several)


class Sizes(NamedTuple):
    """As `Integers`, but an int for all axes stays one: ``conv(6, 5)`` prints as it was written."""

    axes: int
    minimum: int = 0

    def check(self, name: str, value: Any, /) -> int | tuple[int, ...]:
        found = Integers(self.axes, self.minimum).check(name, value)
        return found if isinstance(value, tuple) else found[0]

    def wrong(self) -> tuple[object, ...]:
        return Integers(self.axes, self.minimum).wrong()


class Sides(NamedTuple):
    """As `Sizes`, where a ``(low, high)`` pair may stand for each axis."""

    axes: int

    def check(self, name: str, value: Any, /) -> Any:
        if not isinstance(value, tuple) or not any(isinstance(part, tuple) for part in value):
            return Sizes(self.axes).check(name, value)
        if len(value) != self.axes:
            refuse(f"`{name}` must have {self.axes} entries, got {shown(value)}")
        return tuple(Sizes(2).check(name, part) for part in value)

    def wrong(self) -> tuple[object, ...]:
        pairs = (((1, 2),) * (self.axes + 1), ((1, 2, 3),) * self.axes, ((1, -1),) * self.axes)
        return (*Sizes(self.axes).wrong(), *pairs)


class Several(NamedTuple):
    """What another constraint says, or a tuple of some such values."""

    inner: Constraint

    def check(self, name: str, value: Any, /) -> Any:
        if not isinstance(value, tuple):
            return self.inner.check(name, value)
        if not value:
            refuse(f"`{name}` must hold at least one value, got ()")
        return tuple(self.inner.check(name, part) for part in value)

    def wrong(self) -> tuple[object, ...]:
        wrong = self.inner.wrong()
        alone = tuple(value for value in wrong if not isinstance(value, tuple))
        return ((), *alone, *((value,) for value in wrong))


class Each(NamedTuple):
    """A tuple, or a list, with at least `least` values, each what another constraint says."""

    inner: Constraint
    words: str = "ints"
    least: int = 0

    def check(self, name: str, value: Any, /) -> tuple[Any, ...]:
        if not isinstance(value, (tuple, list)) or len(value) < self.least:
            refuse_type(f"`{name}` must be a tuple of {self.words}, got {shown(value)}")
        return tuple(self.inner.check(name, part) for part in value)

    def wrong(self) -> tuple[object, ...]:
        few = ((),) if self.least else ()
        return (1, None, "abc", *few, *((value,) for value in self.inner.wrong()))


class Number(NamedTuple):
    """A finite real number within bounds (`above` and `below` are exclusive).

    One that is `held` may come out: where float32 cannot hold it, float32 arrays are refused.
    """

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    held: bool = False

    def check(self, name: str, value: Any, /) -> float:
        if isinstance(value, (bool, np.bool_)) or not isinstance(
            value, (int, float, np.integer, np.floating)
        ):
            refuse_type(f"`{name}` must be a number, got {shown(value)}")
        try:
            real = float(value)
        except OverflowError:
            refuse(f"`{name}` must be finite, got {shown(value)}")
        bounds = (
            (self.minimum, operator.ge, "at least"),
            (self.above, operator.gt, "above"),
            (self.maximum, operator.le, "at most"),
            (self.below, operator.lt, "below"),
        )
        for bound, holds, word in bounds:
            if bound is not None and not holds(real, bound):
                refuse(f"`{name}` must be {word} {bound}, got {shown(value)}")
        if not math.isfinite(real):
            refuse(f"`{name}` must be finite, got {shown(value)}")
        return real

    def wrong(self) -> tuple[object, ...]:
        beyond = {self.above, self.below} - {None}
        beyond |= set() if self.minimum is None else {self.minimum - 1 - abs(self.minimum)}
        beyond |= set() if self.maximum is None else {self.maximum + 1 + abs(self.maximum)}
        return (math.nan, math.inf, -math.inf, True, "0.5", None, np.ones(2), 10**400, *beyond)


class Choice:
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def check(self, name: str, value: Any, /) -> str:
        if not isinstance(value, str) or value not in self.words:
            words = ", ".join(map(repr, self.words))
            refuse(f"`{name}` must be one of {words}, got {shown(value)}")
        return str(value)

    def wrong(self) -> tuple[object, ...]:
        return ("nonsense", "", 1, None, True, self.words[0].upper() + " ")


class Flag(NamedTuple):
    """True or False, nothing that merely looks like it."""

    def check(self, name: str, value: Any, /) -> bool:
        if not isinstance(value, (bool, np.bool_)):
            refuse_type(f"`{name}` must be True or False, got {shown(value)}")
        return bool(value)

    def wrong(self) -> tuple[object, ...]:
        return (1, 0, "yes", None, np.ones(2))


class Instance(NamedTuple):
    """A thing of some kind, described by `words`, and not the function that makes one."""

    kind: type | tuple[type, ...]
    words: str

    def check(self, name: str, value: Any, /) -> Any:
        if not isinstance(value, self.kind):
            refuse_type(f"`{name}` must be {self.words}, got {shown(value)}{_uncalled(value)}")
        return value

    def wrong(self) -> tuple[object, ...]:
        def maker() -> None: ...

        return (object(), maker)


class Function(NamedTuple):
    """A function of so many arguments, and not a class."""

    arguments: int
    words: str = "a function"

    def check(self, name: str, value: Any, /) -> Any:
        if not self._fits(value):
            refuse_type(f"`{name}` must be {self.words}, got {shown(value)}")
        return value

    def _fits(self, value: Any) -> bool:
        if isinstance(value, type) or not callable(value):
            return False
        try:
            signature(value).bind(*range(self.arguments))
        except TypeError:
            return False
        except ValueError:  # it does not say what it takes
            pass
        return True

    def wrong(self) -> tuple[object, ...]:
        return (None, 1, int, "len")


NET = Instance(Layer, "a layer")
LOSS = Instance(Loss, "a loss")
STR = Instance(str, "a str")


def _uncalled(value: Any) -> str:
    """What to write for a constructor that was not called."""
    has_name = isinstance(value, FunctionType) and value.__name__.isidentifier()
    return f": write {value.__name__}()" if has_name else ""


class Layers(NamedTuple):
    """Layers, or what else has a spec: children of what is built, never functions that make them."""

    kind: type = Layer
    words: str = "a layer"
    several: bool = False

    def check(self, name: str, value: Any, /) -> Any:
        for child in value if self.several else (value,):
            if not isinstance(child, self.kind):
                hint = _uncalled(child)
                if self.several and type(child) in (list, tuple):
                    hint = ": write a star in front of it"
                refuse_type(f"every child must be {self.words}, got {shown(child)}{hint}")
        return value

    def wrong(self) -> tuple[object, ...]:
        def maker() -> None: ...

        return (1, None, maker, ())


class Optional(NamedTuple):
    """None, or what another constraint says."""

    inner: Constraint

    def check(self, name: str, value: Any, /) -> Any:
        return None if value is None else self.inner.check(name, value)

    def wrong(self) -> tuple[object, ...]:
        return tuple(value for value in self.inner.wrong() if value is not None)


class Either(NamedTuple):
    """A word out of some, or, for anything else than a str, what another constraint says."""

    words: Choice
    other: Constraint

    def check(self, name: str, value: Any, /) -> Any:
        return (self.words if isinstance(value, str) else self.other).check(name, value)

    def wrong(self) -> tuple[object, ...]:
        return ("nonsense", *(value for value in self.other.wrong() if not isinstance(value, str)))


class When:
    """An option that acts where another one has one of these values; elsewhere it must be left out."""

    def __init__(self, inner: Constraint, other: str, *values: object) -> None:
        self.inner, self.other, self.values = inner, other, values

    def idle(self, other: object) -> bool:
        """Whether the option does nothing beside this value of the other one."""
        return other not in self.values

    def check(self, name: str, value: Any, /) -> Any:
        return self.inner.check(name, value)

    def wrong(self) -> tuple[object, ...]:
        return self.inner.wrong()


class Beside(When):
    """An option that acts where another one is not 0; beside a 0 it must be left out."""

    def idle(self, other: object) -> bool:
        return other == 0


class Whatever(NamedTuple):
    """Anything: the constructor checks it itself, as it takes more than a value to tell."""

    def check(self, name: str, value: Any, /) -> Any:
        return value

    def wrong(self) -> tuple[object, ...]:
        return ()


# --- options that a dtype does not have --------------------------------------------------------------


def beyond(options: Mapping[str, Any], dtype: Any) -> str:
    """The first option with a number too large for a dtype, or too close to 0 or 1; or ``""``."""
    limits = np.finfo(dtype)
    least, most, step = float(limits.tiny), float(limits.max), float(limits.eps)
    for name, value in options.items():
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, float) or number in (0, 1):
                continue
            if not least <= abs(number) <= most or abs(1 - number) < step:
                return name
    return ""


def refuse_beyond(options: Mapping[str, Any], dtype: Any) -> NoReturn:
    """Refuse the first such option, as what it leads to is beyond the dtype, too."""
    name = beyond(options, dtype)
    text = f"`{name}` must give numbers that {np.dtype(dtype)} can hold"
    refuse(f"{text}, got {shown(options[name])}")


def within(value: Any, name: str, dtype: Any, times: int = 1, minimum: float | None = None) -> Any:
    """A number that a dtype can hold, and so many times as much."""
    limit = float(np.finfo(dtype).max) / times
    return dtype.type(Number(-limit if minimum is None else minimum, maximum=limit).check(name, value))
