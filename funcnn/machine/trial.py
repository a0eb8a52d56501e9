"""Whether this machine computes as IEEE 754 says, which portable mode is built on: a short trial.

Each trial asks NumPy, by its public functions, for what only one answer is right, and finds that
answer another way: in whole numbers, or in exact products of twice the digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from funcnn.machine.blas import on_one_blas_thread
from funcnn.types import Array

_PRECISIONS: tuple[tuple[Any, str], ...] = ((np.float32, "float32"), (np.float64, "float64"))
# Rows, terms and columns: vectors, less and more than a register, a cache line or a block of a BLAS.
_COUNT = 131  # numbers that a function is tried on: two short of whole registers
_SIZES = ((1, 40, 9), (19, 33, 1), (16, 16, 16), (33, 31, 17), (70, 170, 90))


def faults() -> tuple[list[str], list[str]]:
    """What is wrong with this machine's arithmetic, by a trial of some milliseconds.

    Returns
    -------
    rounding : list of str
        Of single operations: what is not rounded as IEEE 754 says. Portable mode needs it.
    products : list of str
        Of BLAS: which products of whole numbers are wrong. Every mode needs them.

    Examples
    --------
    >>> from funcnn import numerics
    >>> numerics.faults()
    ([], [])
    """
    return rounding_faults(), on_one_blas_thread(product_faults)


@np.errstate(all="ignore")
def rounding_faults() -> list[str]:
    """Of single operations: they must be rounded once and correctly, and keep subnormal numbers."""
    found = [
        f"{name} {what} are not rounded correctly"
        for what, trial in (
            ("roots", _wrong_root),
            ("quotients", _wrong_quotient),
            ("reciprocals", _wrong_reciprocal),
        )
        for dtype, name in _PRECISIONS
        if trial(dtype)
    ]
    found += [
        f"{name} flushes subnormal numbers to zero" for dtype, name in _PRECISIONS if _flushes(dtype)
    ]
    if _rounds_twice(float) or math.fsum([1.0, 2.0**-53, 2.0**-80]) == 1:
        found.append("Python's floats are rounded twice")
    if _rounds_twice(lambda x: np.full(9, x)):
        found.append("NumPy's float64 is rounded twice")
    return found


@np.errstate(all="ignore")
def product_faults() -> list[str]:
    """Of BLAS: products of small whole numbers are exact, in any order."""
    wrong = {}
    for rows, terms, columns in _SIZES:
        numbers = _numbers((rows + columns) * terms, rows) % 17 - 8
        a, b = numbers[: rows * terms].reshape(rows, -1), numbers[rows * terms :].reshape(-1, columns)
        for dtype, name in _PRECISIONS:
            for what, found, left, right in _products(a, b, a.astype(dtype), b.astype(dtype)):
                if not _is_product(found, left, right):
                    wrong[f"{name} products by {what} are wrong"] = True
    return list(wrong)


def _is_product(found: Array, a: Array, b: Array) -> bool:
    """Freivalds' check, in integers: both sides times one vector are equal."""
    whole = found.astype(np.int64)
    vector = _numbers(b.shape[-1], 7)
    wanted = (a * (b * vector).sum(-1)[..., None, :]).sum(-1)
    return bool(np.all(whole == found) and np.array_equal((whole * vector).sum(-1), wanted))


def _numbers(count: int, seed: int) -> Array:
    """Whole numbers of 24 bits that look random: the fractions of multiples of the golden ratio."""
    multiples = np.arange(seed << 20, (seed << 20) + count, dtype=np.uint64)
    return ((multiples * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)).astype(np.int64)


def _operands(dtype: Any, seed: int) -> tuple[Array, list[int], int]:
    """Floats with all their digits, and the same in whole numbers, times ``2**shift``."""
    shift = 23
    whole = [number | 1 << 23 for number in _numbers(_COUNT, seed).tolist()]
    if dtype == np.float64:
        shift = 52
        low = _numbers(_COUNT, seed + 1).tolist()
        whole = [(high << 29 | number << 5 | 1) for high, number in zip(whole, low, strict=True)]
    return np.array([math.ldexp(number, -shift) for number in whole], dtype), whole, shift


def _wrong_root(dtype: Any) -> bool:
    """The true root lies within half a unit of the one found: so do their squares."""
    x, whole, shift = _operands(dtype, 1)
    for number, root in zip(whole, np.sqrt(x).tolist(), strict=True):
        twice = math.ldexp(root, shift + 1)  # in half units, as the root lies in 1..2
        if not 0 < root < 2 or twice != int(twice):
            return True
        if not (int(twice) - 1) ** 2 < number << shift + 2 < (int(twice) + 1) ** 2:
            return True
    return False


def _wrong_quotient(dtype: Any) -> bool:
    x, above, _ = _operands(dtype, 2)
    y, below, _ = _operands(dtype, 3)
    return _is_not_nearest(np.divide(x, y), above, below, dtype)


def _wrong_reciprocal(dtype: Any) -> bool:
    y, below, shift = _operands(dtype, 4)
    above = [1 << shift] * len(below)
    one = np.ones_like(y)
    found = np.reciprocal(y)
    return _is_not_nearest(found, above, below, dtype) or not np.array_equal(found, np.divide(one, y))


def _is_not_nearest(found: Array, above: list[int], below: list[int], dtype: Any) -> bool:
    """Whether any of the quotients is further than half a unit from the true one."""
    digits = 24 if dtype == np.float32 else 53
    for quotient, a, b in zip(found.tolist(), above, below, strict=True):
        if not 0.25 < quotient < 4:
            return True
        exponent = math.frexp(quotient)[1] - digits - 1  # of half a unit
        twice = math.ldexp(quotient, -exponent)
        shift = -exponent
        if twice != int(twice) or abs((a << shift) - int(twice) * b) > b:
            return True
    return False


def _flushes(dtype: Any) -> bool:
    """As a result, as an operand, and where both are vectors."""
    least = math.ldexp(1.0, -149 if dtype == np.float32 else -1074)
    normal = math.ldexp(1.0, -126 if dtype == np.float32 else -1022)
    for count in (1, 33):
        small, half = np.full(count, least, dtype), np.full(count, 0.5, dtype)
        results = np.multiply(np.full(count, normal, dtype), half), np.add(small, small)
        if any(not np.all(result) for result in (*results, np.multiply(small, 2 / half))):
            return True
    return False


def _rounds_twice(number: Any) -> bool:
    """Just above half a unit: rounded to 64 binary digits first, it is a tie, and then lost."""
    return bool(np.any(number(2.0**-53 + 2.0**-64) + number(1.0) != 1 + 2.0**-52))


def _products(
    a: Array, b: Array, left: Array, right: Array
) -> Iterator[tuple[str, Array, Array, Array]]:
    """How a product is made, what it gives, and what of."""
    yield "matmul", np.matmul(left, right), a, b
    yield "matmul", np.matmul(np.asfortranarray(left), right), a, b
    yield "matmul", np.matmul(right.T, left.T), b.T, a.T
    yield "matmul", np.matmul(np.stack([left, left]), right)[1], a, b
    yield "matmul of a matrix and its transpose", np.matmul(left, left.T), a, a.T
    yield "matmul of a matrix and its transpose", np.matmul(right.T, right), b.T, b
    yield "vecdot", np.vecdot(left, left)[:, None, None], a[:, None], a[:, :, None]
    yield "einsum", np.einsum("kn,kn->n", left.T, left.T)[:, None, None], a[:, None], a[:, :, None]
