"""Immutable keys, and draws that are the same bits on every machine.

A `Key` is a value: drawing from it twice gives the same numbers, and nothing anywhere has a state.
For different numbers, make different keys: `split` a key, or `fold_in` a number or a name.

Examples
--------
>>> from funcnn import random
>>> key = random.key(0)
>>> weights, noise = random.split(key)
>>> random.normal(weights, (2, 3)).shape
(2, 3)
>>> random.randint(random.fold_in(noise, "epoch 1"), (4,), 0, 10).dtype
dtype('int64')

Notes
-----
The integers come from the counter-based generator Philox, whose raw stream NumPy guarantees. From
there on only ``+ - * /``, `sqrt`, integers and comparisons are used, which round the same way
everywhere: no draw depends on the machine, on the version of NumPy or on the numerics mode.

Every draw but `permutation`, and `choice` without replacement, is prefix-stable: the first values
of a longer draw are the values of a shorter one.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw (2011). Parallel random numbers: as easy as 1, 2,
3. SC '11.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from funcnn import _checks
from funcnn.types import Array, Key

if TYPE_CHECKING:
    from numpy.random import Philox
    from numpy.typing import DTypeLike

__all__ = [
    "NO_DRAW",
    "fold_in",
    "key",
    "normal",
    "split",
    "uniform",
]

NO_DRAW = Key(-1, -1)
"""The key that draws nothing: to learn the shapes of parameters without allocating them.

Its children are itself, and every draw from it is a read-only array of zeros of the right shape and
dtype, with all strides 0: one number in memory, whatever the shape.

