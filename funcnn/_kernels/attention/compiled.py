"""Attention compiled: the scores of some queries at a time. The readable twins are beside this.

Scores, softmax and both products of a head stay in the cache. What differs from row to row depends on
what the row sees alone: so its bits do not tell what is hidden.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn._kernels.attention import Scores
from funcnn._kernels.scalars import exp, larger
from funcnn.machine.memory import fresh
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import Bytes, InSingle, Single, Table, inlined
from funcnn.numerics.panels import beginning
from funcnn.numerics.singles import LANES, multiply, pack_all
from funcnn.types import Array

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
_ROWS = 64  # queries at a time
_UNIT = 1 << 16  # multiplications that are worth handing over

_one = np.float32


def attend(q: Array, k: Array, v: Array, how: Scores) -> Any:
    """`funcnn._kernels.attention.attend`, of float32 numbers without a bias or a cap."""
    if not _is_plain(q, k, v, how):
        return NotImplemented
    p = fresh((*q.shape[:3], k.shape[2]), q.dtype)
    out = _headed((*q.shape[:3], v.shape[3]))
    sizes, units = _sizes(q, k, v, how)
    _attend(
        sizes, _lined(q), _lined(k), _lined(v), *_context(how, p.shape), out.reshape(-1), p.reshape(-1),
        0, units,
    )  # fmt: skip
    return out.transpose(0, 2, 1, 3), p, None


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
    sizes, units = _sizes(q, k, v, how)
    _pull(
        sizes, _lined(q), _lined(k), _lined(v), *_context(how, p.shape), _lined(out),
        np.ascontiguousarray(p).reshape(-1), _lined(dout), dq.reshape(-1), dk.reshape(-1),
        dv.reshape(-1), 0, units,
    )  # fmt: skip
    return *(x.transpose(0, 2, 1, 3) for x in (dq, dk, dv)), None


def _is_plain(q: Array, k: Array, v: Array, how: Scores) -> bool:
    is_single = q.dtype == k.dtype == v.dtype == np.float32
    is_plain = is_single and how.bias is None and how.cap is None
    return bool(is_plain and q.size and k.size and v.size)


def _headed(shape: tuple[int, ...]) -> Array:
    """Room for ``(N, H, T, D)``, with the heads side by side: ``(N, T, H, D)``."""
    return fresh((shape[0], shape[2], shape[1], shape[3]), np.dtype(np.float32))


def _lined(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(-1)


def _sizes(q: Array, k: Array, v: Array, how: Scores) -> tuple[Array, int]:
    """What there is of everything, and how many units."""
    (_, heads, steps, features), (batch, groups, keys, _), width = q.shape, k.shape, v.shape[3]
    work = heads // groups * steps * keys * (features + width)
    several = max(1, _UNIT // work)
    sizes = batch, heads, groups, steps, keys, features, width, several
    return np.array(sizes), -(-batch * groups // several)


def _context(how: Scores, shape: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    """What is seen, and how far apart for each axis but the last; what is kept; and the scale."""
    seen = np.ones((1, 1, 1, 1), np.bool_) if how.seen is None else how.seen
    seen = seen.reshape((1,) * (4 - seen.ndim) + seen.shape)
    seen = np.ascontiguousarray(np.broadcast_to(seen, (*seen.shape[:3], shape[3])))
    apart = [0 if size == 1 else step for size, step in zip(seen.shape, seen.strides[:3], strict=False)]
    kept = np.empty(0, np.float32) if how.kept is None else np.ascontiguousarray(how.kept).reshape(-1)
    flat = seen.view(np.uint8).reshape(-1)
    return flat, np.array(apart), kept, np.array([how.scale], np.float32)


@inlined
def _scaled(q: InSingle, at: int, line: int, rows: int, size: int, scale: float, out: Single) -> None:
    for t in range(rows):
        row, seen = out[t * size : (t + 1) * size], q[at + t * line : at + t * line + size]
        for d in range(size):
            row[d] = seen[d] * scale


@inlined
def _clean(panels: Single, size: int) -> Any:
    """Put 0 in the place of what is not finite, and say whether there was any."""
    zero, odd = _one(0), _one(0)
    for i in range(size):
        odd += panels[i] * zero
    if odd == zero:
        return 0
    for i in range(size):
        panels[i] = panels[i] if panels[i] * zero == zero else zero
    return 1


@inlined
def _add_odd(
    weights: Any, at: int, kept: Any, kept_at: int, row: int, step: int, rows: int, terms: int,
    seen: Bytes, seen_at: int, seen_row: int, seen_step: int, x: InSingle, x_at: int, line: int,
    width: int, out: Any, to: int, pitch: int,
) -> None:  # fmt: skip
    """Add the products of weights with what is not finite, where that is seen, and kept."""
    for i in range(rows):
        for s in range(terms):
            shift = i * row + s * step
            if not seen[seen_at + i * seen_row + s * seen_step]:
                continue
            if len(kept) and kept[kept_at + shift] == 0:
                continue
            for e in range(width):
                value = x[x_at + s * line + e]
                if not np.isfinite(value):
                    out[to + i * pitch + e] += weights[at + shift] * value


@inlined
def _far(
    row: Any, seen: Any, queries: Any, k: Any, at: int, line: int, features: int
) -> None:  # fmt: skip
    """The softmax of scores that are too large on the way, or infinite, in float64."""
    scores, top, total = np.empty(len(row), np.float64), -np.inf, 0.0
    for s in range(len(row)):
        if seen[s]:
            score = 0.0
            for d in range(features):
                score += np.float64(queries[d]) * np.float64(k[at + s * line + d])
            scores[s] = score
            top = max(top, score)
    for s in range(len(row)):
        if seen[s]:
            scores[s] = np.exp(scores[s] - top)
            total += scores[s]
    for s in range(len(row)):
        row[s] = scores[s] / total if seen[s] else 0.0


@inlined
def _weigh(row: Any, seen: Any) -> Any:
    """The softmax of what is seen, in place; whether a score is not finite."""
    zero, one, low = _one(0), _one(1), _one(-np.inf)
    top, odd, count = low, zero, 0
    for s in range(len(row)):
        score = row[s] if seen[s] else zero
        odd += score * zero
        row[s] = score if seen[s] else low
        top = larger(top, row[s])
    for s in range(len(row)):
        count += seen[s]
    if count < 2:  # one has all the weight, whatever its score
        for s in range(len(row)):
            row[s] = one if seen[s] else zero
        return 0
    total = zero
    for s in range(len(row)):
        weight = exp(row[s] - top)
        row[s] = weight if seen[s] else zero
        total += row[s]
    share = one / total
    for s in range(len(row)):
        row[s] *= share
    return int(odd != zero)


@divided
def _attend(
    sizes: Table, q: InSingle, k: InSingle, v: InSingle, seen: Bytes, apart: Table, kept: InSingle,
    scale: InSingle, out: Single, p: Single, low: int, high: int,
) -> None:  # fmt: skip
    batch, heads, groups, steps, keys, features, width, several = (
        sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7]
    )  # fmt: skip
    of_keys, of_values = (
        np.empty((keys + LANES) * features + LANES, np.float32),
        np.empty(keys * (width + LANES) + LANES, np.float32),
    )
    queries, used = np.empty(_ROWS * features, np.float32), np.empty(_ROWS * keys, np.float32)
    for pair in range(low * several, min(high * several, batch * groups)):
        n, g = pair // groups, pair % groups
        k_at, v_at = (n * keys * groups + g) * features, (n * keys * groups + g) * width
        pack_all(beginning(k), k_at, groups * features, 1, keys, features, of_keys)
        pack_all(beginning(v), v_at, 1, groups * width, width, keys, of_values)
        is_odd = _clean(of_values, keys * ((width + LANES - 1) // LANES * LANES))
        for h in range(g * heads // groups, (g + 1) * heads // groups):
            for t in range(0, steps, _ROWS):
                rows = min(_ROWS, steps - t)
                first, p_at = (n * steps + t) * heads + h, ((n * heads + h) * steps + t) * keys
                q_at, out_at = first * features, first * width
                seen_at = n * apart[0] + h * apart[1] + t * apart[2]
                _scaled(q, q_at, heads * features, rows, features, scale[0], queries)
                multiply(beginning(queries), features, 1, beginning(of_keys),
                         beginning(p) + 4 * p_at, keys, features, rows, keys, 0)  # fmt: skip
                for i in range(rows):
                    row = p[p_at + i * keys : p_at + (i + 1) * keys]
                    flags = seen[seen_at + i * apart[2] : seen_at + i * apart[2] + keys]
                    if _weigh(row, flags):
                        _far(row, flags, queries[i * features :], k, k_at, groups * features, features)
                    if len(kept):
                        more, some = kept[p_at + i * keys :], used[i * keys : (i + 1) * keys]
                        for s in range(keys):
                            some[s] = row[s] * more[s]
                left = beginning(used) if len(kept) else beginning(p) + 4 * p_at
                multiply(left, keys, 1, beginning(of_values), beginning(out) + 4 * out_at,
                         heads * width, keys, rows, width, 0)  # fmt: skip
                if is_odd:
                    weights, at = (used, 0) if len(kept) else (p, p_at)
                    _add_odd(weights, at, kept, p_at, keys, 1, rows, keys, seen, seen_at, apart[2], 1,
                             v, v_at, groups * width, width, out, out_at, heads * width)  # fmt: skip
    of_keys[0] = of_values[0] = queries[0] = used[0] = 0  # they are there until now


@inlined
def _slope(row: Any, weights: Any, seen: Any, dot: float, scale: float) -> None:
    """From the slopes of weights to those of products of queries and keys, in place."""
    zero = _one(0)
    for s in range(len(row)):
        slope = (row[s] - dot) * weights[s] * scale
        row[s] = slope if seen[s] else zero


@inlined
def _dot(a: Any, b: Any) -> Any:
    total = _one(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@divided
def _pull(
    sizes: Table, q: InSingle, k: InSingle, v: InSingle, seen: Bytes, apart: Table, kept: InSingle,
    scale: InSingle, out: InSingle, p: InSingle, dout: InSingle, dq: Single, dk: Single, dv: Single,
    low: int, high: int,
) -> None:  # fmt: skip
    batch, heads, groups, steps, keys, features, width, several = (
        sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7]
    )  # fmt: skip
    of_keys = np.empty(keys * (features + LANES) + LANES, np.float32)
    of_values = np.empty((keys + LANES) * width + LANES, np.float32)
    queries = np.empty(_ROWS * (features + LANES) + LANES, np.float32)
    douts = np.empty(_ROWS * (width + LANES) + LANES, np.float32)
    slopes, used = np.empty(_ROWS * keys, np.float32), np.empty(_ROWS * keys, np.float32)
    for pair in range(low * several, min(high * several, batch * groups)):
        n, g = pair // groups, pair % groups
        k_at, v_at = (n * keys * groups + g) * features, (n * keys * groups + g) * width
        pack_all(beginning(k), k_at, 1, groups * features, features, keys, of_keys)
        pack_all(beginning(v), v_at, groups * width, 1, keys, width, of_values)
        odd_keys = _clean(of_keys, keys * ((features + LANES - 1) // LANES * LANES))
        for h in range(g * heads // groups, (g + 1) * heads // groups):
            for t in range(0, steps, _ROWS):
                rows, more = min(_ROWS, steps - t), int(t > 0 or h > g * heads // groups)
                first, p_at = (n * steps + t) * heads + h, ((n * heads + h) * steps + t) * keys
                q_at, out_at = first * features, first * width
                seen_at = n * apart[0] + h * apart[1] + t * apart[2]
                multiply(beginning(dout) + 4 * out_at, heads * width, 1, beginning(of_values),
                         beginning(slopes), keys, width, rows, keys, 0)  # fmt: skip
                for i in range(rows):
                    row, weights = slopes[i * keys : (i + 1) * keys], p[p_at + i * keys :]
                    flags = seen[seen_at + i * apart[2] : seen_at + i * apart[2] + keys]
                    here = slice(out_at + i * heads * width, out_at + i * heads * width + width)
                    if len(kept):
                        factors, some = kept[p_at + i * keys :], used[i * keys : (i + 1) * keys]
                        for s in range(keys):
                            some[s] = weights[s] * factors[s]
                            row[s] = row[s] * factors[s] if factors[s] != 0 else _one(0)
                    _slope(row, weights, flags, _dot(out[here], dout[here]), scale[0])
                left = beginning(used) if len(kept) else beginning(p) + 4 * p_at
                multiply(beginning(slopes), keys, 1, beginning(of_keys), beginning(dq) + 4 * q_at,
                         heads * features, keys, rows, features, 0)  # fmt: skip
                pack_all(beginning(q), q_at, 1, heads * features, features, rows, queries)
                pack_all(beginning(dout), out_at, 1, heads * width, width, rows, douts)
                odd_queries = _clean(queries, rows * ((features + LANES - 1) // LANES * LANES))
                odd_douts = _clean(douts, rows * ((width + LANES - 1) // LANES * LANES))
                multiply(beginning(slopes), 1, keys, beginning(queries), beginning(dk) + 4 * k_at,
                         groups * features, rows, keys, features, more)  # fmt: skip
                multiply(left, 1, keys, beginning(douts), beginning(dv) + 4 * v_at,
                         groups * width, rows, keys, width, more)  # fmt: skip
                if odd_keys:
                    _add_odd(slopes, 0, kept[:0], 0, keys, 1, rows, keys, seen, seen_at, apart[2], 1, k,
                             k_at, groups * features, features, dq, q_at, heads * features)  # fmt: skip
                if odd_queries:
                    _add_odd(slopes, 0, kept[:0], 0, 1, keys, keys, rows, seen, seen_at, 1, apart[2], q,
                             q_at, heads * features, features, dk, k_at, groups * features)  # fmt: skip
                if odd_douts:
                    weights, at = (used, 0) if len(kept) else (p, p_at)
                    _add_odd(weights, at, kept, p_at, 1, keys, keys, rows, seen, seen_at, 1, apart[2],
                             dout, out_at, heads * width, width, dv, v_at, groups * width)  # fmt: skip
    of_keys[0] = of_values[0] = queries[0] = douts[0] = slopes[0] = used[0] = 0  # there until now
