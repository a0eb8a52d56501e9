"""From a key to random bits, and from those to numbers between 0 and 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from funcnn.numerics.twins import compiled_in
from funcnn.random.keys import NO_DRAW, checked
from funcnn.types import Array, Key

if TYPE_CHECKING:
    from numpy.random import Philox

_compiled = compiled_in(*["funcnn.random.compiled"] * 2)
CHUNK = 16384  # draws at a time: the scratch of a chunk stays in the cache


def generator(key: Key) -> Philox:
    from numpy.random import Philox  # deferred: it is slow to import

    return Philox(key=key.high << 64 | key.low)


def chunks(key: Key, count: int, bits: int) -> Iterator[tuple[slice, Array]]:
    """Slices of `count` draws, each with its random unsigned integers of 32 or 64 bits."""
    stream = generator(key)
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        words = stream.random_raw(((stop - start) * bits + 63) // 64)
        if bits == 32:  # the low half first, on big-endian machines too
            words = words.astype("<u8", copy=False).view("<u4")[: stop - start]
        yield slice(start, stop), words


def empty(key: Key, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, bool]:
    """An array to draw into, and whether to draw."""
    if checked(key) == NO_DRAW:
        return nothing(shape, dtype), False
    return np.empty(shape, dtype), True


def nothing(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """What `NO_DRAW` draws."""
    return np.broadcast_to(np.zeros((), dtype), shape)


@_compiled
def fill_unit(key: Key, out: Array) -> None:
    """Fill with multiples of ``2**-24`` (float32) or ``2**-53`` (float64) in ``[0, 1)``."""
    flat = out.reshape(-1)
    bits, kept = (32, 24) if out.dtype == np.float32 else (64, 53)
    for part, words in chunks(key, flat.size, bits):
        whole = (words >> (bits - kept)).astype(out.dtype)
        np.multiply(whole, out.dtype.type(2.0**-kept), out=flat[part])
