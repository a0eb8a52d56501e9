"""Which set of kernels runs: NumPy's alone, or the compiled ones where there are some."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

from funcnn import checks
from funcnn.machine import code

Use: TypeAlias = Literal["auto", "require", "off"]
"""Whether compiled kernels run: where they can be had, always, or never."""

_OLDEST = (0, 62)  # with llvmlite 0.45, whose passes kernels go through
_HOW = 'pip install "funcnn[fast]"'
_word: Any = checks.named(checks.Choice("auto", "require", "off").check, "numerics")


@cache
def numba_fault() -> str | None:
    """Why Numba cannot be used; asked once, so that the answer never changes within a process."""
    version = code.numba_version()
    if version is None:
        return "Numba, which is not installed"
    if tuple(map(int, version.split(".")[:2])) < _OLDEST:
        return f"Numba {'.'.join(map(str, _OLDEST))} or newer, got {version}"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "Numba, which NUMBA_DISABLE_JIT switches off"
    if not code.worked():
        try:
            import numba  # noqa: F401  # deferred: it takes half a second
        except Exception as problem:
            return f"Numba, which cannot be imported ({type(problem).__name__}: {problem})"
        code.works()
    return None


def _require(fault: str | None) -> None:
    if fault is not None:
        checks.refuse(f"compiled kernels need {fault}: {_HOW}", "numerics")


_initial = _word("FUNCNN_COMPILED", os.environ.get("FUNCNN_COMPILED", "auto"))
if _initial == "require" and find_spec("numba") is None:
    _require(numba_fault())
_current: ContextVar[Use] = ContextVar("funcnn.numerics.compiled", default=_initial)
chosen = _current.get
"""What was chosen in this thread at this place."""


def compiling() -> bool:
    """Whether kernels that have a compiled twin leave their work to it, in this thread at this place.

    Returns
    -------
    bool
        False where they are switched off, and where Numba is missing.

    Examples
    --------
    >>> from funcnn import numerics
    >>> with numerics.compiled("off"):
    ...     numerics.compiling()
    False
    """
    word = _current.get()
    if word == "off":
        return False
    fault = numba_fault()
    if word == "require":
        _require(fault)
    return fault is None


@contextmanager
def compiled(use: Use = "require") -> Iterator[None]:
    """Choose the set of kernels inside a ``with`` block (or a decorated function).

    Parameters
    ----------
    use : {"auto", "require", "off"}
        Whether kernels that Numba has compiled run: where it is installed; or else refuse; or never.
        The environment variable ``FUNCNN_COMPILED`` says it for a whole process, which begins with
        ``"auto"``.

    Returns
    -------
    context manager
        For ``with``, or for decorating a function.

    Raises
    ------
    ValueError
        If `use` is another word, or it is ``"require"`` and Numba is missing or too old.

    Notes
    -----
    Both sets compute the same within rounding; each gives the same bits again on the same machine. In
    portable mode, they give the same bits. A ``with`` block that yields from a generator holds for who
    takes its values, too, as one of `numpy.errstate` does.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import conv, numerics, random
    >>> _, params = conv(2, 3).init(random.key(0), (1, 1, 4, 4))
    >>> with numerics.compiled("off"):
    ...     conv(2, 3).apply(params, np.ones((1, 1, 4, 4), np.float32))[0].shape
    (1, 2, 2, 2)
    """
    word: Use = _word("use", use)
    if word == "require":
        _require(numba_fault())
    token = _current.set(word)
    try:
        yield
    finally:
        _current.reset(token)


def kernels() -> str:
    """Which set of kernels runs, with versions, and why.

    Returns
    -------
    str
        Such as ``"compiled by Numba 0.68.1"`` or ``"NumPy's (compiled ones are off)"``.

    Examples
    --------
    >>> from funcnn import numerics
    >>> with numerics.compiled("off"):
    ...     numerics.kernels()
    "NumPy's (compiled ones are off)"
    """
    if compiling():
        return f"compiled by Numba {code.numba_version()}"
    if chosen() == "off":
        return "NumPy's (compiled ones are off)"
    return f"NumPy's (compiled ones need {numba_fault()})"
