"""What a refusal is, and how a value is shown in one."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

_LONGEST = 290  # characters of a message


def _cut(text: str, size: int) -> str:
    """A text without its middle, if it is longer than that."""
    return text if len(text) <= size else f"{text[: size - 45]} ... {text[-40:]}"


class Refusal(Exception):
    """What every refusal is, beside a `ValueError` or a `TypeError`: who refuses, where, and why.

    `who` is empty until somebody on the way out knows it; `path` leads to a layer inside a network.
    """

    def __init__(self, text: str, who: str = "", path: tuple[str, ...] = ()) -> None:
        super().__init__(text, who, path)
        self.text, self.who, self.path = text, who, path

    def __str__(self) -> str:
        path = self.path if len(self.path) < 9 else (*self.path[:4], "...", *self.path[-4:])
        where = _cut("/".join(path) or self.who, _LONGEST // 2)
        text = _cut(" ".join(self.text.splitlines()), _LONGEST - len(where))
        return ": ".join(filter(None, [where, text]))

    def by(self, who: str) -> Refusal:
        """The same refusal; `who` refuses if nobody is named yet."""
        if not self.who:
            self.who = who
            self.args = (self.text, self.who, self.path)
        return self

    def inside(self, name: str) -> Refusal:
        """The same refusal, seen from the network that calls its child `name`."""
        self.path = (name, *self.path)
        self.args = (self.text, self.who, self.path)
        return self


class RefusedValue(Refusal, ValueError):
    """A value or a shape that cannot be.

    Examples
    --------
    >>> from funcnn import dropout
    >>> dropout(1.5)
    Traceback (most recent call last):
    ...
    funcnn.checks.RefusedValue: dropout: `rate` must be below 1, got 1.5
    """

    __module__ = "funcnn.checks"  # as it is shown and pickled


class RefusedType(Refusal, TypeError):
    """A thing of the wrong kind.

    Examples
    --------
    >>> from funcnn import dense
    >>> dense("ten")
    Traceback (most recent call last):
    ...
    funcnn.checks.RefusedType: dense: `out_features` must be an int, got 'ten'
    """

    __module__ = "funcnn.checks"  # as it is shown and pickled


def refuse(text: str, who: str = "") -> NoReturn:
    """Refuse a value or a shape."""
    raise RefusedValue(text, who)


def refuse_type(text: str, who: str = "") -> NoReturn:
    """Refuse a thing of the wrong kind."""
    raise RefusedType(text, who)


def shown(value: object) -> str:
    """A value on one line of a message."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape}"
    try:
        text = repr(value.item() if isinstance(value, np.generic) else value)
    except Exception:  # an integer of too many digits, or somebody's own `__repr__`
        return f"a {type(value).__name__}"
    return text if len(text) <= 100 and "\n" not in text else f"a {type(value).__name__}"
