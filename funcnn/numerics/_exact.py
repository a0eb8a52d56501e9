"""Matrix products in portable mode: every entry is the exact value, rounded once.

A correctly rounded result does not depend on the order of the operations behind it, so it is the
same for every BLAS, thread count, vector unit, memory order and batch, and no other float is nearer
to the true value. It costs little more than one product in float64, because a product that comes
with a bound on its error can be rounded with certainty almost everywhere (Ziv's test):

*float32 operands.* Products of two float32 are exact in float64, and cannot over- or underflow there.
Whatever the order in which a BLAS adds K of them, with or without fused operations, each addition
errs by at most u = 2**-53 of its result, so the sum is within ::

    e = K u / (1 - K u) * sum |a_k b_k|  <=  1.0001 K u |a| |b|        (Euclidean norms)

of the true value c. If c - e and c + e round to the same float32, this is c rounded correctly.

*float64 operands.* Rows of `a` and columns of `b` are scaled by powers of two to at most 1 and cut
into slices A_0 + A_1 + ... of s bits each, 2 s + log2(K) <= 53, so that every product A_t B_u is a sum
of integers below 2**53 (times a power of two): exact in any order (Ozaki, Ogita, Oishi, Rump 2012).
The products with t + u < n are added in double-double arithmetic. What is left out is at most ::

    K 2**(-n s) (1 + (n - 1) / 4 * (1 + 2**-s ...)) + rounding  <=  e = K (2 * 2**(-n s) + 2**-98)

since |A_t| <= 2**(-s t - 1) from the second slice on. The same test decides.

The few entries that fail the test are computed exactly. Which ones fail may differ between machines;
their values do not. The scheme asks one thing of a BLAS: that a product is a sum of products, each
operation rounded as IEEE 754 says (no Strassen, no reduced precision).

What made steps cheaper: one bound for a whole tile, and windows that overlap squared once, 10 to
25 %; sums of products rounded once (`summed_matmul`), 30 % of a stack of convolutions.

References
----------
.. [1] A. Ziv, "Fast evaluation of elementary mathematical functions with correctly rounded last
   bit", ACM TOMS 17(3), 1991.
.. [2] K. Ozaki, T. Ogita, S. Oishi, S. M. Rump, "Error-free transformations of matrix
   multiplication by using fast routines of matrix multiplication", Numer. Algorithms 59, 2012.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from funcnn import checks
from funcnn.machine.memory import scratch
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache):
# panels of 1024 to 4096 and tiles of 2**15 to 2**20 take the same time, for products of 512 and of
# 8192 terms. Depth and slices say how exact a first try is, and not how fast.
_UNIT = 2.0**-53
_DOUBLE = np.dtype(np.float64)
_PANEL = 2048  # terms that are widened to float64 at a time
_DEPTH = 256  # terms that a BLAS adds up at a time: few, as this sets the bound on its error
_TILE = 1 << 18  # entries of an operand or a product that are worked on at a time: they stay in cache
_SLICES = 4
_MOST_SLICES = 12  # of 21 bits and more; beyond, Python's integers: such numbers are rare
_compiled = compiled_in(portable="funcnn.numerics._compiled")


@_compiled
def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Product of matrices, or of stacks of them; every entry is correctly rounded."""
    a, b = np.asarray(a), np.asarray(b)
    kind = np.result_type(a, b) if out is None else out.dtype
    if kind.char not in "fd":
        return np.matmul(a, b, out=out)
    left = a[None] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    if not a.ndim or not b.ndim or left.shape[-1] != right.shape[-2]:
        return np.asarray(np.matmul(a, b))  # words the refusal
    stack = left.shape[:-2]
    if stack != right.shape[:-2]:
        stack = np.broadcast_shapes(stack, right.shape[:-2])
    shape = (*stack, left.shape[-2], right.shape[-1])
    visible = shape[:-2] + shape[-2:-1] * (a.ndim > 1) + shape[-1:] * (b.ndim > 1)
    if out is not None and out.shape != visible:
        checks.refuse(f"`out` must have shape {visible}, got {out.shape}", "matmul")
    direct = (
        out is not None
        and out.ndim == len(shape)
        and not (np.may_share_memory(out, a) or np.may_share_memory(out, b))
    )
    target = out if out is not None and direct else np.empty(shape, kind)
    if left.shape[-1] and target.size:
        with np.errstate(all="ignore"):
            _product(left, right, target)
    else:
        target[...] = 0
    if direct:
        return target
    if out is None:
        return target.reshape(visible)[()]
    out[...] = target.reshape(visible)
    return out


