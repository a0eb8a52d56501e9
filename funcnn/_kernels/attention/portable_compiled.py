"""Attention compiled for portable mode: the scores of some queries at a time, with the same bits.

Products and sums of weights are rounded once, see `numerics.rounded`; every other operation is that of
the readable twin, rounded as it stands there. What is in doubt, or not finite, is left to the twin.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn._kernels.attention import Scores
from funcnn._kernels.attention.compiled import (
    _ROWS,
    _context,
    _headed,
    _is_plain,
    _lined,
    _scaled,
    _sizes,
)
from funcnn._kernels.scalars import larger
from funcnn.machine.memory import fresh
from funcnn.numerics.halving import fold
from funcnn.numerics.handover import divided_exactly
from funcnn.numerics.jit import (
    Bytes,
    InSingle,
    OutBytes,
    Single,
    Table,
    Wide,
    inlined,
    inlined_exactly,
)
from funcnn.numerics.numbers import exp
from funcnn.numerics.packing import LANES, TALL, pack_columns, pack_rows
from funcnn.numerics.panels import beginning, packed_product, unaligned
from funcnn.numerics.rounded import settled
from funcnn.types import Array

_UNIT = 2.0**-53

_one = np.float32


def attend(q: Array, k: Array, v: Array, how: Scores) -> Any:
    """`funcnn._kernels.attention.attend`, of float32 numbers without a bias or a cap."""
    if not _is_plain(q, k, v, how):
        return NotImplemented
    p, out = fresh((*q.shape[:3], k.shape[2]), q.dtype), _headed((*q.shape[:3], v.shape[3]))
    (sizes, units), doubt = _sizes(q, k, v, how), np.zeros(1, np.uint8)
    _attend(
        sizes, _lined(q), _lined(k), _lined(v), *_context(how, p.shape), out.reshape(-1), p.reshape(-1),
        doubt, 0, units,
    )  # fmt: skip
    return NotImplemented if doubt[0] else (out.transpose(0, 2, 1, 3), p, None)


def attend_gradients(
    q: Array,
    k: Array,
    v: Array,
    made: tuple[Array, Array, Array | None],
    how: Scores,
    dout: Array,
    dp: Array | None = None,
) -> Any:
    """`funcnn._kernels.attention.attend_gradients`, of the same, where only the output has a slope."""
    if not _is_plain(q, k, v, how) or dp is not None:
        return NotImplemented
    out, p, _ = made
    dq, dk, dv = (_headed(x.shape) for x in (q, k, v))
    (sizes, units), doubt = _sizes(q, k, v, how), np.zeros(1, np.uint8)
    _, _, kept, scale = _context(how, p.shape)
    _pull(
        sizes, _lined(q), _lined(k), _lined(v), kept, scale, _lined(out),
        np.ascontiguousarray(p).reshape(-1), _lined(dout), dq.reshape(-1), dk.reshape(-1),
        dv.reshape(-1), doubt, 0, units,
    )  # fmt: skip
    if doubt[0]:
        return NotImplemented
    return *(x.transpose(0, 2, 1, 3) for x in (dq, dk, dv)), None


@inlined
def _seen(row: Any, flags: Any) -> Any:
    """Put minus infinity in the place of what is hidden; the largest, and whether all are finite."""
    zero, low = _one(0), _one(-np.inf)
    top, odd = low, zero
    for s in range(len(row)):
        odd += row[s] * zero
        row[s] = row[s] if flags[s] else low
        top = larger(top, row[s])
    return top, odd == zero


@inlined
def _added(row: Any) -> Any:
    """The sum, in any order."""
    total = 0.0
    for s in range(len(row)):
        total += np.float64(row[s])
    return total


@inlined_exactly
def _total(row: Any) -> Any:
    """The sum of numbers that are not negative, rounded once, or NaN."""
    total = _added(row)
    error = total * (len(row) * (1.0001 * _UNIT))
    found = np.float32(total + error)
    if found == np.float32(total - error):
        return found
    total = lost = size = 0.0
    for s in range(len(row)):  # again, with what each addition loses
        term = np.float64(row[s])
        after = total + term
        tail = after - total
        rest = (total - (after - tail)) + (term - tail)
        total = after
        lost += rest
        size += abs(rest)
    return settled(total, lost, size, len(row))


@inlined_exactly
def _weigh(row: Any, flags: Any, offsets: Any) -> Any:
    """The softmax of what is seen, in place, and whether something is in doubt."""
    top, fine = _seen(row, flags)
    if top == -np.inf:
        row[:] = 0
        return not fine
    for s in range(len(row)):
        offsets[s] = row[s] - top
    exp(offsets, row)
    total = _total(row)
    for s in range(len(row)):
        row[s] = row[s] / total
    return not (fine and total > 0)


@divided_exactly
def _attend(
    sizes: Table, q: InSingle, k: InSingle, v: InSingle, seen: Bytes, apart: Table, kept: InSingle,
    scale: InSingle, out: Single, p: Single, doubtful: OutBytes, low: int, high: int,
) -> None:  # fmt: skip
    batch, heads, groups, steps, keys, features, width, several = (
        sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7]
    )  # fmt: skip
    of_keys, of_values = (
        np.empty((keys + LANES) * (features + 1) + 8), np.empty((width + LANES) * (keys + 1) + 8)
    )  # fmt: skip
    k_size, v_size = np.empty(keys + 2 * LANES), np.empty(width + 2 * LANES)
    left, norm = np.empty(_ROWS * max(features, keys) + LANES), np.empty(_ROWS + LANES)
    queries, used = np.empty(_ROWS * features, np.float32), np.empty(_ROWS * keys, np.float32)
    edge, doubt = np.empty(3 * TALL * LANES, np.float32), 0
    k_from, v_from, rest = unaligned(of_keys), unaligned(of_values), beginning(edge)
    for pair in range(low * several, min(high * several, batch * groups)):
        n, g = pair // groups, pair % groups
        k_at, v_at = (n * keys * groups + g) * features, (n * keys * groups + g) * width
        pack_columns(beginning(k) + 4 * k_at, groups * features, 1, keys, features, of_keys, k_from,
                     k_size)  # fmt: skip
        pack_columns(beginning(v) + 4 * v_at, 1, groups * width, width, keys, of_values, v_from, v_size)
        for h in range(g * heads // groups, (g + 1) * heads // groups):
            for t in range(0, steps, _ROWS):
                rows = min(_ROWS, steps - t)
                first, p_at = (n * steps + t) * heads + h, ((n * heads + h) * steps + t) * keys
                seen_at = n * apart[0] + h * apart[1] + t * apart[2]
                _scaled(q, first * features, heads * features, rows, features, scale[0], queries)
                pack_rows(beginning(queries), 0, features, 1, rows, features, left, norm)
                doubt |= packed_product(left, norm, of_keys, k_size, beginning(p), rest, features, rows,
                                        keys, k_from, p_at, keys)  # fmt: skip
                for i in range(rows):
                    row = p[p_at + i * keys : p_at + (i + 1) * keys]
                    start, some = seen_at + i * apart[2], used[i * keys : (i + 1) * keys]
                    doubt |= _weigh(row, seen[start : start + keys], some)
                    if len(kept):
                        more = kept[p_at + i * keys :]
                        for s in range(keys):
                            some[s] = row[s] * more[s]
                weights = beginning(used) if len(kept) else beginning(p) + 4 * p_at
                pack_rows(weights, 0, keys, 1, rows, keys, left, norm)
                doubt |= packed_product(left, norm, of_values, v_size, beginning(out), rest, keys, rows,
                                        width, v_from, first * width, heads * width)  # fmt: skip
    if doubt:
        doubtful[0] = 1
    queries[:1] = used[:1] = edge[:1] = 0  # they are there until now


@inlined_exactly
def _dots(out: InSingle, dout: InSingle, at: int, line: int, rows: int, width: int, sums: Wide) -> None:
    """``sum(out * dout)`` of some rows, as `_sums` adds up; sums begin with those."""
    for i in range(rows):
        one, other = out[at + i * line : at + i * line + width], dout[at + i * line :]
        for e in range(width):
            sums[e * _ROWS + i] = np.float64(one[e] * other[e])
    fold(sums, width, _ROWS)


@inlined_exactly
def _fall(
    row: Single, weights: InSingle, kept: InSingle, at: int, dot: float, scale: float, used: Single
) -> None:
    """From the slopes of weights to those of their scores; what dropout has left of the weights."""
    if len(kept):
        factors = kept[at:]
        for s in range(len(row)):
            used[s] = weights[s] * factors[s]
            row[s] = row[s] * factors[s]
    for s in range(len(row)):
        row[s] = (row[s] - dot) * weights[s] * scale


@inlined
def _gathered(
    x: InSingle, n: int, steps: int, heads: int, first: int, last: int, size: int, out: Single
) -> None:
    """The rows of some heads, one head after another."""
    for h in range(first, last):
        for t in range(steps):
            to, at = ((h - first) * steps + t) * size, ((n * steps + t) * heads + h) * size
            for i in range(size):
                out[to + i] = x[at + i]


@divided_exactly
def _pull(
    sizes: Table, q: InSingle, k: InSingle, v: InSingle, kept: InSingle, scale: InSingle, out: InSingle,
    p: InSingle, dout: InSingle, dq: Single, dk: Single, dv: Single, doubtful: OutBytes,
    low: int, high: int,
) -> None:  # fmt: skip
    batch, heads, groups, steps, keys, features, width, several = (
        sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7]
    )  # fmt: skip
    whole, wide = heads // groups * steps, max(features, width)
    panel = np.empty((max(keys, wide) + LANES) * (max(keys, wide, whole) + 1) + 8)
    size, start = np.empty(max(keys, wide) + 2 * LANES), unaligned(panel)
    of_values, v_size = np.empty((keys + LANES) * (width + 1) + 8), np.empty(keys + 2 * LANES)
    v_from, edge = unaligned(of_values), np.empty(3 * TALL * LANES, np.float32)
    left, norm = np.empty(_ROWS * max(keys, wide, whole) + LANES), np.empty(_ROWS + LANES)
    slopes, used = np.empty(whole * keys, np.float32), np.empty(whole * keys, np.float32)
    lines, sums, doubt = np.empty(whole * wide, np.float32), np.empty(_ROWS * width), 0
    rest = beginning(edge)
    for pair in range(low * several, min(high * several, batch * groups)):
        n, g = pair // groups, pair % groups
        begin, end = g * heads // groups, (g + 1) * heads // groups
        k_at, v_at = (n * keys * groups + g) * features, (n * keys * groups + g) * width
        p_from = (n * heads + begin) * steps * keys
        pack_columns(beginning(v) + 4 * v_at, groups * width, 1, keys, width, of_values, v_from, v_size)
        pack_columns(beginning(k) + 4 * k_at, 1, groups * features, features, keys, panel, start, size)
        for h in range(begin, end):
            for t in range(0, steps, _ROWS):
                rows, place = min(_ROWS, steps - t), ((h - begin) * steps + t) * keys
                first, p_at = (n * steps + t) * heads + h, p_from + place
                pack_rows(beginning(dout), first * width, heads * width, 1, rows, width, left, norm)
                doubt |= packed_product(left, norm, of_values, v_size, beginning(slopes), rest, width,
                                        rows, keys, v_from, place, keys)  # fmt: skip
                _dots(out, dout, first * width, heads * width, rows, width, sums)
                for i in range(rows):
                    here, dot = slice(place + i * keys, place + (i + 1) * keys), np.float32(sums[i])
                    weights = p[p_at + i * keys : p_at + (i + 1) * keys]
                    _fall(slopes[here], weights, kept, p_at + i * keys, dot, scale[0], used[here])
                pack_rows(beginning(slopes), place, keys, 1, rows, keys, left, norm)
                to, pitch = first * features, heads * features
                doubt |= packed_product(left, norm, panel, size, beginning(dq), rest, keys, rows,
                                        features, start, to, pitch)  # fmt: skip
        weights = beginning(used) if len(kept) else beginning(p) + 4 * p_from
        _gathered(q, n, steps, heads, begin, end, features, lines)
        pack_columns(beginning(lines), 1, features, features, whole, panel, start, size)
        for s in range(0, keys, _ROWS):
            few = min(_ROWS, keys - s)
            pack_rows(beginning(slopes), s, 1, keys, few, whole, left, norm)
            doubt |= packed_product(left, norm, panel, size, beginning(dk), rest, whole, few, features,
                                    start, k_at + s * groups * features, groups * features)  # fmt: skip
        _gathered(dout, n, steps, heads, begin, end, width, lines)
        pack_columns(beginning(lines), 1, width, width, whole, panel, start, size)
        for s in range(0, keys, _ROWS):
            few = min(_ROWS, keys - s)
            pack_rows(weights, s, 1, keys, few, whole, left, norm)
            doubt |= packed_product(left, norm, panel, size, beginning(dv), rest, whole, few, width,
                                    start, v_at + s * groups * width, groups * width)  # fmt: skip
    if doubt:
        doubtful[0] = 1
    slopes[:1] = used[:1] = lines[:1] = edge[:1] = 0  # they are there until now
