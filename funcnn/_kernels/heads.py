"""Attention of many heads: projections of sequences, cut into heads, and what their attention mixes."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from funcnn._kernels import attention, linear, positions
from funcnn.types import Array, Cache, Params

_NAMES = ("query", "key", "value")


def project(rows: Array, own: Params, shape: tuple[int, int, int]) -> Array:
    """Queries, keys or values ``(N, H, T, D)``; the shape is ``(N, T, H)``."""
    return attention.split_heads(linear.affine(rows, own["weight"], own.get("bias")), shape)


def attend(
    inputs: Sequence[Array],
    params: Params,
    counts: tuple[int, int],
    how: attention.Scores,
    base: float | None,
    offset: int = 0,
) -> tuple[Array, Cache]:
    """``W_o`` times all heads side by side ``+ b_o``, and what the way back needs.

    The inputs are what queries, keys and values are made of; the counts those of the heads of queries
    and of keys. A base turns both by their position; the first query has the place `offset` among the
    keys.
    """
    flat = {id(x): _rows(x) for x in inputs}
    rows = {name: flat[id(x)] for name, x in zip(_NAMES, inputs, strict=True)}
    q, k, v = (
        project(rows[name], params[name], (*x.shape[:2], count))
        for name, x, count in zip(_NAMES, inputs, (counts[0], counts[1], counts[1]), strict=True)
    )
    turns = None
    if base is not None:
        turns = tuple(
            positions.turns(one.shape[2], one.shape[3], base, one.dtype, True, first)
            for one, first in ((q, offset), (k, 0))
        )
        q, k = (positions.rotate(one, *turn, True) for one, turn in zip((q, k), turns, strict=True))
    if not how.scale:
        how = how._replace(scale=1 / sqrt(q.shape[3]))
    mixed, p, slope = attention.attend(q, k, v, how)
    out, rows["out"] = join(mixed, params["out"])
    cache = {
        "rows": rows,
        "weights": {name: own["weight"] for name, own in params.items()},
        "heads": (q, k, v),
        "turns": turns,
        "made": (mixed, p, slope),
        "how": how._replace(seen=None),
    }
    return out, cache


def join(mixed: Array, own: Params) -> tuple[Array, Array]:
    """The last projection, of all heads side by side; and its rows."""
    rows = attention.merge_heads(mixed)
    out = linear.affine(rows, own["weight"], own.get("bias"))
    return out.reshape(mixed.shape[0], mixed.shape[2], out.shape[1]), rows


def attend_gradients(
    cache: Cache, dout: Array, dp: Array | None, seen: Array | None, bias: bool, inputs: int
) -> tuple[Params, list[Array], Array | None]:
    """Gradients of `attend` for the parameters, each of so many inputs, and the bias of the scores.

    What values, keys and queries are made of alike gets the sum, in this order.
    """
    rows, weights, (q, k, v) = cache["rows"], cache["weights"], cache["heads"]
    batch, heads, steps, _ = q.shape
    found: Params = {}

    def pulled(name: str, drows: Array, more: Array | None = None) -> Array:
        """Back through one projection; its parameters' gradients stay here."""
        dweight, dbias = linear.affine_gradients(rows[name], weights[name], drows)
        found[name] = {"weight": dweight, "bias": dbias} if bias else {"weight": dweight}
        return linear.affine_input_gradient(rows[name], weights[name], drows, more)

    dmixed = attention.split_heads(pulled("out", _rows(dout)), (batch, steps, heads))
    how = cache["how"]._replace(seen=seen)
    *dheads, dscores = attention.attend_gradients(q, k, v, cache["made"], how, dmixed, dp)
    if cache["turns"] is not None:
        for place, (cos, sin) in enumerate(cache["turns"]):
            dheads[place] = positions.rotate(dheads[place], cos, -sin, True)
    dxs: list[Array] = []
    for place, name in reversed(list(enumerate(_NAMES))):
        drows = attention.merge_heads(dheads[place])
        dx = pulled(name, drows, dxs.pop(0) if place + 1 >= inputs and dxs else None)
        dxs.insert(0, dx)
    shapes = [(batch, dheads[place].shape[2], dx.shape[1]) for place, dx in enumerate(dxs)]
    dxs = [dx.reshape(shape) for dx, shape in zip(dxs, shapes, strict=True)]
    return {name: found[name] for name in weights}, dxs, dscores


def _rows(x: Array) -> Array:
    """``(N, T, F) -> (N * T, F)``."""
    return np.ascontiguousarray(x).reshape(x.shape[0] * x.shape[1], x.shape[2])
