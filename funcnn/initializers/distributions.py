"""One value, or one distribution, whatever the shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import checks, random
from funcnn.initializers.core import Initializer, within
from funcnn.types import Array, Key

__all__ = ["constant", "normal", "ones", "truncated_normal", "uniform", "zeros"]


@checks.named
def zeros() -> Initializer:
    """Begin with 0 everywhere.

    Returns
    -------
    Initializer
        For an array of any shape.

    Examples
    --------
    >>> from funcnn import random
    >>> zeros()(random.key(0), (2,))
    array([0., 0.], dtype=float32)
    """
    return Initializer(constant_numbers, (0.0,), "zeros()")


@checks.named
def ones() -> Initializer:
    """Begin with 1 everywhere.

    Returns
    -------
    Initializer
        For an array of any shape.

    Examples
    --------
    >>> from funcnn import random
    >>> ones()(random.key(0), (2,))
    array([1., 1.], dtype=float32)
    """
    return Initializer(constant_numbers, (1.0,), "ones()")


@checks.named
def constant(value: float) -> Initializer:
    """Begin with one number everywhere.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    Initializer
        For an array of any shape.

    Raises
    ------
    TypeError
        If `value` is no number.
    ValueError
        If `value` is not finite.

    Examples
    --------
    >>> from funcnn import random
    >>> constant(0.5)(random.key(0), (2,))
    array([0.5, 0.5], dtype=float32)
    """
    number = checks.Number().check("value", value)
    return Initializer(constant_numbers, (number,), f"constant({number!r})")


@checks.named
def normal(std: float = 0.01) -> Initializer:
    """Begin with normal numbers around 0.

    Parameters
    ----------
    std : float
        Their standard deviation.

    Returns
    -------
    Initializer
        For an array of any shape.

    Raises
    ------
    TypeError
        If `std` is no number.
    ValueError
        If `std` is not above 0.

    Examples
    --------
    >>> from funcnn import random
    >>> print(f"{normal(0.02)(random.key(0), (10_000,)).std():.3f}")
    0.020
    """
    number = checks.Number(above=0.0).check("std", std)
    return Initializer(normal_numbers, (number,), f"normal({number!r})")


@checks.named
def truncated_normal(std: float = 0.01) -> Initializer:
    """Begin with normal numbers around 0, none further out than two standard deviations.

    Parameters
    ----------
    std : float
        The standard deviation before the numbers further out are left out; afterwards, it is 0.8796
        times that.

    Returns
    -------
    Initializer
        For an array of any shape.

    Raises
    ------
    TypeError
        If `std` is no number.
    ValueError
        If `std` is not above 0.

    Examples
    --------
    >>> from funcnn import random
    >>> bool(abs(truncated_normal(0.5)(random.key(0), (1000,))).max() <= 1.0)
    True
    """
    number = checks.Number(above=0.0).check("std", std)
    return Initializer(truncated_normal_numbers, (number,), f"truncated_normal({number!r})")


@checks.named
def uniform(scale: float = 0.01) -> Initializer:
    """Begin with numbers between ``-scale`` and ``scale``, all equally likely.

    Parameters
    ----------
    scale : float
        The bound.

    Returns
    -------
    Initializer
        For an array of any shape.

    Raises
    ------
    TypeError
        If `scale` is no number.
    ValueError
        If `scale` is not above 0.

    Examples
    --------
    >>> from funcnn import random
    >>> bool(abs(uniform(0.5)(random.key(0), (1000,))).max() <= 0.5)
    True
    """
    number = checks.Number(above=0.0).check("scale", scale)
    return Initializer(uniform_numbers, (number,), f"uniform({number!r})")


# At the top of the module, so that they can be pickled.


def constant_numbers(_key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], value: float) -> Array:
    return np.full(shape, within(value, "value", dtype), dtype)


def normal_numbers(key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], std: float) -> Array:
    return random.normal(key, shape, 0.0, std, dtype)


def truncated_normal_numbers(
    key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], std: float
) -> Array:
    out = random.truncated_normal(key, shape, -2.0, 2.0, dtype)
    out *= within(std, "std", dtype, 2)
    return out


def uniform_numbers(key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], scale: float) -> Array:
    if not within(scale, "scale", dtype, 2):  # too small for the dtype
        return np.zeros(shape, dtype)
    return random.uniform(key, shape, -scale, scale, dtype)
