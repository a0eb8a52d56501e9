"""Products of matrices and sums, in the mode in force."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from funcnn.numerics.large import LARGE, large_matmul
from funcnn.numerics.modes import Axes, arithmetic
from funcnn.types import Array


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
    if a.shape[-1:] == (5,):
        # OpenBLAS 0.3.31 multiplies a float32 matrix of five columns by a vector with AVX-512 in
        # registers that it fills from uninitialised memory in part. The product is right, but what lay
        # there may set the flag from which NumPy takes its warning of invalid values.
        with np.errstate(invalid="ignore"):
            return arithmetic().matmul(a, b, out)
    if b.ndim < 2 or a.size * b.shape[-1] < LARGE:
        return arithmetic().matmul(a, b, out)
    return large_matmul(a, b, out)


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
    return arithmetic().summed_matmul(a, b, np.dtype(dtype))


def stacked_matmul(a: Array, b: Array, out: Array) -> Array:
    """Products of stacks of matrices, few rows by many columns.

    Parameters
    ----------
    a : Array (..., M, K)
        Left matrices.
    b : Array (..., K, N)
        Right matrices.
    out : Array (..., M, N)
        Where to put the products; no memory of `a` or `b`.

    Returns
    -------
    Array (..., M, N)
        `out`.

    Notes
    -----
    As `matmul`; but fast mode cuts large products into tiles, by their sizes alone.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> numerics.stacked_matmul(np.ones((3, 1, 2)), np.ones((3, 2, 1)), np.empty((3, 1, 1))).ravel()
    array([2., 2., 2.])
    """
    return arithmetic().stacked_matmul(a, b, out)


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
    return arithmetic().prepare(x)


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
    return arithmetic().sum(x, axis, keepdims)


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
    total = arithmetic().sum(x, axis, keepdims)
    terms = x.size // total.size if total.size else 0
    if not terms:
        return np.full_like(total, np.nan)
    return np.asarray(total / total.dtype.type(terms))
