"""Attention of many heads: projections of sequences, cut into heads, and what their attention mixes."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from funcnn._kernels import attention, linear, positions
from funcnn.types import Array, Cache, Params


def attend(
    x: Array,
    memory: Array | None,
    params: Params,
    counts: tuple[int, int],
    seen: Array | None,
    kept: Array | None,
    base: float | None,
) -> tuple[Array, Cache]:
    """``W_o`` times all heads side by side ``+ b_o``, and what the way back needs.

    Keys and values are made of the memory, or of `x` itself. The counts are those of the heads of
    queries and of keys; a base turns both by their position.
    """
    source = x if memory is None else memory
    rows = {"query": _rows(x)}
    rows["value"] = rows["key"] = rows["query"] if memory is None else _rows(source)
    projected = []
    for name, of, count in (
        ("query", x, counts[0]),
        ("key", source, counts[1]),
        ("value", source, counts[1]),
    ):
        flat = linear.affine(rows[name], params[name]["weight"], params[name].get("bias"))
        projected.append(attention.split_heads(flat, (*of.shape[:2], count)))
    turns = None
    if base is not None:
        turns = positions.turns(x.shape[1], projected[0].shape[3], base, x.dtype, True)
        projected[:2] = [positions.rotate(one, *turns, True) for one in projected[:2]]
    q, k, v = projected
    mixed, p = attention.attend(q, k, v, seen, 1 / sqrt(q.shape[3]), kept)
    rows["out"] = attention.merge_heads(mixed)
    out = linear.affine(rows["out"], params["out"]["weight"], params["out"].get("bias"))
    cache = {
        "rows": rows,
        "weights": {name: own["weight"] for name, own in params.items()},
        "heads": (q, k, v),
        "turns": turns,
        "p": p,
        "kept": kept,
        "mixed": mixed,
        "crossed": memory is not None,
    }
    return out.reshape(*x.shape[:2], out.shape[1]), cache


def attend_gradients(
    cache: Cache, dout: Array, seen: Array | None, bias: bool
) -> tuple[Params, list[Array]]:
    """Gradients of `attend` for the parameters, and for `x` and the memory if there is one."""
    rows, weights, (q, k, v) = cache["rows"], cache["weights"], cache["heads"]
    batch, heads, steps, size = q.shape
    found: Params = {}

    def pulled(name: str, drows: Array) -> Array:
        """Back through one projection; its parameters' gradients stay here."""
        dweight, dbias = linear.affine_gradients(rows[name], weights[name], drows)
        found[name] = {"weight": dweight, "bias": dbias} if bias else {"weight": dweight}
        return linear.affine_input_gradient(rows[name], weights[name], drows)

    dmixed = attention.split_heads(pulled("out", _rows(dout)), (batch, steps, heads))
    dheads = list(
        attention.attend_gradients(
            q, k, v, cache["p"], cache["mixed"], dmixed, seen, 1 / sqrt(size), cache["kept"]
        )
    )
    if cache["turns"] is not None:
        cos, sin = cache["turns"]
        dheads[:2] = [positions.rotate(one, cos, -sin, True) for one in dheads[:2]]
    dx, dk, dv = (
        pulled(name, attention.merge_heads(dhead))
        for name, dhead in zip(("query", "key", "value"), dheads, strict=True)
    )
    dmemory = dk + dv
    dx = dx if cache["crossed"] else dx + dmemory
    dxs: list[Any] = [dx.reshape(batch, steps, dx.shape[1])]
    if cache["crossed"]:
        dxs.append(dmemory.reshape(batch, k.shape[2], dmemory.shape[1]))
    return {name: found[name] for name in weights}, dxs


def _rows(x: Array) -> Array:
    """``(N, T, F) -> (N * T, F)``."""
    return np.ascontiguousarray(x).reshape(x.shape[0] * x.shape[1], x.shape[2])
