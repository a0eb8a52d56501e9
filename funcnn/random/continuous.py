"""Draws of real numbers: uniform, normal, and normal between bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funcnn import checks
from funcnn.numerics.twins import compiled_in
from funcnn.random.bits import chunks, empty, fill_unit
from funcnn.random.quantiles import beyond, in_tails, quantile
from funcnn.types import Array, Key

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_compiled = compiled_in(*["funcnn.random.compiled"] * 2)

__all__ = ["normal", "truncated_normal", "uniform"]


@checks.named
def uniform(
    key: Key, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, dtype: DTypeLike = np.float32
) -> Array:
    """Draw numbers from ``[low, high)``, all equally likely.

    Parameters
    ----------
    key : Key
        Where the randomness comes from.
    shape : tuple of int
        The shape of the result.
    low, high : float
        The least value, and the first one beyond the greatest.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    array
        Of `shape` and `dtype`.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `high` is not above `low` in `dtype`, or too far for it.

    Notes
    -----
    ``low + u * (high - low)``, where ``u`` has 24 (float32) or 53 (float64) random bits.

    Examples
    --------
    >>> from funcnn import random
    >>> x = random.uniform(random.key(0), (1000,), -1.0, 1.0)
    >>> bool((x >= -1).all()), bool((x < 1).all()), x.dtype
    (True, True, dtype('float32'))
    """
    shape, kind = checks.sizes(shape), checks.float_dtype(dtype)
    least, beyond = checks.within(low, "low", kind), checks.within(high, "high", kind)
    if not float(high) - float(low) <= float(np.finfo(kind).max):
        got = f"{checks.shown(high)} and {checks.shown(low)}"
        checks.refuse(f"`high` - `low` must fit {kind}, got {got}")
    if not (high > low and beyond > least):
        checks.refuse(f"`high` must be above `low`, got {checks.shown(high)} and {checks.shown(low)}")
    out, drawing = empty(key, shape, kind)
    if drawing:
        fill_unit(key, out)
        if (low, high) != (0.0, 1.0):
            np.multiply(out, beyond - least, out=out)
            np.add(out, least, out=out)
            # rounding may reach `high`, which does not belong
            np.minimum(out, np.nextafter(beyond, least), out=out)
    return out


@checks.named
def normal(
    key: Key, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0, dtype: DTypeLike = np.float32
) -> Array:
    """Draw numbers from the normal distribution.

    Parameters
    ----------
    key : Key
        Where the randomness comes from.
    shape : tuple of int
        The shape of the result.
    mean, std : float
        Mean and standard deviation (at least 0).
    dtype : dtype
        float32 or float64.

    Returns
    -------
    array
        Of `shape` and `dtype`.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `std` is negative, or a number not finite or too large for `dtype`.

    Notes
    -----
    ``mean + std * z`` where ``z`` is the normal quantile of a uniform number of 32 (float32) or 53
    (float64) bits, hence never further out than 6.3 or 8.3 standard deviations.

    References
    ----------
    M. J. Wichura (1988). Algorithm AS 241: the percentage points of the normal distribution.
    Applied Statistics 37 (3).

    Examples
    --------
    >>> from funcnn import random
    >>> x = random.normal(random.key(0), (10_000,), mean=3.0, std=0.5)
    >>> print(f"{x.mean():.2f} {x.std():.2f}")
    3.00 0.50
    """
    shape, kind = checks.sizes(shape), checks.float_dtype(dtype)
    at = checks.within(mean, "mean", kind, 16)  # no draw is that many standard deviations out
    times = checks.within(std, "std", kind, 16, minimum=0.0)
    out, drawing = empty(key, shape, kind)
    if drawing:
        standard_normal(key, out)
        if std != 1.0:
            np.multiply(out, times, out=out)
        if mean != 0.0:
            np.add(out, at, out=out)
    return out


@_compiled
def standard_normal(key: Key, out: Array) -> None:
    """Fill with draws of mean 0 and deviation 1."""
    flat = out.reshape(-1)
    if out.dtype == np.float64:
        for part, words in chunks(key, flat.size, 64):
            q = ((words >> 11).view(np.int64) * 2 - (2**53 - 1)) * 2.0**-54  # odd, so never 0
            tails = in_tails(q)
            flat[part] = quantile(q, tails, 0.5 - np.abs(q[tails]))
        return
    step = np.float32(2.0**-32)
    for part, words in chunks(key, flat.size, 32):
        q = (words ^ np.uint32(2**31)).view(np.int32).astype(np.float32) * step + step / 2
        tails = in_tails(q)
        ends = words[tails]
        np.minimum(ends, ~ends, out=ends)  # `q` is too coarse here: count from the nearer end
        flat[part] = quantile(q, tails, ends.astype(np.float32) * step + step / 2)


@checks.named
def truncated_normal(
    key: Key,
    shape: tuple[int, ...],
    lower: float = -2.0,
    upper: float = 2.0,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Draw from the standard normal distribution, given that the number lies between bounds.

    Parameters
    ----------
    key : Key
        Where the randomness comes from.
    shape : tuple of int
        The shape of the result.
    lower, upper : float
        The bounds, in standard deviations from the mean.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    array
        Of `shape` and `dtype`, nothing outside the bounds (as rounded to `dtype`).

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `upper` is not above `lower`, or both are so far out that nothing lies between them.

    Notes
    -----
    The normal quantile of a number that is uniform between the probabilities of the bounds. Between
    -2 and 2, the standard deviation is 0.8796.

    Examples
    --------
    >>> from funcnn import random
    >>> x = random.truncated_normal(random.key(0), (1000,), lower=0.0)
    >>> bool(x.min() >= 0), bool(x.max() <= 2)
    (True, True)
    """
    shape, kind = checks.sizes(shape), checks.float_dtype(dtype)
    lower, upper = checks.Number().check("lower", lower), checks.Number().check("upper", upper)
    if not upper > lower:
        got = f"{checks.shown(upper)} and {checks.shown(lower)}"
        checks.refuse(f"`upper` must be above `lower`, got {got}")
    out, drawing = empty(key, shape, kind)
    # Probability is counted from the end where it is small: from the tail if both bounds lie on one
    # side, which may be the far end, else from the median.
    one_side = lower > 0 or upper < 0
    low, high = beyond(abs(lower)), beyond(abs(upper))
    if one_side and low == high:
        got = f"{checks.shown(lower)} and {checks.shown(upper)}"
        checks.refuse(f"`lower` and `upper` must have room between them, got {got}")
    if drawing:
        flat = out.reshape(-1)
        for part, words in chunks(key, flat.size, 64):
            unit = (words >> 11) * 2.0**-53
            if one_side:
                p = low + unit * (high - low)
                q = np.copysign(0.5 - p, lower)
            else:
                q = (low - 0.5) + unit * ((0.5 - high) - (low - 0.5))
                p = np.maximum(0.5 - np.abs(q), 2.0**-54)
            tails = in_tails(q)
            flat[part] = quantile(q, tails, p[tails])
        limit = float(np.finfo(kind).max)
        np.clip(out, kind.type(max(lower, -limit)), kind.type(min(upper, limit)), out=out)
    return out
