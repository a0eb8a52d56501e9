"""Draws compiled: bits, and what becomes of them, in one pass. The readable twins are beside this.

The generator Philox makes four words of 64 bits of each number that it counts, from 1 on, by ten rounds
of two products. Its bits, and so all draws, are NumPy's.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw (2011). Parallel random numbers: as easy as 1, 2,
3. SC '11.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from funcnn.numerics.handover import divided_exactly
from funcnn.numerics.jit import Later, OutBytes, Single, Table, inlined_exactly, intrinsic
from funcnn.random import quantiles
from funcnn.types import Array, Key

ir: Any = Later("llvmlite.ir")
types: Any = Later("numba.core.types")

_one = np.float32
_FIRST, _SECOND = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_WEYL, _OTHER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_BIG_ENDIAN = sys.byteorder == "big"  # there the halves of a word lie the other way round
_WORDS = 1024  # at a time, which stay in the cache
_UNIT, _STEP, _HALF = _one(2.0**-24), _one(2.0**-32), _one(2.0**-33)


def _singles(*polynomials: Any) -> Any:
    return tuple(tuple(map(_one, coefficients)) for coefficients in polynomials)


_CENTRE, _UNDER_CENTRE = _singles(*quantiles.CENTRE_SINGLE)
_TAIL, _UNDER_TAIL = _singles(*quantiles.TAIL_SINGLE)
(_LOG,) = _singles(quantiles.LOG_SINGLE)
_LOG2, _CENTRAL, _SQUARE = map(
    _one, (quantiles.LOG2, quantiles.CENTRAL, quantiles.CENTRAL * quantiles.CENTRAL)
)
_SHIFT, _ROOT_HALF = _one(1.6), np.int32(quantiles.ROOT_HALF_SINGLE)


def _key(key: Key) -> Array:
    return np.array([key.low, key.high], np.uint64).view(np.int64)


def _blocks(out: Array) -> int:
    """How many times so many words are drawn, of 32 bits for each number."""
    return -(-out.size // (2 * _WORDS))


def fill_unit(key: Key, out: Array) -> Any:
    """`funcnn.random.bits.fill_unit`, of float32."""
    if out.dtype != np.float32 or _BIG_ENDIAN:
        return NotImplemented
    _floats(_key(key), out.reshape(-1), 0, 0, _blocks(out))
    return None


def fill_events(key: Key, threshold: int, out: Array) -> Any:
    """`funcnn.random.discrete.fill_events`."""
    if _BIG_ENDIAN:
        return NotImplemented
    _events(_key(key), out.view(np.uint8).reshape(-1), threshold, 0, _blocks(out))
    return None


def standard_normal(key: Key, out: Array) -> Any:
    """`funcnn.random.continuous.standard_normal`, of float32."""
    if out.dtype != np.float32 or _BIG_ENDIAN:
        return NotImplemented
    _floats(_key(key), out.reshape(-1), 1, 0, _blocks(out))
    return None


@intrinsic
def _high(context: Any, a: Any, b: Any) -> Any:
    """The upper half of a product of words."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(one, wide) for one in args))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@inlined_exactly
def _fill(words: Any, count: int, key: Any) -> None:
    """The words that belong to the numbers from `count` on."""
    for i in range(len(words) // 4):
        a, b, c, d = np.uint64(count + i), np.uint64(0), np.uint64(0), np.uint64(0)
        k, l = np.uint64(key[0]), np.uint64(key[1])
        for _ in range(10):
            a, b, c, d = _high(_SECOND, c) ^ b ^ k, _SECOND * c, _high(_FIRST, a) ^ d ^ l, _FIRST * a
            k += _WEYL
            l += _OTHER
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = a, b, c, d


@inlined_exactly
def _polynomial(coefficients: Any, x: Any) -> Any:
    value = coefficients[0]
    for i in range(1, len(coefficients)):
        value = value * x + coefficients[i]
    return value


@inlined_exactly
def _minus_log(p: Any) -> Any:
    bits = _one(p).view(np.int32)
    exponent = (bits - _ROOT_HALF) >> np.int32(23)
    m = np.int32(bits - (exponent << np.int32(23))).view(np.float32)
    s = (m - _one(1)) / (m + _one(1))
    return -(_one(exponent) * _LOG2 + s * _polynomial(_LOG, s * s))


@inlined_exactly
def _quantile(word: Any) -> Any:
    q = _one(np.int32(word ^ np.uint32(0x80000000))) * _STEP + _HALF
    r = _SQUARE - q * q
    centre = _polynomial(_CENTRE, r) / _polynomial(_UNDER_CENTRE, r) * q
    end = min(word, ~word)
    far = np.sqrt(_minus_log(_one(end) * _STEP + _HALF)) - _SHIFT
    tail = _polynomial(_TAIL, far) / _polynomial(_UNDER_TAIL, far)
    tail = -tail if q < _one(0) else tail
    return tail if abs(q) > _CENTRAL else centre


@divided_exactly
def _floats(key: Table, out: Single, normal: int, low: int, high: int) -> None:
    """Uniform numbers, or normal ones: the compiler makes a loop of each."""
    words = np.empty(_WORDS, np.uint64)
    draws = words.view(np.uint32)
    for start in range(low * len(draws), min(high * len(draws), len(out)), len(draws)):
        _fill(words, 1 + start // 8, key)
        part = out[start : start + len(draws)]
        for i in range(len(part)):
            part[i] = _quantile(draws[i]) if normal else _one(draws[i] >> np.uint32(8)) * _UNIT


@divided_exactly
def _events(key: Table, out: OutBytes, threshold: int, low: int, high: int) -> None:
    words, least = np.empty(_WORDS, np.uint64), np.uint32(threshold)
    draws = words.view(np.uint32)
    for start in range(low * len(draws), min(high * len(draws), len(out)), len(draws)):
        _fill(words, 1 + start // 8, key)
        part = out[start : start + len(draws)]
        for i in range(len(part)):
            part[i] = draws[i] < least
