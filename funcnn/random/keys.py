"""Keys: values that randomness is drawn from, made from seeds, names and each other."""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct

import numpy as np

from funcnn import checks
from funcnn.types import Key

__all__ = ["NO_DRAW", "fold_in", "key", "split"]

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
    number = whole("seed", seed, 0)
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
    high, low = checked(key)
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
    high, low = checked(key)
    if isinstance(data, str):
        return child(key, data)
    if not isinstance(data, (int, np.integer)) or isinstance(data, bool):
        checks.refuse_type(f"`data` must be an int or a str, got {checks.shown(data)}")
    payload = _integer_bytes(whole("data", data, 0))
    if key == NO_DRAW:
        return NO_DRAW
    return _hashed(_pair.pack(high, low) + payload, b"funcnn fold int")


def child(key: Key, name: str) -> Key:
    """`fold_in` of a name into a key that is `checked`."""
    if key == NO_DRAW:
        return NO_DRAW
    payload = _pair.pack(*key) + name.encode("utf-8", "surrogatepass")
    found = blake2b(payload, digest_size=16, person=b"funcnn fold str")  # `_hashed`, without a call
    return Key._make(_pair.unpack(found.digest()))


def whole(name: str, value: object, minimum: int | None = None) -> int:
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


def checked(key: Key) -> Key:
    """The key, once it is sure that it holds two words of 64 bits."""
    found = checks.key(key)
    if found != NO_DRAW:
        for word in found:
            if not isinstance(word, int) or not 0 <= word < 2**64:
                checks.refuse(f"`key` must be made by funcnn.random.key, got {checks.shown(found)}")
    return found
