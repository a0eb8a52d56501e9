"""Which arithmetic is in force: fast or portable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from funcnn import checks
from funcnn.machine.trial import faults
from funcnn.numerics import _fast
from funcnn.types import Array

Mode: TypeAlias = Literal["fast", "portable"]
"""The two arithmetics."""
Axes: TypeAlias = int | tuple[int, ...] | None


class Arithmetic(Protocol):
    """What a module must define to be a mode."""

    word: Mode

    def matmul(self, a: Array, b: Array, /, out: Array | None = None) -> Array: ...
    def stacked_matmul(self, a: Array, b: Array, /, out: Array) -> Array: ...
    def summed_matmul(self, a: Array, b: Array, /, dtype: np.dtype[Any]) -> Array: ...
    def prepare(self, x: Array) -> Array: ...
    def sum(self, x: Array, axis: Axes = None, keepdims: bool = False) -> Array: ...
    def exp(self, x: Array) -> Array: ...
    def expm1(self, x: Array) -> Array: ...
    def log(self, x: Array) -> Array: ...
    def log1p(self, x: Array) -> Array: ...
    def tanh(self, x: Array) -> Array: ...
    def sigmoid(self, x: Array) -> Array: ...
    def tanh_slope(self, x: Array) -> Array: ...
    def erf(self, x: Array) -> Array: ...
    def erfc(self, x: Array) -> Array: ...
    def sin(self, x: Array) -> Array: ...
    def cos(self, x: Array) -> Array: ...
    def power(self, x: Array, y: Array | float) -> Array: ...
    def rsqrt(self, x: Array) -> Array: ...


def _module(mode: str) -> Arithmetic:
    """The module behind a mode; the portable one is only loaded by those who use it."""
    return _fast if mode == "fast" else _tried_portable()


@cache
def _tried_portable() -> Arithmetic:
    """Portable mode, once this machine has shown that it computes as that needs."""
    from funcnn.numerics import _portable

    rounding, products = faults()
    if rounding or products:
        found = "; ".join(rounding + products)
        checks.refuse(f"portable mode is not possible on this machine: {found}", "numerics")
    return _portable


_word = checks.named(checks.Choice("fast", "portable").check, "numerics")
_initial = _module(_word("FUNCNN_NUMERICS", os.environ.get("FUNCNN_NUMERICS", "fast")))
_current: ContextVar[Arithmetic] = ContextVar("funcnn.numerics.mode", default=_initial)
arithmetic = _current.get
"""The module whose functions are in force, in this thread at this place.

A kernel that runs often asks for it once, and calls them with no Python frame in between; the guard of
`funcnn.checks.declared` keeps warnings away there.
"""


def mode() -> Mode:
    """The mode in force, in this thread at this place.

    Returns
    -------
    str
        ``"fast"`` or ``"portable"``.

    Examples
    --------
    >>> from funcnn import numerics
    >>> with numerics.portable(), numerics.fast():
    ...     numerics.mode()
    'fast'
    """
    return arithmetic().word


@contextmanager
def use(mode: Mode) -> Iterator[None]:
    """Compute in this mode inside a ``with`` block (or a decorated function).

    Parameters
    ----------
    mode : {"fast", "portable"}
        The mode; the one before returns at the end of the block.

    Returns
    -------
    context manager
        For ``with``, or for decorating a function.

    Raises
    ------
    ValueError
        If `mode` is another word, or portable mode is not possible on this machine.

    Notes
    -----
    A block that yields from a generator holds for who takes its values, too, as one of `numpy.errstate`
    does.

    Examples
    --------
    >>> from funcnn import numerics
    >>> with numerics.use("portable"):
    ...     numerics.mode()
    'portable'
    """
    token = _current.set(_module(_word("mode", mode)))
    try:
        yield
    finally:
        _current.reset(token)


def portable() -> AbstractContextManager[None]:
    """Compute in portable mode inside a ``with`` block: the same bits on every machine.

    Returns
    -------
    context manager
        As ``use("portable")``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> x = np.array([[0.1, 0.2]], np.float32)
    >>> with numerics.portable():
    ...     numerics.matmul(x, x.T).item().hex()
    '0x1.99999a0000000p-5'
    """
    return use("portable")


def fast() -> AbstractContextManager[None]:
    """Compute in fast mode inside a ``with`` block: NumPy and its BLAS.

    Returns
    -------
    context manager
        As ``use("fast")``.

    Examples
    --------
    >>> from funcnn import numerics
    >>> with numerics.fast():
    ...     numerics.mode()
    'fast'
    """
    return use("fast")