Examples
--------
>>> from funcnn import random
>>> big = random.normal(random.NO_DRAW, (100_000, 100_000))
>>> big.shape, big.strides
((100000, 100000), (0, 0))
"""

_pair = Struct("<QQ")
_triple = Struct("<QQQ")
_CHUNK = 16384  # draws at a time: the scratch of a chunk stays in the cache


# --- keys -----------------------------------------------------------------------------------------


def key(seed: int) -> Key:
    """Make a key from a seed.

    Parameters
    ----------
    seed : int
        Any int of at least 0, however large.

    Returns
    -------
    Key
        The same key for the same seed, on every machine.

    Raises
    ------
    TypeError
        If `seed` is no int.
    ValueError
        If `seed` is negative.

    Examples
    --------
    >>> key(0) == key(0), key(0) == key(1)
    (True, False)
    """
    number = _checks.integer("key", "seed", seed, 0)
    return _hashed(_integer_bytes(number), b"funcnn key")


def split(key: Key, count: int = 2) -> tuple[Key, ...]:
    """Make several keys from one.

    Parameters
    ----------
    key : Key
        The parent, not to be drawn from any more.
    count : int
        How many.

    Returns
    -------
    tuple of Key
        Independent of each other, of the parent's draws and of all that is folded in. The first
        ones do not depend on `count`.

    Raises
    ------
    TypeError
        If `key` is no key or `count` no int.
    ValueError
        If `count` is negative.

    Examples
    --------
    >>> first, second = split(key(0))
    >>> first == second, split(key(0), 3)[:2] == (first, second)
    (False, True)
    """
    high, low = _words("split", key)
    count = _checks.integer("split", "count", count, 0)
    if key == NO_DRAW:
        return (NO_DRAW,) * count
    return tuple(
        _hashed(_triple.pack(high, low, index), b"funcnn split") for index in range(count)
    )


def fold_in(key: Key, data: int | str) -> Key:
    """Make a key from a key and a number or a name.

    Parameters
    ----------
    key : Key
        The parent.
    data : int or str
        A step, an index (at least 0), the name of a layer.

    Returns
    -------
    Key
        Another one for every `data`; the int 1 and the string ``"1"`` differ.

    Raises
    ------
    TypeError
        If `key` is no key, or `data` neither int nor str.
    ValueError
        If `data` is negative.

    Examples
    --------
    >>> parent = key(0)
    >>> fold_in(parent, "conv1") == fold_in(parent, "conv1")
    True
    >>> fold_in(parent, 1) == fold_in(parent, "1")
    False
    """
    high, low = _words("fold_in", key)
    if isinstance(data, str):
        payload, domain = data.encode("utf-8", "surrogatepass"), b"funcnn fold str"
    elif isinstance(data, (int, np.integer)) and not isinstance(data, bool):
        number = _checks.integer("fold_in", "data", data, 0)
        payload, domain = _integer_bytes(number), b"funcnn fold int"
    else:
        _checks.refuse_type("fold_in", f"`data` must be an int or a str, got {data!r}")
    if key == NO_DRAW:
        return NO_DRAW
    return _hashed(_pair.pack(high, low) + payload, domain)


def _hashed(payload: bytes, domain: bytes) -> Key:
    """A key from bytes; `domain` keeps apart what is made for different purposes."""
    return Key._make(_pair.unpack(blake2b(payload, digest_size=16, person=domain).digest()))


def _integer_bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "little")


def _words(who: str, key: Key) -> Key:
    """The key, once it is sure that it holds two words of 64 bits."""
    found = _checks.key(who, key)
    if found != NO_DRAW:
        for word in found:
            if not isinstance(word, int) or not 0 <= word < 2**64:
                _checks.refuse(who, f"`key` must be made by funcnn.random.key, got {found!r}")
    return found


# --- from bits to numbers -------------------------------------------------------------------------


def _stream(key: Key) -> Philox:
    from numpy.random import Philox  # deferred: it takes as long to import as the rest of NumPy

    return Philox(key=key.high << 64 | key.low)


def _chunks(key: Key, count: int, bits: int) -> Iterator[tuple[slice, Array]]:
    """Slices of `count` draws, each with its random unsigned integers of 32 or 64 bits."""
    stream = _stream(key)
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        words = stream.random_raw(((stop - start) * bits + 63) // 64)
        if bits == 32:  # the low half first, on big-endian machines too
            words = words.astype("<u8", copy=False).view("<u4")[: stop - start]
        yield slice(start, stop), words


def _empty(
    who: str, key: Key, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[Array, bool]:
    """An array to draw into, and whether to draw; all zeros in one place for `NO_DRAW`."""
    if _words(who, key) == NO_DRAW:
        return np.broadcast_to(dtype.type(0), shape), False
    return np.empty(shape, dtype), True


def _unit(key: Key, out: Array) -> None:
    """Fill with multiples of ``2**-24`` (float32) or ``2**-53`` (float64) in ``[0, 1)``."""
    flat = out.reshape(-1)
    bits, kept = (32, 24) if out.dtype == np.float32 else (64, 53)
    for part, words in _chunks(key, flat.size, bits):
        np.multiply(words >> (bits - kept), out.dtype.type(2.0**-kept), out=flat[part])


def uniform(
    key: Key,
    shape: tuple[int, ...],
    low: float = 0.0,
    high: float = 1.0,
    dtype: DTypeLike = np.float32,
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
        If `high` is not above `low`, in `dtype`.

    Notes
    -----
    ``low + u * (high - low)``, where ``u`` has 24 (float32) or 53 (float64) random bits.

    Examples
    --------
    >>> x = uniform(key(0), (1000,), -1.0, 1.0)
    >>> bool((x >= -1).all()), bool((x < 1).all()), x.dtype
    (True, True, dtype('float32'))
    """
    who = "uniform"
    shape, kind = _checks.sizes(who, shape), _checks.float_dtype(who, dtype)
    least = kind.type(_checks.number(who, "low", low))
    beyond = kind.type(_checks.number(who, "high", high))
    if not beyond > least:
        _checks.refuse(who, f"`high` must be above `low`, got {high!r} and {low!r}")
    out, drawing = _empty(who, key, shape, kind)
    if drawing:
        _unit(key, out)
        if (low, high) != (0.0, 1.0):
            np.multiply(out, beyond - least, out=out)
            np.add(out, least, out=out)
            # rounding may reach `high`, which does not belong
            np.minimum(out, np.nextafter(beyond, least), out=out)
    return out


