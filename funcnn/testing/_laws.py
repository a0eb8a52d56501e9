"""What a law is, and how it says that it was broken."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Barrier
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np

from funcnn.checks import Refusal
from funcnn.machine.threads import UNSTARTED
from funcnn.testing import _values
from funcnn.types import Spec, X

__all__ = ["Law"]

_Kinds: TypeAlias = type[Exception] | tuple[type[Exception], ...]
_LONGEST = 300  # characters of a refusal

ROUNDING = {np.float64: 1e-9, np.float32: 1e-3}
"""What sums that may be taken in another order may differ by, in each dtype that a layer works in."""


class Law(NamedTuple):
    """Something that holds for every layer, or for every loss: call it with a subject.

    Parameters
    ----------
    name : str
        The law, as a sentence.
    check : callable
        ``(subject) -> None``; raises where the law is broken.

    Raises
    ------
    AssertionError
        When called with a subject that breaks it, and says where.

    Examples
    --------
    >>> from funcnn import relu
    >>> from funcnn.testing import LAWS, Subject
    >>> LAWS[0]
    law 'nothing is mutated'
    >>> LAWS[0](Subject(relu(), (4, 3)))
    """

    name: str
    check: Callable[[Any], None]

    def __call__(self, subject: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                self.check(subject)
            except _Breach as breach:
                raise AssertionError(f"{self} broken by {subject.spec.kind} {breach}") from None
            except Exception as error:
                raise AssertionError(
                    f"{self} broken by {subject.spec.kind}: {type(error).__name__}: {error}"
                ) from error

    def __repr__(self) -> str:
        return f"law {self.name!r}"


def law(name: str) -> Callable[[Callable[[Any], None]], Law]:
    """Make a law of a function that checks it."""
    return lambda check: Law(name, check)


class _Breach(AssertionError):
    """Where a law was broken."""


def breach(where: str, expected: object, found: object) -> NoReturn:
    """Say where a law is broken, and how."""
    raise _Breach(f"at {where}: expected {expected}, got {found}")


def agree(where: str, expected: Any, found: Any, tolerance: float | None = None) -> None:
    """Two trees are the same: in every bit, or up to a tolerance relative to the largest value."""
    wanted, got = dict(_values.leaves(expected, where)), dict(_values.leaves(found, where))
    for path in sorted(wanted.keys() ^ got.keys()):
        breach(path, *(("a leaf", "none") if path in wanted else ("no leaf", "one")))
    for path, leaf in wanted.items():
        _agree_leaf(path, leaf, got[path], tolerance)


def agree_each(
    names: Iterable[str], expected: Any, found: Any, tail: str = "", tolerance: float | None = None
) -> None:
    """The same of several things, each under its own name and what follows them all."""
    for name, before, after in zip(names, expected, found, strict=True):
        agree(f"{name}{tail}", before, after, tolerance)


def differ(expected: Any, found: Any, tolerance: float) -> bool:
    """Whether two trees do not agree."""
    try:
        agree("", expected, found, tolerance)
    except _Breach:
        return True
    return False


def slopes_fit(where: str, value: Any, gradient: Any) -> None:
    """A gradient has the tree of its value, the shapes of its leaves, and the dtypes of the floats."""
    found = dict(_values.leaves(gradient, where))
    for path, leaf in _values.leaves(value, where):
        slope = found.pop(path, None)
        if not isinstance(slope, np.ndarray) or slope.shape != leaf.shape:
            breach(path, f"an array of shape {leaf.shape}", repr(np.shape(slope)))
        if _values.is_float(leaf) and slope.dtype != leaf.dtype:
            breach(path, leaf.dtype, slope.dtype)
    for path in found:
        breach(path, "no leaf", "one")


def _agree_leaf(path: str, expected: Any, found: Any, tolerance: float | None) -> None:
    if not _is_array(expected) or not _is_array(found):
        same = type(expected) is type(found) and (
            callable(expected) or expected == found or repr(expected) == repr(found)
        )
        if not same:
            breach(path, repr(expected), repr(found))
        return
    if expected.shape != found.shape:
        breach(path, f"shape {expected.shape}", f"shape {found.shape}")
    if expected.dtype != found.dtype:
        breach(path, expected.dtype, found.dtype)
    if tolerance is None or expected.dtype.kind != "f":
        wrong = _bytes(expected) != _bytes(found)
    else:
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        with np.errstate(invalid="ignore"):  # infinities are equal, NaN is not
            near = np.abs(expected - found) <= tolerance * scale
        wrong = ~(near | (expected == found))
    if wrong.any():
        index = tuple(map(int, np.unravel_index(int(wrong.argmax()), expected.shape)))
        place = f"{path}{list(index)}" if index else path
        breach(place, repr(expected[index].item()), repr(found[index].item()))


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, (np.ndarray, np.generic))


def _bytes(x: Any) -> Any:
    """One opaque value for each element, equal when all bits are."""
    return np.frombuffer(x.tobytes(), f"V{x.dtype.itemsize}")


def names_its_layer(error: Exception, spec: Spec) -> bool:
    """Whether a refusal begins ``kind: ...``, or, inside a network, ``path/of/kind1: ...``."""
    path, colon, text = str(error).partition(": ")
    known, *parts = _names(spec), *path.split("/")
    if isinstance(error, Refusal) and error.path:
        known = {*known, *parts[:-1]}  # a combinator may have its own names, such as "forward"
    if isinstance(error, Refusal) and error.who in known:
        known = {*known, *error.path}
    return bool(colon and text) and all(
        part in known or re.sub(r"\d+$", "", part) in known for part in parts
    )


def _names(spec: Spec) -> set[str]:
    own = {spec.kind} if spec.name is None else {spec.kind, spec.name}
    return own.union(*map(_names, spec.children))


def refuses(where: str, spec: Spec, kinds: _Kinds, call: Callable[..., Any], *args: Any) -> None:
    """A call is refused, by an error of a kind that names the layer."""
    try:
        with np.errstate(all="raise"):  # arithmetic on the huge numbers that the laws pass in
            answer = call(*args)
    except Exception as error:
        is_refusal(where, spec, kinds, error)
    else:
        breach(where, _refusal_of(spec, kinds), f"an answer, {answer!r:.60}")


def is_refusal(where: str, spec: Spec, kinds: _Kinds, error: Exception) -> None:
    """An error is of a kind, names the layer, and is short."""
    text = str(error)
    if not isinstance(error, kinds) or not names_its_layer(error, spec):
        breach(where, _refusal_of(spec, kinds), f"{type(error).__name__}: {text}")
    if len(text) >= _LONGEST or "\n" in text:
        breach(where, f"one line of less than {_LONGEST} characters", f"{len(text)}: {text:.100}")


def _refusal_of(spec: Spec, kinds: _Kinds) -> str:
    names = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
    return f"a {names} that begins {spec.kind + ': '!r}"


def at_once(tasks: Sequence[Callable[[], X]]) -> list[X]:
    """What tasks give on threads of their own, all begun together; nothing where none can start."""
    start = Barrier(len(tasks))

    def begun(task: Callable[[], X]) -> X:
        start.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        try:
            jobs = [pool.submit(copy_context().run, begun, task) for task in tasks]
        except UNSTARTED:  # nobody could disturb
            start.abort()
            return []
        return [job.result() for job in jobs]
