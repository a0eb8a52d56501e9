"""Draws of events, integers, orders and choices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from funcnn import checks
from funcnn.numerics.twins import compiled_in
from funcnn.random.bits import CHUNK, chunks, empty, fill_unit, generator, nothing
from funcnn.random.keys import NO_DRAW, checked, whole
from funcnn.random.quantiles import minus_log
from funcnn.types import Array, Key

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

_compiled = compiled_in(*["funcnn.random.compiled"] * 2)

__all__ = ["bernoulli", "choice", "permutation", "randint"]


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
    >>> from funcnn import random
    >>> int(random.bernoulli(random.key(0), 0.25, (10_000,)).sum()) // 100
    25
    """
    shape = checks.sizes(shape)
    number = checks.Number(minimum=0.0, maximum=1.0).check("probability", probability)
    out, drawing = empty(key, shape, np.dtype(np.bool_))
    if drawing:
        threshold = round(number * 2**32)
        if threshold == 2**32:
            out[...] = True
        else:
            fill_events(key, threshold, out)
    return out


@_compiled
def fill_events(key: Key, threshold: int, out: Array) -> None:
    """Fill with True where 32 random bits are below a threshold."""
    flat = out.reshape(-1)
    for part, words in chunks(key, flat.size, 32):
        np.less(words, np.uint32(threshold), out=flat[part])


def _below(key: Key, span: int, count: int) -> Array:
    """`count` integers from 0 to ``span - 1`` in uint64, each exactly as likely."""
    stream, out, filled = generator(key), np.empty(count, np.uint64), 0
    last = 2**64 - 2**64 % span - 1  # beyond it, the small remainders would come up more often
    while filled < count:
        words = stream.random_raw(min(count - filled, CHUNK))
        if words.max() > last:  # hardly ever, unless the span is huge
            words = words[words <= np.uint64(last)]
        if span != 2**64:
            words -= words // np.uint64(span) * np.uint64(span)
        out[filled : filled + words.size] = words
        filled += words.size
    return out


@checks.named
def randint(
    key: Key, shape: tuple[int, ...], low: int, high: int, dtype: DTypeLike = np.int64
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
    >>> from funcnn import random
    >>> sorted(set(random.randint(random.key(0), (100,), 1, 7).tolist()))
    [1, 2, 3, 4, 5, 6]
    """
    shape = checks.sizes(shape)
    kind = checks.integer_dtype(dtype)
    low, high = whole("low", low), whole("high", high)
    if not high > low:
        checks.refuse(f"`high` must be above `low`, got {high} and {low}")
    bounds = np.iinfo(kind)
    if low < bounds.min or high - 1 > bounds.max:
        checks.refuse(
            f"`low` and `high` must lie in {bounds.min}..{int(bounds.max) + 1} for {kind}, "
            f"got {checks.shown(low)} and {checks.shown(high)}",
        )
    if checked(key) == NO_DRAW:
        return nothing(shape, kind)
    words = _below(key, high - low, math.prod(shape))
    words += np.uint64(low % 2**64)
    return words.view(np.int64).astype(kind, copy=False).reshape(shape)


def _order(key: Key, count: int) -> Array:
    """0 to ``count - 1`` in random order: sorted by random bits, with the number in the low bits."""
    low_bits = np.uint64((1 << max(count - 1, 0).bit_length()) - 1)
    words = generator(key).random_raw(count)
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
    >>> from funcnn import random
    >>> sorted(random.permutation(random.key(0), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    count = _count("n", n)
    checks.sizes((count,))
    drawing = checked(key) != NO_DRAW
    if isinstance(n, np.ndarray):
        return n[_order(key, count)] if drawing else nothing(n.shape, n.dtype)
    return _order(key, count) if drawing else nothing((count,), np.dtype(np.int64))


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
    >>> from funcnn import random
    >>> int(random.choice(random.key(0), 3, weights=[0.0, 1.0, 0.0]))
    1
    >>> sorted(random.choice(random.key(0), 4, (4,), replace=False).tolist())
    [0, 1, 2, 3]
    """
    shape = checks.sizes(shape)
    replace = checks.Flag().check("replace", replace)
    size, count = math.prod(shape), _count("n", n)
    if count == 0:
        checks.refuse(f"`n` must hold something to choose from, got {checks.shown(n)}")
    chances = None if weights is None else _chances(weights, count)
    most = count if chances is None else np.count_nonzero(chances)
    if not replace and size > most:
        checks.refuse(f"`shape` must be at most {most} entries without replacement, got {shape}")
    if checked(key) == NO_DRAW:
        if isinstance(n, np.ndarray):
            return nothing(shape + n.shape[1:], n.dtype)
        return nothing(shape, np.dtype(np.int64))
    if chances is None:
        index = _below(key, count, size).view(np.int64) if replace else _order(key, count)[:size]
    elif replace:
        unit = np.empty(size)
        fill_unit(key, unit)
        running = np.cumsum(chances)
        index = np.searchsorted(running, unit * running[-1], side="right")
        # rounding may reach the sum, which is beyond the last one that has a chance
        index = np.minimum(index, np.flatnonzero(chances)[-1])
    else:
        unit = np.empty(count)
        fill_unit(key, unit)
        likely = np.flatnonzero(chances)
        waits = minus_log(1.0 - unit[likely]) / chances[likely]
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
