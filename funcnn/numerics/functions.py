"""Elementary functions, in the mode in force."""

from __future__ import annotations

import numpy as np

from funcnn.numerics.modes import arithmetic
from funcnn.types import Array


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
    return arithmetic().exp(x)


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
    return arithmetic().expm1(x)


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
    return arithmetic().log(x)


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
    return arithmetic().log1p(x)


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
    return arithmetic().tanh(x)


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
    return arithmetic().tanh_slope(x)


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
    return arithmetic().sigmoid(x)


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
    own = arithmetic()
    return np.asarray(np.maximum(x, 0) + own.log1p(own.exp(-np.abs(x))))


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
    return arithmetic().erf(x)


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
    return arithmetic().erfc(x)


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
    return arithmetic().sin(x)


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
    return arithmetic().cos(x)


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
    return arithmetic().rsqrt(x)


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
    return arithmetic().power(x, y)