def summed_matmul(a: Array, b: Array, dtype: Any) -> Array:
    """Sum of products along a third axis from the end, ``(..., P, M, K) @ (..., P, K, N)``.

    It is one product of matrices, those of `a` side by side and those of `b` below one another: so
    every entry is rounded once, and a handful in doubt is all that is ever put side by side.
    """
    *stack, count, rows, terms = a.shape
    columns = b.shape[-1]
    out = np.empty((*stack, rows, columns), dtype)
    if out.size and count * terms:
        if out.dtype == np.float32:
            with np.errstate(all="ignore"):
                places = _places(_bracket_sum32(a, b, out))
                few = 2 * len(places[0]) <= out.size
                if few and np.isfinite(out[places]).all():
                    left, right = a.swapaxes(-3, -2), np.moveaxis(b, -1, -3)
                    step = max(1, _TILE // (count * terms))
                    for i in range(0, len(places[0]), step):
                        *where, row, column = place = tuple(index[i : i + step] for index in places)
                        pairs = np.multiply(left[(*where, row)], right[(*where, column)], dtype="d")
                        out[place] = _sums(pairs.reshape(-1, count * terms))
                    return out
        beside = a.swapaxes(-3, -2).reshape(*stack, rows, count * terms)
        matmul(beside, b.reshape(*stack, count * terms, columns), out)
    else:
        out[...] = 0
    return out


@_compiled
def prepare(x: Array) -> Array:
    """`x` widened to float64, which changes no value."""
    return x.astype(np.float64) if x.dtype == np.float32 else x


def _tiles(
    a: Array, b: Array, shape: tuple[int, ...]
) -> Iterator[tuple[tuple[slice, ...], Array, Array]]:
    """Cut a product of this shape, and its operands, into pieces that stay in the cache."""
    *stack, rows, columns = shape
    terms = a.shape[-1]
    row_step = max(256, min(_TILE // max(columns, terms), 2048))
    column_step = max(256, _TILE // max(min(rows, row_step), terms))
    steps = [column_step, row_step]
    budget = _TILE // max(rows * columns, rows * terms, terms * columns)
    for size in reversed(stack):
        steps.append(max(1, min(size, budget)))
        budget //= steps[-1]
    steps.reverse()
    starts = [range(0, size, step) for size, step in zip(shape, steps, strict=True)]
    for corner in itertools.product(*starts):
        tile = tuple(slice(i, i + step) for i, step in zip(corner, steps, strict=True))
        left, right = (*tile[:-1], slice(None)), (*tile[:-2], slice(None), tile[-1])
        yield tile, _cut(a, left), _cut(b, right)


def _cut(x: Array, tile: tuple[slice, ...]) -> Array:
    """The tile of an array that broadcasts: an axis of size 1 serves all tiles."""
    parts = zip(x.shape[:-2], tile[-x.ndim : -2], strict=True)
    stack = [slice(None) if size == 1 else part for size, part in parts]
    return x[(*stack, *tile[-2:])]


def _widen(name: str, x: Array) -> Array:
    """`x` in float64, its memory in the same order."""
    if x.dtype == np.float64:
        return x
    if abs(x.strides[-1]) > abs(x.strides[-2]):
        return _widen(name, x.swapaxes(-1, -2)).swapaxes(-1, -2)
    wide = scratch(name, x.shape, _DOUBLE)
    np.copyto(wide, x)
    return wide


def _product(a: Array, b: Array, out: Array) -> None:
    """Bracket every entry, round where both ends agree, settle the rest."""
    bracket = _bracket32 if out.dtype == np.float32 else _bracket64
    if max(a.size, b.size, out.size) <= _TILE:
        _settle(a, b, out, bracket(a, b, out))
        return
    unsure = np.empty(out.shape, bool)
    for tile, rows, columns in _tiles(a, b, out.shape):
        unsure[tile] = bracket(rows, columns, out[tile])
    _settle(a, b, out, unsure)


def _bracket_sum32(a: Array, b: Array, out: Array) -> Array:
    """As `_bracket32`, for `summed_matmul`."""
    *stack, count, m, terms = a.shape
    n = b.shape[-1]
    total = np.zeros(out.shape)
    rows, columns = np.zeros(out.shape[:-1]), np.zeros((*stack, n))
    block = max(1, 2 * _TILE // (math.prod(stack) * max(m * terms, terms * n, m * n)))
    step = -(-terms // -(-terms // _DEPTH))
    for p in range(0, count, block):
        left, right = (np.asarray(x[..., p : p + block, :, :], np.float64) for x in (a, b))
        rows += np.vecdot(left, left).sum(-2)
        columns += _squares(right).sum(-2)
        more = scratch("more", (*left.shape[:-1], n), _DOUBLE)
        for k in range(0, terms, step):
            np.matmul(left[..., k : k + step], right[..., k : k + step, :], out=more)
            total += np.add.reduce(more, -3)
        del more  # so that the next block has the same memory
    # Of a product, of a block, of the blocks; and two to spare, as in `_bracket32`.
    depth = step + block + -(-count // block) * -(-terms // step) + 2
    return _doubtful(total, rows, columns, depth, terms * count, out)


def _bracket32(a: Array, b: Array, out: Array) -> Array:
    """Round products of float32 values; True where this is uncertain or not finite."""
    terms = a.shape[-1]
    total, more = (scratch(name, out.shape, _DOUBLE) for name in ("total", "more"))
    rows, columns = np.zeros(a.shape[:-1]), np.zeros((*b.shape[:-2], b.shape[-1]))
    for panel in range(0, terms, _PANEL):
        left = _widen("left", a[..., panel : panel + _PANEL])
        right = _widen("right", b[..., panel : panel + _PANEL, :])
        rows += np.vecdot(left, left)
        columns += _squares(right)
        length = left.shape[-1]
        step = -(-length // -(-length // _DEPTH))
        for k in range(0, length, step):
            part = left[..., k : k + step], right[..., k : k + step, :]
            if panel or k:
                total += np.matmul(*part, out=more)
            else:
                np.matmul(*part, out=total)
        del left, right, part  # so that the next panel has the same memory
    # K terms need K - 1 additions; two to spare for the rounding of total - error and total + error.
    depth = min(terms, _DEPTH) + terms // _DEPTH + 1
    return _doubtful(total, rows, columns, depth, terms, out)


def _doubtful(total: Array, rows: Array, columns: Array, depth: int, terms: int, out: Array) -> Array:
    """Round sums of so many products, given the squares of the norms, and the depth of the sums."""
    rows, columns = np.sqrt(rows) * (1.0001 * depth * _UNIT), np.sqrt(columns)
    # One bound for all entries is the quickest; each its own where that leaves too many in doubt.
    unsure = _round_between(total, rows.max() * columns.max(), out)
    if 2 * terms * np.count_nonzero(unsure) > unsure.size:
        each = scratch("each", out.shape, _DOUBLE)
        np.multiply(rows[..., :, None], columns[..., None, :], out=each)
        unsure = _round_between(total, each, out)
    return unsure


def _squares(x: Array) -> Array:
    """The sum of the squares of each column."""
    *_, stack, row, column = (0, *x.strides)
    if row < column:
        return np.asarray(np.vecdot(x.swapaxes(-1, -2), x.swapaxes(-1, -2)))
    matrices = x.shape[-3] if x.ndim > 2 else 1
    step = stack // row if matrices > 1 and row else 0  # rows from one matrix to the next
    if not 0 < step < x.shape[-2] or step * row != stack or x.shape[-2] % step:
        return np.asarray(np.einsum("...kn,...kn->...n", x, x))
    # Matrices that overlap, as the windows of a convolution: each part is squared once.
    last = x[..., -1, step:, :].reshape(*x.shape[:-3], -1, step, x.shape[-1])
    own = [np.einsum("...kn,...kn->...n", part, part) for part in (x[..., :step, :], last)]
    parts = np.concatenate(own, -2)
    total = parts[..., :matrices, :].copy()
    for i in range(1, x.shape[-2] // step):
        total += parts[..., i : i + matrices, :]
    return np.asarray(total)


def _round_between(total: Array, error: Any, out: Array) -> Array:
    """Round ``total + error`` to `out`; True where ``total - error`` gives something else."""
    np.add(total, error, out=out, casting="same_kind")
    low = scratch("low", out.shape, out.dtype)
    np.subtract(total, error, out=low, casting="same_kind")
    out += 0  # no two BLAS agree on the sign of a zero
    return np.asarray(low != out)


def _bracket64(a: Array, b: Array, out: Array) -> Array:
    """Round products of float64 values; True where this is uncertain or not finite."""
    terms = min(a.shape[-1], _PANEL)
    bits = (53 - (terms - 1).bit_length()) // 2
    rows, columns = np.abs(a).max(-1), np.abs(b).max(-2)
    a_exponent = np.frexp(rows)[1][..., :, None]
    b_exponent = np.frexp(columns)[1][..., None, :]
    a_slices = _slices(np.ldexp(a, -a_exponent), bits)
    b_slices = _slices(np.ldexp(b, -b_exponent), bits)
    high, low = np.zeros(out.shape), np.zeros(out.shape)
    for t in range(_SLICES):
        for u in range(_SLICES - t):
            for k in range(0, a.shape[-1], _PANEL):
                left, right = a_slices[t][..., k : k + _PANEL], b_slices[u][..., k : k + _PANEL, :]
                high, rest = _two_sum(high, np.matmul(left, right))
                low += rest
    high, low = _two_sum(high, low)
    error = a.shape[-1] * (2 * 2.0 ** (-_SLICES * bits) + 2.0**-98)
    error = error * (rows != 0)[..., :, None] * (columns != 0)[..., None, :]
    unsure = np.asarray(high + (low + error) != high + (low - error))
    np.ldexp(high, a_exponent + b_exponent, out=out)
    out += 0
    # A subnormal result would be rounded twice.
    unsure |= (np.abs(out) < 2.0**-1021) & (high != 0)
    special = ~np.isfinite(rows)[..., :, None] | ~np.isfinite(columns)[..., None, :]
    np.copyto(out, np.nan, where=special)
    unsure |= special
    return unsure


def _slices(x: Array, bits: int, most: int = _SLICES) -> list[Array]:
    """Cut ``|x| <= 1`` into parts of so many bits: multiples of ``2**-bits``, ``2**(-2 bits)``..."""
    parts: list[Array] = []
    while len(parts) < most and (most == _SLICES or x.any()):
        shift = 1.5 * 2.0 ** (52 - bits * (len(parts) + 1))  # adding it drops what is below the cut
        parts.append((x + shift) - shift)
        x = x - parts[-1]
    return parts


def _all_digits(a: Array, b: Array, dtype: Any) -> tuple[Array, Array]:
    """Products, rounded once, and where they are known: the scheme for float64 with as many slices
    as it takes, where the sums of their products are the digits of a long integer.

    Not known are those of rows and columns whose numbers differ by more than some 200 binary digits.
    """
    terms = min(a.shape[-1], _PANEL)
    bits = (53 - (terms - 1).bit_length()) // 2
    finite = np.isfinite(a).all(-1, keepdims=True), np.isfinite(b).all(-2, keepdims=True)
    a, b = np.where(finite[0], a, 0.0), np.where(finite[1], b, 0.0)
    a, b = a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)
    a_exponent = np.frexp(np.abs(a).max(-1, keepdims=True))[1]
    b_exponent = np.frexp(np.abs(b).max(-2, keepdims=True))[1]
    a_scaled, b_scaled = np.ldexp(a, -a_exponent), np.ldexp(b, -b_exponent)
    a_slices, b_slices = (_slices(x, bits, _MOST_SLICES) for x in (a_scaled, b_scaled))
    whole = [
        np.ldexp(sum(reversed(parts), np.zeros_like(x)), exponent) == x
        for parts, exponent, x in ((a_slices, a_exponent, a), (b_slices, b_exponent, b))
    ]
    known = whole[0].all(-1, keepdims=True) & whole[1].all(-2, keepdims=True)
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    levels = len(a_slices) + len(b_slices) + 4  # two before the point, and three zeros at the end
    digits = np.zeros((levels, *shape, a.shape[-2], b.shape[-1]), np.int64)
    for k in range(0, a.shape[-1], _PANEL):
        for (t, left), (u, right) in itertools.product(enumerate(a_slices), enumerate(b_slices)):
            part = np.matmul(left[..., k : k + _PANEL], right[..., k : k + _PANEL, :])
            digits[t + u + 2] += np.ldexp(part, (t + u + 2) * bits).astype(np.int64)
        _carry(digits, bits)
    return _rounded(digits, bits, a_exponent + b_exponent, dtype), known


def _carry(digits: Array, bits: int) -> None:
    """Bring all digits but the first into ``0 <= digit < 2**bits``."""
    for i in range(len(digits) - 1, 0, -1):
        over = digits[i] >> bits
        digits[i] -= over << bits
        digits[i - 1] += over


def _rounded(digits: Array, bits: int, exponent: Array, dtype: Any) -> Array:
    """The float nearest to ``sum(digits[i] * 2**(-i * bits)) * 2**exponent``, ties to even."""
    precision, least = (24, -149) if dtype == np.float32 else (53, -1074)
    negative = digits[0] < 0
    np.negative(digits, out=digits, where=negative)
    _carry(digits, bits)
    first = np.minimum((digits != 0).argmax(0), len(digits) - 4)
    window = np.take_along_axis(digits, first + np.arange(4).reshape(4, *[1] * first.ndim), 0)
    high, low = (window[0] << bits) + window[1], (window[2] << bits) + window[3]
    sticky = (digits != 0).sum(0) > (window != 0).sum(0)
    # The 62 bits from the first one on, the last of them set where anything follows.
    size = np.frexp(high.astype(np.float64))[1].astype(np.int64)
    more = np.clip(62 - size, 0, 2 * bits)
    left_out = 2 * bits - more
    number = (high << more) + (low >> left_out)
    number |= sticky | (low & ((1 << left_out) - 1) != 0)
    scale = exponent - (first + 1) * bits - more
    drop = np.maximum(62 - precision, least - scale)  # the least exponent makes it subnormal
    dropped = np.minimum(drop, 62)
    kept, half = number >> dropped, 1 << (dropped - 1)
    rest = number - (kept << dropped)
    kept += (rest > half) | ((rest == half) & (kept & 1 == 1))
    kept[(drop > 62) | (high == 0)] = 0
    value = np.ldexp(kept.astype(np.float64), (scale + drop).astype(np.intc))
    value = np.where(negative, -value, value) + 0  # there is one zero
    return np.asarray(value, dtype)


def _two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    """``x + y``, rounded, and what was lost (Knuth): exact."""
    total = x + y
    tail = total - x
    return total, (x - (total - tail)) + (y - tail)


def _settle(a: Array, b: Array, out: Array, unsure: Array) -> None:
    """Compute the uncertain entries of `out` exactly."""
    places = _places(unsure)
    if not len(places[0]):
        return
    if not np.isfinite(out[places]).all():
        rows, columns = np.isfinite(a).all(-1, keepdims=True), np.isfinite(b).all(-2, keepdims=True)
        finite = rows & columns
        np.copyto(out, _special(a, b), where=~finite, casting="same_kind")
        unsure &= finite
        places = _places(unsure)
    if len(places[0]) > unsure.size >> 6:  # most often there is nothing to add up
        meet = _meet(a != 0, b != 0)
        np.copyto(out, 0, where=unsure & ~meet)
        unsure &= meet
        places = _places(unsure)
    if len(places[0]) > unsure.size >> 4:
        for tile, part_of_a, part_of_b in _tiles(a, b, out.shape):
            exact, known = _all_digits(part_of_a, part_of_b, out.dtype)
            np.copyto(out[tile], exact, where=unsure[tile] & known)
            unsure[tile] &= ~known
        places = _places(unsure)
    b = b.swapaxes(-1, -2)
    step = max(1, _TILE // a.shape[-1])
    for i in range(0, len(places[0]), step):
        *stack, row, column = place = tuple(index[i : i + step] for index in places)
        left, right = _vectors(a, stack, row), _vectors(b, stack, column)
        if out.dtype == np.float32:
            out[place] = _sums(left * right)
        else:
            out[place] = _inner_products(left, right, np.float64)


def _vectors(x: Array, stack: list[Array], row: Array) -> Array:
    """Some rows of a stack of matrices that broadcasts, in float64."""
    *sizes, _, _ = x.shape
    used = zip(sizes, stack[len(stack) - len(sizes) :], strict=True)
    index = (*(0 if size == 1 else at for size, at in used), row)
    return np.asarray(x[index], np.float64)


def _places(unsure: Array) -> tuple[Array, ...]:
    return np.unravel_index(np.flatnonzero(unsure), unsure.shape)


def _sums(terms: Array) -> Array:
    """Exact sums along the last axis, rounded to float32: those still in doubt are added exactly."""
    count, n = terms.shape
    both = np.empty((n, 2, count))
    both[:, 0] = terms.T
    np.abs(terms.T, out=both[:, 1])
    levels = (n - 1).bit_length()
    while n > 1:
        half, keep = n // 2, (n + 1) // 2
        np.add(both[:half], both[keep:n], out=both[:half])
        n = keep
    total, error = both[0]
    error *= 1.0001 * (levels + 2) * _UNIT
    found = (total + error).astype(np.float32)
    doubt = np.flatnonzero((total - error).astype(np.float32) != found)
    if len(doubt):
        found[doubt] = _inner_products(terms[doubt], np.ones((len(doubt), terms.shape[1])), np.float32)
    found += 0
    return np.asarray(found)


def _meet(left: Array, right: Array) -> Array:
    """Where a row of `left` and a column of `right` are both True at some k."""
    return np.asarray(np.matmul(left.astype(np.float32), right.astype(np.float32)) > 0)


def _special(a: Array, b: Array) -> Array:
    """The products of rows and columns that hold an infinity or a NaN."""
    up, down = a == np.inf, a == -np.inf
    above = _meet(up, b > 0) | _meet(down, b < 0) | _meet(a > 0, b == np.inf)
    above |= _meet(a < 0, b == -np.inf)
    below = _meet(up, b < 0) | _meet(down, b > 0) | _meet(a > 0, b == -np.inf)
    below |= _meet(a < 0, b == np.inf)
    nan = _meet(np.isnan(a), np.ones_like(b)) | _meet(np.ones_like(a), np.isnan(b))
    nan |= _meet(up | down, b == 0) | _meet(a == 0, np.isinf(b)) | (above & below)
    return np.where(nan, np.nan, np.where(above, np.inf, -np.inf))


def _inner_products(left: Array, right: Array, dtype: Any) -> Array:
    """The exact inner products of rows, rounded."""
    out, known = (x[:, 0, 0] for x in _all_digits(left[:, None], right[:, :, None], dtype))
    for i in np.flatnonzero(~known):
        (x, below), (y, under) = _integers(left[i].tolist()), _integers(right[i].tolist())
        total, bits = sum(map(operator.mul, x, y)), 24
        size, mask = abs(total), (1 << bits) - 1
        places = range(size.bit_length() // bits * bits, -1, -bits)
        digits = np.array([*(size >> place & mask for place in places), 0, 0, 0], np.int64)[:, None]
        exponent = np.array([places[0] - (below * under).bit_length() + 1])
        out[i] = _rounded(digits, bits, exponent, dtype)[0] * (1 if total > 0 else -1) + 0
    return np.asarray(out)


def _integers(row: list[float]) -> tuple[list[int], int]:
    """Numerators over one denominator."""
    ratios = [x.as_integer_ratio() for x in row]
    below = max(under for _, under in ratios)
    return [above * (below // under) for above, under in ratios], below
