"""One value, or one distribution, whatever the shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import checks, random
from funcnn.initializers.core import Initializer
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


@checks.takes(value=checks.Number())
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
    return Initializer(constant_numbers, (value,), f"constant({value!r})")


@checks.takes(std=checks.Number(above=0.0))
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
    return Initializer(normal_numbers, (std,), f"normal({std!r})")


@checks.takes(std=checks.Number(above=0.0))
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
    return Initializer(truncated_normal_numbers, (std,), f"truncated_normal({std!r})")


@checks.takes(scale=checks.Number(above=0.0))
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
    return Initializer(uniform_numbers, (scale,), f"uniform({scale!r})")


# At the top of the module, so that they can be pickled.


def constant_numbers(_key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], value: float) -> Array:
    return np.full(shape, checks.within(value, "value", dtype), dtype)


def normal_numbers(key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], std: float) -> Array:
    return random.normal(key, shape, 0.0, std, dtype)


def truncated_normal_numbers(
    key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], std: float
) -> Array:
    out = random.truncated_normal(key, shape, -2.0, 2.0, dtype)
    out *= checks.within(std, "std", dtype, 2)
    return out


def uniform_numbers(key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], scale: float) -> Array:
    if not checks.within(scale, "scale", dtype, 2):  # too small for the dtype
        return np.zeros(shape, dtype)
    return random.uniform(key, shape, -scale, scale, dtype)
