"""Scaled dot-product attention of many heads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from funcnn import numerics
from funcnn.machine.threads import share
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_FOLDER = "funcnn._kernels.attention"
_compiled = compiled_in(f"{_FOLDER}.compiled", f"{_FOLDER}.portable_compiled")

# Measured in November 2026 on an AMD EPYC (two cores, AVX-512, 1 MiB of second-level cache):
# from 2**13 to 2**20, a step of 64 times 64 scores takes the same time within 5 %.
_CHUNK = 2**16  # scores at a time


class Scores(NamedTuple):
    """What becomes of the products of queries and keys before they are weights, and after.

    ``seen`` and ``bias`` broadcast to ``(N, H, T, S)``, and ``kept`` has that shape; a ``cap`` bounds
    what ``scale`` gives, by ``cap tanh(s / cap)``.
    """

    scale: float
    seen: Array | None = None
    bias: Array | None = None
    cap: float | None = None
    kept: Array | None = None


def visible(
    steps: tuple[int, int],
    causal: bool,
    mask: Array | None = None,
    bias: Array | None = None,
    window: int | None = None,
    offset: int = 0,
) -> Array | None:
    """What each query may see, to broadcast over ``(N, heads, T, S)``; None for everything.

    A mask of keys is ``(N, S)``, one of pairs ``(N, T, S)``. The first query has the place `offset`
    among the keys, and sees those at most `window` away.
    """
    seen: Array | None = np.tri(*steps, k=offset, dtype=np.bool_) if causal else None
    if window is not None:
        away = np.arange(steps[0])[:, None] + offset - np.arange(steps[1])
        near = np.abs(away) <= window
        seen = near if seen is None else seen & near
    if mask is not None:
        mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        seen = mask if seen is None else mask & seen
    if bias is not None and (bias == -np.inf).any():
        given = bias != -np.inf  # NaN is
        seen = given if seen is None else seen & given
    return seen


def idle(mask: Array, itself: bool) -> Array:
    """The steps that nobody sees, ``(N, S)``; if they see each other, that see nobody either."""
    if mask.ndim == 2:
        return ~mask
    unseen: Array = ~np.any(mask, 1)
    return unseen & ~np.any(mask, 2) if itself else unseen


def unclean(x: Array, idle: Array) -> Array:
    """Where steps that do not count hold what could spoil a product: NaN, infinity, huge numbers."""
    gone: Array = idle[..., None] & ~(np.abs(x) < np.sqrt(np.finfo(x.dtype).max))
    return gone


@_compiled
def attend(q: Array, k: Array, v: Array, how: Scores) -> tuple[Array, Array, Array | None]:
    """``softmax(scores(q kᵀ)) v``, the softmax, and the slope of the cap if there is one.

    Queries are ``(N, H, T, D)``, keys ``(N, K, S, D)``, values ``(N, K, S, E)``. A query that sees
    nothing gets zeros. Each of the K heads of keys serves ``H / K`` heads of queries, which are laid
    behind each other in time, so that no key is copied. ``kept`` multiplies the softmax.
    """
    batch, heads, steps, _ = q.shape
    keys, groups = k.shape[2], k.shape[1]
    p = np.empty((batch, heads, steps, keys), q.dtype)
    slope = None if how.cap is None else np.empty_like(p)
    out = _headed((batch, heads, steps, v.shape[3]), q)
    parts = _parts(p)

    def attend_some(i: int) -> None:
        part = parts[i]
        hidden, unused = _blind(how, part)
        queries = _grouped(q[part] * q.dtype.type(how.scale), groups)
        scores, far = _scores(queries, k[part], p[part].shape)
        if how.cap is not None and slope is not None:
            bound = scores.dtype.type(how.cap)
            bent = numerics.tanh(scores / bound)
            scores, slope[part] = bound * bent, 1 - bent * bent
        bias = None if how.bias is None else how.bias[part]
        if bias is not None:
            scores += bias
        scores = numerics.exp(_below_top(scores, hidden, far if how.cap is None else None, bias))
        total = _total(scores)
        if hidden is not None:
            total[total == 0] = 1
        np.divide(scores, total, out=p[part])
        _hide(p[part], hidden, total)
        lonely = _lonely(hidden, scores)
        if lonely is not None:
            np.copyto(p[part], 1 if hidden is None else ~hidden, where=lonely)
        used = p[part] if how.kept is None else p[part] * how.kept[part]
        mixed = _product(_grouped(used, groups), v[part], _alike(unused, used, groups))
        out[part] = mixed.reshape(out[part].shape)

    share(attend_some, len(parts))
    return out, p, slope


@_compiled
def attend_gradients(
    q: Array,
    k: Array,
    v: Array,
    made: tuple[Array, Array, Array | None],
    how: Scores,
    dout: Array,
    dp: Array | None = None,
) -> tuple[Array, Array, Array, Array | None]:
    """Gradients of `attend` for the queries, the keys, the values and the bias.

    They come from the output and, if there is `dp`, from the softmax. ``sum(p * dp)`` over the keys is
    ``sum(out * dout)`` over the features, which are fewer.
    """
    (out, p, slope), dweights, groups = made, dp, k.shape[1]
    dq, dk, dv = _headed(q.shape, q), _headed(k.shape, q), _headed(v.shape, q)
    dbias = None if how.bias is None else np.empty_like(p)
    parts = _parts(p)

    def pull_some(i: int) -> None:
        part = parts[i]
        hidden, unused = _blind(how, part)
        used = p[part] if how.kept is None else p[part] * how.kept[part]
        douts, weights = _grouped(dout[part], groups), _grouped(used, groups).swapaxes(2, 3)
        blind = _alike(unused, used, groups)
        dv[part] = _product(weights, douts, None if blind is None else blind.swapaxes(2, 3))
        dp = numerics.matmul(douts, v[part].swapaxes(2, 3)).reshape(used.shape)
        if how.kept is not None:
            dp *= how.kept[part]
            _hide(dp, unused, dp)
        dp -= numerics.sum(out[part] * dout[part], -1, keepdims=True)
        if dweights is not None:
            given = dweights[part] if hidden is None else np.where(hidden, 0, dweights[part])
            dp += given
            dp -= numerics.sum(p[part] * given, -1, keepdims=True)
        dp *= p[part]
        if dbias is not None:
            dbias[part] = dp if hidden is None else np.where(hidden, 0, dp)
            lonely = _lonely(hidden, dp)
            if lonely is not None:  # a weight of 1, whatever is added
                np.copyto(dbias[part], 0, where=lonely)
        if slope is not None:
            dp *= slope[part]
        dp *= dp.dtype.type(how.scale)
        _hide(dp, hidden, dp)
        dscores, blind = _grouped(dp, groups), _alike(hidden, dp, groups)
        dq[part] = _product(dscores, k[part], blind).reshape(dq[part].shape)
        queries, dscores = _grouped(q[part], groups), dscores.swapaxes(2, 3)
        dk[part] = _product(dscores, queries, None if blind is None else blind.swapaxes(2, 3))

    share(pull_some, len(parts))
    return dq, dk, dv, dbias


def _total(weights: Array) -> Array:
    """The sum over the keys: in portable mode rounded once, so that hidden keys leave no trace."""
    if numerics.mode() == "portable" and not numerics.counter():  # the sum is no product that counts
        return numerics.matmul(weights, np.ones((weights.shape[-1], 1), weights.dtype))
    return numerics.sum(weights, -1, keepdims=True)


def _blind(how: Scores, part: slice) -> tuple[Array | None, Array | None]:
    """Which keys have no score for a query, and which have no weight, as some are dropped."""
    seen, kept = how.seen, how.kept
    hidden = None if seen is None else ~(seen[part] if seen.ndim == 4 else seen)
    if kept is None:
        return hidden, hidden
    return hidden, kept[part] == 0 if hidden is None else hidden | (kept[part] == 0)


Far = tuple[Array, Array]  # scores as ``small * 2**power``


def _scores(queries: Array, keys: Array, shape: tuple[int, ...]) -> tuple[Array, Far | None]:
    """The products, right also where a sum is beyond the largest number on the way; how far beyond."""
    scores = numerics.matmul(queries, keys.swapaxes(2, 3)).reshape(shape)
    longest = [float(np.max(np.abs(x), initial=0)) for x in (queries, keys)]
    if longest[0] * longest[1] * queries.shape[3] < np.finfo(scores.dtype).max:
        return scores, None
    (q, of_q), (k, of_k) = _scaled(queries), _scaled(keys)
    small = numerics.matmul(q, k.swapaxes(2, 3)).reshape(shape)
    power = (of_q + of_k.swapaxes(2, 3)).reshape(shape)
    return np.where(np.isfinite(scores), scores, np.ldexp(small, power)), (small, power)


def _scaled(x: Array) -> tuple[Array, Array]:
    """Each row times a power of two, so that its largest number is about 1, and the power taken out."""
    power = np.frexp(np.max(np.abs(x), -1, keepdims=True))[1]
    return np.ldexp(x, -power), power


def _below_top(scores: Array, hidden: Array | None, far: Far | None, bias: Array | None) -> Array:
    """Scores less the largest of their row, in place; those of what is hidden are minus infinity."""
    if hidden is not None:
        np.copyto(scores, -np.inf, where=hidden)
    top = np.max(scores, -1, keepdims=True)
    lost = ~np.isfinite(top)
    if hidden is not None and lost.any():
        lost &= ~np.all(np.broadcast_to(hidden, scores.shape), -1, keepdims=True)
        top[top == -np.inf] = 0  # of a query that sees nothing
    scores -= top
    if far is not None and lost.any():
        np.copyto(scores, _far_below_top(*far, hidden, bias), where=lost)
    return scores


def _far_below_top(small: Array, power: Array, hidden: Array | None, bias: Array | None) -> Array:
    """The same for scores beyond the largest number: by powers of two less, which cost no digit."""
    seen = small != 0 if hidden is None else (small != 0) & ~hidden
    most = np.max(power, -1, keepdims=True, initial=-5000, where=seen)
    scores = np.ldexp(small, np.minimum(power - most, 0))
    if bias is not None:
        scores += np.ldexp(bias, -most)
    if hidden is not None:
        np.copyto(scores, -np.inf, where=hidden)
    scores -= np.max(scores, -1, keepdims=True)
    out: Array = np.ldexp(scores, most)
    return out


def _lonely(hidden: Array | None, scores: Array) -> Array | None:
    """Queries that see one key: it has all the weight, whatever its score."""
    keys = scores.shape[-1]
    if hidden is None:
        return np.ones(1, np.bool_) if keys == 1 else None
    lonely = np.count_nonzero(hidden, -1, keepdims=True) == keys - 1
    return lonely if lonely.any() else None


# A weight of 0 times infinity or NaN is NaN. So where something is not finite, what has no weight is
# left out by other means.


def _hide(weights: Array, hidden: Array | None, witness: Array) -> None:
    """Set to 0 what is hidden, if a row may not be finite."""
    if hidden is not None and not np.isfinite(witness).all():
        np.copyto(weights, 0, where=hidden)


def _product(a: Array, b: Array, hidden: Array | None) -> Array:
    """``a b``, without the terms for which `a` is hidden: the same bits, whatever `b` holds there."""
    out = numerics.matmul(a, b)
    if hidden is None or np.isfinite(out).all():
        return out
    finite = np.isfinite(b)
    out = numerics.matmul(a, np.where(finite, b, 0))
    for k in np.flatnonzero(~finite.all((0, 1, 3))):
        counts = ~(hidden[..., k, None] | finite[:, :, None, k])
        np.add(out, a[..., k, None] * b[:, :, None, k], out=out, where=counts)
    return out


def _alike(hidden: Array | None, weights: Array, groups: int) -> Array | None:
    """What is hidden, in the form of the weights of each group."""
    return None if hidden is None else _grouped(np.broadcast_to(hidden, weights.shape), groups)


def _parts(p: Array) -> list[slice]:
    """Slices of the batch whose scores stay in the processor's cache; threads share them out."""
    count = max(1, _CHUNK * len(p) // max(p.size, 1))
    return [slice(first, first + count) for first in range(0, len(p), count)]


def _grouped(x: Array, groups: int) -> Array:
    """``(N, H, T, D) -> (N, K, H / K * T, D)``; a view where H is K, else perhaps a copy."""
    batch, heads, steps, features = x.shape
    return x if heads == groups else x.reshape(batch, groups, heads // groups * steps, features)


def split_heads(rows: Array, shape: tuple[int, int, int]) -> Array:
    """``(N * T, H * D) -> (N, H, T, D)``, a view; the shape is ``(N, T, H)``."""
    return rows.reshape(*shape, rows.shape[1] // shape[2]).transpose(0, 2, 1, 3)


def merge_heads(x: Array) -> Array:
    """``(N, H, T, D) -> (N * T, H * D)``, a view of what `attend` and its gradients give."""
    batch, heads, steps, features = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch * steps, heads * features)


def _headed(shape: tuple[int, ...], like: Array) -> Array:
    """Room for ``(N, H, T, D)``, with the heads side by side in memory."""
    batch, heads, steps, features = shape
    return np.empty((batch, steps, heads, features), like.dtype).transpose(0, 2, 1, 3)


def over_heads(dscores: Array) -> Array:
    """The gradient of a bias that all heads share, ``(N, H, T, S) -> (N, T, S)``."""
    return numerics.sum(dscores, 1)
