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

import math
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from funcnn import checks
from funcnn.types import Array, Key

if TYPE_CHECKING:
    from numpy.random import Philox
    from numpy.typing import ArrayLike, DTypeLike

__all__ = [
    "NO_DRAW",
    "bernoulli",
    "choice",
    "fold_in",
    "key",
    "normal",
    "permutation",
    "randint",
    "split",
    "truncated_normal",
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
_MOST_KEYS = 2**24  # half a minute's work
_CHUNK = 16384  # draws at a time: the scratch of a chunk stays in the cache


# --- keys -----------------------------------------------------------------------------------------


@checks.named
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
    number = _whole("seed", seed, 0)
    return _hashed(_integer_bytes(number), b"funcnn key")


@checks.named
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
    high, low = _words(key)
    count = checks.Integer(0).check("count", count)
    if count > _MOST_KEYS:
        checks.refuse(f"`count` must be at most {_MOST_KEYS}, got {checks.shown(count)}: use fold_in")
    if key == NO_DRAW:
        return (NO_DRAW,) * count
    return tuple(_hashed(_triple.pack(high, low, index), b"funcnn split") for index in range(count))


@checks.named
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
    high, low = _words(key)
    if isinstance(data, str):
        payload, domain = data.encode("utf-8", "surrogatepass"), b"funcnn fold str"
    elif isinstance(data, (int, np.integer)) and not isinstance(data, bool):
        number = _whole("data", data, 0)
        payload, domain = _integer_bytes(number), b"funcnn fold int"
    else:
        checks.refuse_type(f"`data` must be an int or a str, got {checks.shown(data)}")
    if key == NO_DRAW:
        return NO_DRAW
    return _hashed(_pair.pack(high, low) + payload, domain)


def _whole(name: str, value: object, minimum: int | None = None) -> int:
    """An int of any length."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        checks.refuse_type(f"`{name}` must be an int, got {checks.shown(value)}")
    if minimum is not None and value < minimum:
        checks.refuse(f"`{name}` must be at least {minimum}, got {checks.shown(value)}")
    return int(value)


def _hashed(payload: bytes, domain: bytes) -> Key:
    """A key from bytes; `domain` keeps apart what is made for different purposes."""
    return Key._make(_pair.unpack(blake2b(payload, digest_size=16, person=domain).digest()))


def _integer_bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "little")


def _words(key: Key) -> Key:
    """The key, once it is sure that it holds two words of 64 bits."""
    found = checks.key(key)
    if found != NO_DRAW:
        for word in found:
            if not isinstance(word, int) or not 0 <= word < 2**64:
                checks.refuse(f"`key` must be made by funcnn.random.key, got {checks.shown(found)}")
    return found


# --- from bits to numbers -------------------------------------------------------------------------


def _stream(key: Key) -> Philox:
    from numpy.random import Philox  # deferred: it is slow to import

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


def _empty(key: Key, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, bool]:
    """An array to draw into, and whether to draw."""
    if _words(key) == NO_DRAW:
        return _nothing(shape, dtype), False
    return np.empty(shape, dtype), True


def _nothing(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """What `NO_DRAW` draws."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _unit(key: Key, out: Array) -> None:
    """Fill with multiples of ``2**-24`` (float32) or ``2**-53`` (float64) in ``[0, 1)``."""
    flat = out.reshape(-1)
    bits, kept = (32, 24) if out.dtype == np.float32 else (64, 53)
    for part, words in _chunks(key, flat.size, bits):
        whole = (words >> (bits - kept)).astype(out.dtype)
        np.multiply(whole, out.dtype.type(2.0**-kept), out=flat[part])


@checks.named
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
        If `high` is not above `low` in `dtype`, or too far for it.

    Notes
    -----
    ``low + u * (high - low)``, where ``u`` has 24 (float32) or 53 (float64) random bits.

    Examples
    --------
    >>> x = uniform(key(0), (1000,), -1.0, 1.0)
    >>> bool((x >= -1).all()), bool((x < 1).all()), x.dtype
    (True, True, dtype('float32'))
    """
    shape, kind = checks.sizes(shape), checks.float_dtype(dtype)
    limit = float(np.finfo(kind).max)
    low = checks.Number(-limit, maximum=limit).check("low", low)
    high = checks.Number(maximum=limit).check("high", high)
    if not high - low <= limit:
        checks.refuse(f"`high` - `low` must fit {kind}, got {high!r} and {low!r}")
    if not (high > low and kind.type(high) > kind.type(low)):
        checks.refuse(f"`high` must be above `low`, got {high!r} and {low!r}")
    least, beyond = kind.type(low), kind.type(high)
    out, drawing = _empty(key, shape, kind)
    if drawing:
        _unit(key, out)
        if (low, high) != (0.0, 1.0):
            np.multiply(out, beyond - least, out=out)
            np.add(out, least, out=out)
            # rounding may reach `high`, which does not belong
            np.minimum(out, np.nextafter(beyond, least), out=out)
    return out


# Wichura's rational functions, highest power first: numerator and denominator. AS 241 gives one set
# for 16 digits (PPND16) and one for 7 (PPND7).
_Rational = tuple[tuple[float, ...], tuple[float, ...]]
_CENTRE: _Rational = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
     4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
     1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
     2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
     4.2313330701600911252e1, 1.0),
)  # fmt: skip
_CENTRE_SINGLE: _Rational = (
    (5.9109374720e1, 1.5929113202e2, 5.0434271938e1, 3.3871327179e0),
    (6.7187563600e1, 7.8757757664e1, 1.7895169469e1, 1.0),
)
_TAIL: _Rational = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
     1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
     4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
     1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
     2.05319162663775882187e0, 1.0),
)  # fmt: skip
_TAIL_SINGLE: _Rational = (
    (1.7023821103e-1, 1.3067284816e0, 2.7568153900e0, 1.4234372777e0),
    (1.2021132975e-1, 7.3700164250e-1, 1.0),
)
_FAR_TAIL: _Rational = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
     5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
     7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
     5.99832206555887937690e-1, 1.0),
)  # fmt: skip
_CENTRAL = 0.425  # the centre reaches this far from the median, in probability
_LOG2 = 0.69314718055994530942


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Horner's rule, in the dtype of `x`."""
    kind = x.dtype.type
    value: Array = x * kind(coefficients[0])
    for coefficient in coefficients[1:-1]:
        value += kind(coefficient)
        value *= x
    value += kind(coefficients[-1])
    return value


def _ratio(rational: _Rational, x: Array) -> Array:
    value = _polynomial(rational[0], x)
    value /= _polynomial(rational[1], x)
    return value


def _minus_log(p: Array) -> Array:
    """``-log(p)`` of positive normal numbers, without the C library's logarithm."""
    if p.dtype == np.float64:
        bits, shift, root_half, last = p.view(np.int64), 52, 0x3FE6A09E667F3BCD, 19
    else:
        bits, shift, root_half, last = p.view(np.int32), 23, 0x3F3504F3, 9
    exponent = (bits - root_half) >> shift
    m = (bits - (exponent << shift)).view(p.dtype)  # sqrt(0.5) <= m < sqrt(2), p = m 2**exponent
    s = (m - 1) / (m + 1)
    # log(m) = 2 artanh(s) = 2 (s + s**3 / 3 + s**5 / 5 + ...), where s**2 < 0.03
    log_m = s * _polynomial(tuple(2.0 / power for power in range(last, 0, -2)), s * s)
    log_p: Array = exponent.astype(p.dtype) * p.dtype.type(_LOG2) + log_m
    return -log_p


def _tail_quantile(p: Array) -> Array:
    """How far from 0 a tail of probability `p` begins, where p < 0.5 - `_CENTRAL`."""
    r = np.sqrt(_minus_log(p))
    if p.dtype == np.float32:
        return _ratio(_TAIL_SINGLE, r - np.float32(1.6))
    z = _ratio(_TAIL, r - 1.6)
    far = np.flatnonzero(r > 5.0)
    if far.size:
        z[far] = _ratio(_FAR_TAIL, r[far] - 5.0)
    return z


def _tails(q: Array) -> Array:
    """Where `q`, the probability between the median and the quantile, leaves the centre."""
    found: Array = np.flatnonzero(np.abs(q) > q.dtype.type(_CENTRAL))
    return found


def _quantile(q: Array, tails: Array, p: Array) -> Array:
    """The normal quantile of ``0.5 + q``; `p` is ``0.5 - abs(q)``, at `tails` only."""
    single = q.dtype == np.float32
    r = q.dtype.type(_CENTRAL * _CENTRAL) - q * q
    z = _ratio(_CENTRE_SINGLE if single else _CENTRE, r)
    z *= q
    z[tails] = np.copysign(_tail_quantile(p), q[tails])
    return z


def _standard_normal(key: Key, out: Array) -> None:
    flat = out.reshape(-1)
    if out.dtype == np.float64:
        for part, words in _chunks(key, flat.size, 64):
            q = ((words >> 11).view(np.int64) * 2 - (2**53 - 1)) * 2.0**-54  # odd, so never 0
            tails = _tails(q)
            flat[part] = _quantile(q, tails, 0.5 - np.abs(q[tails]))
        return
    step = np.float32(2.0**-32)
    for part, words in _chunks(key, flat.size, 32):
        q = (words ^ np.uint32(2**31)).view(np.int32).astype(np.float32) * step + step / 2
        tails = _tails(q)
        ends = words[tails]
        np.minimum(ends, ~ends, out=ends)  # `q` is too coarse here: count from the nearer end
        flat[part] = _quantile(q, tails, ends.astype(np.float32) * step + step / 2)


@checks.named
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
    >>> x = normal(key(0), (10_000,), mean=3.0, std=0.5)
    >>> print(f"{x.mean():.2f} {x.std():.2f}")
    3.00 0.50
    """
    shape, kind = checks.sizes(shape), checks.float_dtype(dtype)
    limit = float(np.finfo(kind).max) / 16  # no draw is that many standard deviations out
    mean = checks.Number(minimum=-limit, maximum=limit).check("mean", mean)
    std = checks.Number(minimum=0.0, maximum=limit).check("std", std)
    out, drawing = _empty(key, shape, kind)
    if drawing:
        _standard_normal(key, out)
        if std != 1.0:
            np.multiply(out, kind.type(std), out=out)
        if mean != 0.0:
            np.add(out, kind.type(mean), out=out)
    return out


@lru_cache(maxsize=64)
def _beyond(x: float) -> float:
    """The probability beyond ``x >= 0``: the least one whose quantile is at most `x`."""
    # The bits of positive floats are ordered as the floats are: bisect them.
    ends = np.array([1e-300, 0.5]).view(np.int64)
    least, most = int(ends[0]), int(ends[1])
    while least < most:
        middle = (least + most) // 2
        p = np.array([middle], np.int64).view(np.float64)
        tails = _tails(0.5 - p)
        if _quantile(0.5 - p, tails, p[tails])[0] > x:
            least = middle + 1
        else:
            most = middle
    return float(np.array([least], np.int64).view(np.float64)[0])


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
    >>> x = truncated_normal(key(0), (1000,), lower=0.0)
    >>> bool(x.min() >= 0), bool(x.max() <= 2)
    (True, True)
    """
    shape, kind = checks.sizes(shape), checks.float_dtype(dtype)
    lower, upper = checks.Number().check("lower", lower), checks.Number().check("upper", upper)
    if not upper > lower:
        checks.refuse(f"`upper` must be above `lower`, got {upper!r} and {lower!r}")
    out, drawing = _empty(key, shape, kind)
    # Probability is counted from the end where it is small: from the tail if both bounds lie on one
    # side, which may be the far end, else from the median.
    one_side = lower > 0 or upper < 0
    low, high = _beyond(abs(lower)), _beyond(abs(upper))
    if one_side and low == high:
        checks.refuse(f"`lower` and `upper` must have room between them, got {lower!r} and {upper!r}")
    if drawing:
        flat = out.reshape(-1)
        for part, words in _chunks(key, flat.size, 64):
            unit = (words >> 11) * 2.0**-53
            if one_side:
                p = low + unit * (high - low)
                q = np.copysign(0.5 - p, lower)
            else:
                q = (low - 0.5) + unit * ((0.5 - high) - (low - 0.5))
                p = np.maximum(0.5 - np.abs(q), 2.0**-54)
            tails = _tails(q)
            flat[part] = _quantile(q, tails, p[tails])
        limit = float(np.finfo(kind).max)
        np.clip(out, kind.type(max(lower, -limit)), kind.type(min(upper, limit)), out=out)
    return out


# --- events and integers --------------------------------------------------------------------------


@checks.named
def bernoulli(key: Key, probability: float, shape: tuple[int, ...] = ()) -> Array:
    """Draw True with a probability, else False.

    Parameters
    ----------
    key : Key
        Where the randomness comes from.
    probability : float
        How often True, from 0 to 1; a multiple of ``2**-32`` is used.
    shape : tuple of int
        The shape of the result.

    Returns
    -------
    array
        Of `shape`, and bool.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `probability` is not within 0 to 1.

    Examples
    --------
    >>> int(bernoulli(key(0), 0.25, (10_000,)).sum()) // 100
    25
    """
    shape = checks.sizes(shape)
    number = checks.Number(minimum=0.0, maximum=1.0).check("probability", probability)
    out, drawing = _empty(key, shape, np.dtype(np.bool_))
    if drawing:
        flat, threshold = out.reshape(-1), round(number * 2**32)
        if threshold == 2**32:
            flat[...] = True
        else:
            for part, words in _chunks(key, flat.size, 32):
                np.less(words, np.uint32(threshold), out=flat[part])
    return out


def _below(key: Key, span: int, count: int) -> Array:
    """`count` integers from 0 to ``span - 1`` in uint64, each exactly as likely."""
    stream, out, filled = _stream(key), np.empty(count, np.uint64), 0
    last = 2**64 - 2**64 % span - 1  # beyond it, the small remainders would come up more often
    while filled < count:
        words = stream.random_raw(min(count - filled, _CHUNK))
        if words.max() > last:  # hardly ever, unless the span is huge
            words = words[words <= np.uint64(last)]
        if span != 2**64:
            words -= words // np.uint64(span) * np.uint64(span)
        out[filled : filled + words.size] = words
        filled += words.size
    return out


@checks.named
def randint(
    key: Key,
    shape: tuple[int, ...],
    low: int,
    high: int,
    dtype: DTypeLike = np.int64,
) -> Array:
    """Draw integers from `low` to ``high - 1``, all exactly as likely.

    Parameters
    ----------
    key : Key
        Where the randomness comes from.
    shape : tuple of int
        The shape of the result.
    low, high : int
        The least integer, and the first one beyond the greatest.
    dtype : dtype
        Any integer dtype.

    Returns
    -------
    array
        Of `shape` and `dtype`.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `high` is not above `low`, or one of the integers does not fit `dtype`.

    Notes
    -----
    The remainder of 64 random bits; those few that would make the draw uneven are passed over.

    Examples
    --------
    >>> sorted(set(randint(key(0), (100,), 1, 7).tolist()))
    [1, 2, 3, 4, 5, 6]
    """
    shape = checks.sizes(shape)
    kind = checks.integer_dtype(dtype)
    low, high = _whole("low", low), _whole("high", high)
    if not high > low:
        checks.refuse(f"`high` must be above `low`, got {high} and {low}")
    bounds = np.iinfo(kind)
    if low < bounds.min or high - 1 > bounds.max:
        checks.refuse(
            f"`low` and `high` must lie in {bounds.min}..{int(bounds.max) + 1} for {kind}, "
            f"got {checks.shown(low)} and {checks.shown(high)}",
        )
    if _words(key) == NO_DRAW:
        return _nothing(shape, kind)
    words = _below(key, high - low, math.prod(shape))
    words += np.uint64(low % 2**64)
    return words.view(np.int64).astype(kind, copy=False).reshape(shape)


# --- orders and choices ---------------------------------------------------------------------------


def _order(key: Key, count: int) -> Array:
    """0 to ``count - 1`` in random order: sorted by random bits, with the number in the low bits."""
    low_bits = np.uint64((1 << max(count - 1, 0).bit_length()) - 1)
    words = _stream(key).random_raw(count)
    words &= ~low_bits
    words |= np.arange(count, dtype=np.uint64)
    words.sort()  # no two are equal, so every algorithm sorts them alike
    words &= low_bits
    return words.view(np.int64)


@checks.named
def permutation(key: Key, n: int | Array) -> Array:
    """Draw an order of the first integers, or shuffle an array along its first axis.

    Parameters
    ----------
    key : Key
        Where the randomness comes from.
    n : int or array
        How many integers, or what to shuffle.

    Returns
    -------
    array
        0 to ``n - 1`` as int64, or a shuffled copy.

    Raises
    ------
    TypeError
        If `key` is no key, or `n` neither int nor array.
    ValueError
        If `n` is negative, or an array without axes.

    Notes
    -----
    The integers are sorted by ``64 - log2(n)`` random bits each.

    Examples
    --------
    >>> sorted(permutation(key(0), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    count = _count("n", n)
    checks.sizes((count,))
    drawing = _words(key) != NO_DRAW
    if isinstance(n, np.ndarray):
        return n[_order(key, count)] if drawing else _nothing(n.shape, n.dtype)
    return _order(key, count) if drawing else _nothing((count,), np.dtype(np.int64))


def _count(name: str, value: object) -> int:
    """The length of an array's first axis, or an int that stands for it."""
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            checks.refuse(f"`{name}` must have at least 1 axis, got shape ()")
        return int(value.shape[0])
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        checks.refuse_type(f"`{name}` must be an int or a NumPy array, got {checks.shown(value)}")
    return checks.Integer(0).check(name, value)


@checks.named
def choice(
    key: Key,
    n: int | Array,
    shape: tuple[int, ...] = (),
    replace: bool = True,
    weights: ArrayLike | None = None,
) -> Array:
    """Draw from the first integers, or from the entries of an array's first axis.

    Parameters
    ----------
    key : Key
        Where the randomness comes from.
    n : int or array
        How many integers there are to choose from, or the entries.
    shape : tuple of int
        How many to choose.
    replace : bool
        Whether the same one may be chosen again.
    weights : array_like, optional
        The probability of each, ``(n,)``; without it, all are equally likely.

    Returns
    -------
    array
        Integers (int64) of `shape`, or entries, ``(*shape, *n.shape[1:])``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If there is nothing or not enough to choose from, or `weights` are no probabilities.

    Notes
    -----
    With weights, a uniform number is looked up in their running sum. Without replacement, each
    entry gets an exponential waiting time of mean ``1 / weight``, and the first ones are chosen.

    References
    ----------
    P. S. Efraimidis, P. G. Spirakis (2006). Weighted random sampling with a reservoir. Information
    Processing Letters 97 (5).

    Examples
    --------
    >>> int(choice(key(0), 3, weights=[0.0, 1.0, 0.0]))
    1
    >>> sorted(choice(key(0), 4, (4,), replace=False).tolist())
    [0, 1, 2, 3]
    """
    shape = checks.sizes(shape)
    replace = checks.Flag().check("replace", replace)
    size, count = math.prod(shape), _count("n", n)
    if count == 0:
        checks.refuse(f"`n` must hold something to choose from, got {n!r}")
    chances = None if weights is None else _chances(weights, count)
    most = count if chances is None else np.count_nonzero(chances)
    if not replace and size > most:
        checks.refuse(f"`shape` must be at most {most} entries without replacement, got {shape}")
    if _words(key) == NO_DRAW:
        if isinstance(n, np.ndarray):
            return _nothing(shape + n.shape[1:], n.dtype)
        return _nothing(shape, np.dtype(np.int64))
    if chances is None:
        index = _below(key, count, size).view(np.int64) if replace else _order(key, count)[:size]
    elif replace:
        unit = np.empty(size)
        _unit(key, unit)
        running = np.cumsum(chances)
        index = np.searchsorted(running, unit * running[-1], side="right")
        # rounding may reach the sum, which is beyond the last one that has a chance
        index = np.minimum(index, np.flatnonzero(chances)[-1])
    else:
        unit = np.empty(count)
        _unit(key, unit)
        likely = np.flatnonzero(chances)
        waits = _minus_log(1.0 - unit[likely]) / chances[likely]
        index = likely[np.argsort(waits, kind="stable")[:size]]
    index = index.astype(np.int64, copy=False).reshape(shape)
    return n[index] if isinstance(n, np.ndarray) else index


def _chances(weights: ArrayLike, count: int) -> Array:
    try:
        found = np.asarray(weights, np.float64)
    except (TypeError, ValueError, OverflowError):
        checks.refuse_type(f"`weights` must be numbers, got {checks.shown(weights)}")
    if found.shape != (count,):
        checks.refuse(f"`weights` must have shape ({count},), got shape {found.shape}")
    if not (found >= 0).all():
        checks.refuse(f"`weights` must be at least 0, got {found.min()}")
    total = np.cumsum(found)[-1]
    if not abs(total - 1.0) <= 1e-5:  # as far as float32 weights may be off
        checks.refuse(f"`weights` must sum to 1, got a sum of {total:.6g}")
    return found
