"""The one place for arithmetic whose bits could differ between machines.

``+ - * /``, ``sqrt``, comparisons, `maximum` and moving data give the same bits everywhere: any
room may use NumPy for them. (Two things are the processor's choice, in either mode: the sign of the
larger of 0.0 and -0.0, and which of its many bit patterns a NaN has.) Products of matrices, sums and
transcendental functions do not: they are called here. There are two modes.

*fast* (the default)
    NumPy and its BLAS. The same bits again on the same machine with the same NumPy.
*portable*
    The same bits on every machine with IEEE 754 arithmetic, whatever its BLAS, its threads and its
    vector unit: own algorithms, built from ``+ - * /``, ``sqrt`` and matrix products in which every
    operation is exact.

    Entered for the first time in a process, it tries in some milliseconds whether the machine rounds
    as IEEE 754 says and multiplies whole numbers right, and refuses if not.

The mode is a context variable: ``with numerics.portable():`` holds inside the block, in this
thread. A new thread starts in the default mode; give it the mode of its maker by running it in
``contextvars.copy_context()``. The default is *fast*, or what the environment variable
``FUNCNN_NUMERICS`` says when the package is imported.

Examples
--------
>>> import numpy as np
>>> from funcnn import numerics
>>> with numerics.portable():
...     numerics.mode(), numerics.exp(np.zeros(2, np.float32))
('portable', array([1., 1.], dtype=float32))
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from funcnn import _checks
from funcnn.numerics import _fast
from funcnn.types import Array

__all__ = [
    "cos",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "fast",
    "faults",
    "log",
    "log1p",
    "matmul",
    "mean",
    "mode",
    "portable",
    "power",
    "prepare",
    "rsqrt",
    "sigmoid",
    "sin",
    "softplus",
    "sum",
    "summed_matmul",
    "tanh",
    "tanh_slope",
    "use",
]

Mode: TypeAlias = Literal["fast", "portable"]
Axes: TypeAlias = int | tuple[int, ...] | None


class _Arithmetic(Protocol):
    """What a module must define to be a mode."""

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array: ...
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


def _arithmetic(mode: str) -> _Arithmetic:
    """The module behind a mode; the portable one is only loaded by those who use it."""
    return _fast if mode == "fast" else _tried_portable()


@cache
def _tried_portable() -> _Arithmetic:
    """Portable mode, once this machine has shown that it computes as that needs."""
    from funcnn.numerics import _portable

    rounding, products = faults()
    if rounding or products:
        found = "; ".join(rounding + products)
        _checks.refuse("numerics", f"portable mode is not possible on this machine: {found}")
    return _portable


def faults() -> tuple[list[str], list[str]]:
    """What is wrong with this machine's arithmetic, by a trial of some milliseconds.

    Returns
    -------
    rounding : list of str
        Of single operations: what is not rounded as IEEE 754 says. Portable mode needs it.
    products : list of str
        Of BLAS: which products of whole numbers are wrong. Every mode needs them.

    Examples
    --------
    >>> from funcnn import numerics
    >>> numerics.faults()
    ([], [])
    """
    from funcnn.machine.blas import on_one_blas_thread
    from funcnn.numerics import _trial

    return _trial.rounding_faults(), on_one_blas_thread(_trial.product_faults)


_default = _checks.choice(
    "numerics", "FUNCNN_NUMERICS", os.environ.get("FUNCNN_NUMERICS", "fast"), ("fast", "portable")
)
_initial = _arithmetic(_default)
_current: ContextVar[_Arithmetic] = ContextVar("funcnn.numerics.mode", default=_initial)
_get = _current.get


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
    return "fast" if _get() is _fast else "portable"


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

    Examples
    --------
    >>> from funcnn import numerics
    >>> with numerics.use("portable"):
    ...     numerics.mode()
    'portable'
    """
    word = _checks.choice("numerics", "mode", mode, ("fast", "portable"))
    token = _current.set(_arithmetic(word))
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


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Product of matrices, or of stacks of them, as `numpy.matmul`.

    Parameters
    ----------
    a : Array (..., M, K)
        Left matrix; a vector is a row.
    b : Array (..., K, N)
        Right matrix; a vector is a column.
    out : Array (..., M, N), optional
        Where to put the product; no memory of `a` or `b`.

    Returns
    -------
    Array (..., M, N)
        `out`, or a new array.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Notes
    -----
    In portable mode every entry is the exact sum of products, rounded once. So no order can show:
    row ``i`` has the same bits whatever the batch, and a product that is cut into tiles is the same
    as one that is not, unless the sums themselves are cut.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.matmul(np.eye(2), np.array([[1.0], [2.0]]))
    array([[1.],
           [2.]])
    """
    return _get().matmul(a, b, out)


def summed_matmul(a: Array, b: Array, dtype: DTypeLike) -> Array:
    """Sum of products of matrices along the axis before theirs.

    Parameters
    ----------
    a : Array (..., P, M, K)
        Left matrices.
    b : Array (..., P, K, N)
        Right matrices.
    dtype : dtype
        Of the result: float32 or float64.

    Returns
    -------
    Array (..., M, N)
        A new array.

    Notes
    -----
    In portable mode this is one product, of the matrices of `a` side by side and those of `b` below
    one another: every entry is rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.summed_matmul(np.ones((3, 1, 2)), np.ones((3, 2, 1)), np.float64)
    array([[6.]])
    """
    if _get() is _fast:
        return np.asarray(_fast.sum(_fast.matmul(a, b), -3), dtype)
    from funcnn.numerics import _portable  # deferred, as in `_arithmetic`

    return _portable.summed_matmul(a, b, dtype)


def prepare(x: Array) -> Array:
    """An operand in the form that `matmul` wants, to be made once where its entries are copied.

    Parameters
    ----------
    x : Array
        Entries of the operand, before they are gathered, tiled or viewed as overlapping rows.

    Returns
    -------
    Array
        In fast mode `x`; in portable mode the same values in float64, memory in the same order.

    Notes
    -----
    A product of prepared operands must name an `out` array, which says the dtype of the result.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> pixels = numerics.prepare(np.ones(6, np.float32))
    >>> rows = np.lib.stride_tricks.sliding_window_view(pixels, 3)
    >>> numerics.matmul(rows, np.ones((3, 1), np.float32), np.empty((4, 1), np.float32)).T
    array([[3., 3., 3., 3.]], dtype=float32)
    """
    return _get().prepare(x)


def sum(x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
    """Sum over one axis, several, or all.

    Parameters
    ----------
    x : Array
        Terms; booleans and integers are counted as `numpy.sum` does, floats keep their dtype.
    axis : int or tuple of ints, optional
        Axes to sum over; all of them by default.
    keepdims : bool, default False
        Whether these axes stay, with size 1.

    Returns
    -------
    Array
        The sums.

    Notes
    -----
    In portable mode the terms are added in an order that depends on the shape alone, in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.sum(np.ones((2, 3)), axis=1)
    array([3., 3.])
    """
    return _get().sum(x, axis, keepdims)


def mean(x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
    """Mean over one axis, several, or all: `sum` divided by the number of terms.

    Parameters
    ----------
    x : Array
        Float terms.
    axis : int or tuple of ints, optional
        Axes to average over; all of them by default.
    keepdims : bool, default False
        Whether these axes stay, with size 1.

    Returns
    -------
    Array
        The means; NaN where there is no term.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.mean(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    array([2., 3.])
    """
    total = _get().sum(x, axis, keepdims)
    terms = x.size // total.size if total.size else 0
    if not terms:
        return np.full_like(total, np.nan)
    return np.asarray(total / total.dtype.type(terms))


def exp(x: Array) -> Array:
    """The exponential.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``e**x``, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.exp(np.array([0.0]))
    array([1.])
    """
    return _get().exp(x)


def expm1(x: Array) -> Array:
    """The exponential less one, exact to the last bits near zero.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``e**x - 1``, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.expm1(np.array([0.0]))
    array([0.])
    """
    return _get().expm1(x)


def log(x: Array) -> Array:
    """The natural logarithm.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``log(x)``; -inf at 0, NaN below, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.log(np.array([1.0]))
    array([0.])
    """
    return _get().log(x)


def log1p(x: Array) -> Array:
    """The logarithm of one more, exact to the last bits near zero.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``log(1 + x)``, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.log1p(np.array([0.0]))
    array([0.])
    """
    return _get().log1p(x)


def tanh(x: Array) -> Array:
    """The hyperbolic tangent.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``(e**x - e**-x) / (e**x + e**-x)``, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.tanh(np.array([0.0]))
    array([0.])
    """
    return _get().tanh(x)


def tanh_slope(x: Array) -> Array:
    """The slope of the hyperbolic tangent.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``1 - tanh(x)**2``, in the dtype of `x`.

    Notes
    -----
    In portable mode this is the difference itself up to ``|x| = 5``, with an error of the size of the
    last bit of 1. Everywhere else, and in fast mode, the relative error is a few such bits.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.tanh_slope(np.array([0.0, np.inf]))
    array([1., 0.])
    """
    return _get().tanh_slope(x)


def sigmoid(x: Array) -> Array:
    """The logistic function, without overflow.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``1 / (1 + e**-x)``, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.sigmoid(np.array([0.0]))
    array([0.5])
    """
    return _get().sigmoid(x)


def softplus(x: Array) -> Array:
    """The smooth `maximum(x, 0)`, without overflow.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``log(1 + e**x)``, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.softplus(np.array([-800.0, 800.0]))
    array([  0., 800.])
    """
    arithmetic = _get()
    return np.asarray(np.maximum(x, 0) + arithmetic.log1p(arithmetic.exp(-np.abs(x))))


def erf(x: Array) -> Array:
    """The error function.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``2 / sqrt(pi)`` times the integral of ``exp(-t * t)`` from 0 to `x`, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.erf(np.array([0.0]))
    array([0.])
    """
    return _get().erf(x)


def erfc(x: Array) -> Array:
    """The complementary error function, exact to the last bits where it is small.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``1 - erf(x)``, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.erfc(np.array([-9.0, 0.0, np.inf]))
    array([2., 1., 0.])
    """
    return _get().erfc(x)


def sin(x: Array) -> Array:
    """The sine of an angle in radians.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``sin(x)``, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.sin(np.array([0.0]))
    array([0.])
    """
    return _get().sin(x)


def cos(x: Array) -> Array:
    """The cosine of an angle in radians.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``cos(x)``, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.cos(np.array([0.0]))
    array([1.])
    """
    return _get().cos(x)


def rsqrt(x: Array) -> Array:
    """The reciprocal of the square root.

    Parameters
    ----------
    x : Array
        Argument, float32 or float64.

    Returns
    -------
    Array
        ``1 / sqrt(x)``, in the dtype of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.rsqrt(np.array([4.0]))
    array([0.5])
    """
    return _get().rsqrt(x)


def power(x: Array, y: Array | float) -> Array:
    """`x` to the power `y`.

    Parameters
    ----------
    x : Array
        Base.
    y : Array or float
        Exponent; it broadcasts against `x`.

    Returns
    -------
    Array
        ``x**y``; NaN for a negative base with an exponent that is no integer.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.power(np.array([4.0]), 0.5)
    array([2.])
    """
    return _get().power(x, y)