# Wichura's rational functions, highest power first: numerator and denominator of each.
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
     4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
     1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
     2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
     4.2313330701600911252e1, 1.0),
)  # fmt: skip
_CENTRE_SINGLE = (
    (5.9109374720e1, 1.5929113202e2, 5.0434271938e1, 3.3871327179e0),
    (6.7187563600e1, 7.8757757664e1, 1.7895169469e1, 1.0),
)
_TAIL = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
     1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
     4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
     1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018480384940e0,
     2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
     5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
     7.86869131145613259100e-4, 1.48753613908506148525e-2 * 0 + 1.48753612908506148525e-2,
     1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip
_LOG2 = 0.69314718055994530942
_CENTRAL = 0.425  # up to this distance from the median the first function holds


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Horner's rule, in the dtype of `x`."""
    kind = x.dtype.type
    value = x * kind(coefficients[0])
    for coefficient in coefficients[1:-1]:
        value += kind(coefficient)
        value *= x
    value += kind(coefficients[-1])
    return value


def _minus_log(p: Array) -> Array:
    """``-log(p)`` for normal float64 numbers, without a table and without the C library."""
    bits = p.view(np.int64)
    exponent = (bits - np.int64(0x3FE6A09E667F3BCD)) >> 52  # of p / sqrt(0.5)
    m = (bits - (exponent << 52)).view(np.float64)  # in [sqrt(0.5), sqrt(2)): p = m * 2**exponent
    s = (m - 1.0) / (m + 1.0)
    # log(m) = 2 artanh(s) = 2 (s + s**3 / 3 + s**5 / 5 + ...), and s**2 < 0.03
    series = _polynomial(tuple(2.0 / power for power in range(21, 0, -2)), s * s)
    return -(exponent * _LOG2 + s * series)


def _tail_quantile(p: Array) -> Array:
    """How far out a tail of a normal distribution begins that holds probability `p` < 0.075."""
    r = np.sqrt(_minus_log(p))
    x = r - 1.6
    z = _polynomial(_TAIL[0], x) / _polynomial(_TAIL[1], x)
    far = np.flatnonzero(r > 5.0)
    if far.size:
        x = r[far] - 5.0
        z[far] = _polynomial(_FAR_TAIL[0], x) / _polynomial(_FAR_TAIL[1], x)
    return z


def _quantile(q: Array) -> Array:
    """The normal quantile at probability ``0.5 + q``, |q| < 0.5."""
    r = _CENTRAL * _CENTRAL - q * q
    z = q * _polynomial(_CENTRE[0], r) / _polynomial(_CENTRE[1], r)
    tails = np.flatnonzero(np.abs(q) > _CENTRAL)
    p = q[tails]
    z[tails] = np.copysign(_tail_quantile(0.5 - np.abs(p)), p)
    return z


def _standard_normal(key: Key, out: Array) -> None:
    flat = out.reshape(-1)
    if out.dtype == np.float64:
        for part, words in _chunks(key, flat.size, 64):
            odd = (words >> 11).view(np.int64)
            odd <<= 1
            odd -= 2**53 - 1  # symmetric about 0, never 0
            flat[part] = _quantile(odd * 2.0**-54)
        return
    for part, words in _chunks(key, flat.size, 32):
        flat[part] = _quantile((words - (2.0**31 - 0.5)) * 2.0**-32)


def normal(
    key: Key,
    shape: tuple[int, ...],
    mean: float = 0.0,
    std: float = 1.0,
    dtype: DTypeLike = np.float32,
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
        If `std` is negative, or a number not finite.

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
    >>> x = normal(key(0), (10_000,), mean=3.0, std=0.5)
    >>> print(f"{x.mean():.2f} {x.std():.2f}")
    3.00 0.50
    """
    who = "normal"
    shape, kind = _checks.sizes(who, shape), _checks.float_dtype(who, dtype)
    mean = _checks.number(who, "mean", mean)
    std = _checks.number(who, "std", std, minimum=0.0)
    out, drawing = _empty(who, key, shape, kind)
    if drawing:
        _standard_normal(key, out)
        if std != 1.0:
            np.multiply(out, kind.type(std), out=out)
        if mean != 0.0:
            np.add(out, kind.type(mean), out=out)
    return out
