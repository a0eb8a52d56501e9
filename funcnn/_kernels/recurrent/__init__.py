"""Recurrent cells, and the walk along time that they share.

Inside, arrays are time-major: each step reads and writes one contiguous block. A cell is what
happens in one step, once the products with the weights are done for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from funcnn import numerics
from funcnn._kernels.elementwise import chosen
from funcnn._kernels.twins import compiled_in
from funcnn.types import Array, Cache

_compiled = compiled_in("funcnn._kernels.recurrent.compiled")
Carry = tuple[Array, ...]  # (N, H) each; the first is the hidden state


class Cell(NamedTuple):
    """One step of time.

    ``step(gates, projected, recurrent, carry) -> (carry, saved)`` makes the activations of the gates
    of both products with the weights. ``gradient(gates, saved, before, after, dcarry) -> (dprojected,
    drecurrent, dcarry)`` pulls back to both, and to the carry, less what goes through ``drecurrent``.
    Gates and products are ``(gates, N, H)``, so that each gate is one block of memory.
    """

    name: str
    gates: int
    states: int  # arrays in the carry
    one_sum: bool  # whether the products only occur as their sum
    step: Callable[[Array, Array, Array, Carry], tuple[Carry, Array | None]]
    gradient: Callable[[Array, Array | None, Carry, Carry, Carry], tuple[Array, Array, Carry]]


def _tanh_step(
    gates: Array, projected: Array, recurrent: Array, carry: Carry
) -> tuple[Carry, Array | None]:
    gates[...] = numerics.tanh(projected + recurrent)
    return (gates[0],), None


def _relu_step(
    gates: Array, projected: Array, recurrent: Array, carry: Carry
) -> tuple[Carry, Array | None]:
    np.maximum(projected + recurrent, 0, out=gates)
    return (gates[0],), None


def _tanh_gradient(
    gates: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> tuple[Array, Array, Carry]:
    dz = dcarry[0] * (1 - gates * gates)
    return dz, dz, (np.zeros_like(dz[0]),)


def _relu_gradient(
    gates: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> tuple[Array, Array, Carry]:
    dz = chosen(dcarry[0], gates > 0, np.empty_like(gates))
    return dz, dz, (np.zeros_like(dz[0]),)


def _lstm_step(
    gates: Array, projected: Array, recurrent: Array, carry: Carry
) -> tuple[Carry, Array | None]:
    np.add(projected, recurrent, out=gates)
    gates[:2] = numerics.sigmoid(gates[:2])
    gates[2] = numerics.tanh(gates[2])
    gates[3] = numerics.sigmoid(gates[3])
    i, f, g, o = gates
    c = f * carry[1]
    c += i * g
    return (o * numerics.tanh(c), c), None


def _lstm_gradient(
    gates: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> tuple[Array, Array, Carry]:
    i, f, g, o = gates
    dh, dc = dcarry
    tanh_c = numerics.tanh(after[1])
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    dz = gates * (1 - gates)  # the slope of the sigmoids
    dz[0] *= dc * g
    dz[1] *= dc * before[1]
    np.multiply(dc * i, 1 - g * g, out=dz[2])
    dz[3] *= dh * tanh_c
    return dz, dz, (np.zeros_like(dh), dc * f)


def _gru_step(
    gates: Array, projected: Array, recurrent: Array, carry: Carry
) -> tuple[Carry, Array | None]:
    gates[:2] = numerics.sigmoid(projected[:2] + recurrent[:2])
    r, u, n = gates
    inner = recurrent[2].copy()
    n[...] = numerics.tanh(projected[2] + r * inner)
    return (n + u * (carry[0] - n),), inner


def _gru_gradient(
    gates: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> tuple[Array, Array, Carry]:
    (dh,), (h,), (r, u, n) = dcarry, before, gates
    dz = gates * (1 - gates)
    np.multiply(dh * (1 - u), 1 - n * n, out=dz[2])
    dz[0] *= dz[2] * saved
    dz[1] *= dh * (h - n)
    drecurrent = dz.copy()
    drecurrent[2] *= r
    return dz, drecurrent, (dh * u,)


RNN_TANH = Cell("tanh", 1, 1, True, _tanh_step, _tanh_gradient)
RNN_RELU = Cell("relu", 1, 1, True, _relu_step, _relu_gradient)
LSTM = Cell("lstm", 4, 2, True, _lstm_step, _lstm_gradient)
GRU = Cell("gru", 3, 1, False, _gru_step, _gru_gradient)


@_compiled
def walk(
    cell: Cell,
    x: Array,
    params: Mapping[str, Array],
    carry: Carry,
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, Carry, Cache]:
    """All steps in order: ``(N, T, F) -> (N, T, H)``, and the carry after the last one.

    Where a sequence has ended (in reverse: has not begun) the output is 0 and the carry stays.
    """
    steps, batch, features = x.shape[1], x.shape[0], x.shape[2]
    x = x.transpose(1, 0, 2)
    valid = None if lengths is None else np.arange(steps)[:, None, None] < lengths[:, None]
    if valid is not None:
        x = np.where(valid, x, 0)  # whatever is there, NaN included
    weight_hh = params["weight_hh"]
    transposed = np.ascontiguousarray(weight_hh.T)  # one copy makes all the products faster
    rows = np.ascontiguousarray(x).reshape(steps * batch, features)
    projected = numerics.matmul(rows, params["weight_ih"].T)
    if "bias_ih" in params:
        projected += params["bias_ih"]
    blocks = _blocks(projected.reshape(steps, batch, weight_hh.shape[0]), cell.gates)
    gates = np.empty(blocks.shape, x.dtype)

    states = tuple(np.empty((steps + 1, *state.shape), x.dtype) for state in carry)
    for state, start in zip(states, carry, strict=True):
        state[-1 if reverse else 0] = start
    after = _around(states, reverse)[1]
    saved: list[Array | None] = [None] * steps
    for t in range(steps)[:: -1 if reverse else 1]:
        recurrent = numerics.matmul(carry[0], transposed)
        if "bias_hh" in params:
            recurrent += params["bias_hh"]
        new, saved[t] = cell.step(gates[t], blocks[t], _blocks(recurrent, cell.gates), carry)
        for state, fresh, old in zip(after, new, carry, strict=True):
            state[t] = fresh if valid is None else np.where(valid[t], fresh, old)
        carry = tuple(state[t] for state in after)
    out = after[0] if valid is None else np.where(valid, after[0], 0)
    cache = {
        "x": rows,
        "valid": valid,
        "gates": gates,
        "states": states,
        "saved": saved,
        "weight_ih": params["weight_ih"],
        "weight_hh": weight_hh,
    }
    return out.transpose(1, 0, 2), carry, cache


@_compiled
def walk_gradients(
    cell: Cell, cache: Cache, dout: Array, dcarry: Carry, reverse: bool = False
) -> tuple[dict[str, Array], Array, Carry]:
    """Gradients of `walk` for the parameters (both biases), the input and the first carry."""
    if "entering" in cache:
        cache = _as_of_walk(cell, cache, reverse)
    gates, valid, weight_hh = cache["gates"], cache["valid"], cache["weight_hh"]
    steps, _, batch, _ = gates.shape
    width = weight_hh.shape[0]
    before, after = _around(cache["states"], reverse)
    dprojected = np.empty((steps, batch, width), gates.dtype)
    drecurrent = dprojected if cell.one_sum else np.empty_like(dprojected)
    douts = dout.transpose(1, 0, 2) if valid is None else np.where(valid, dout.transpose(1, 0, 2), 0)
    for t in range(steps)[:: 1 if reverse else -1]:
        dcarry = (dcarry[0] + douts[t], *dcarry[1:])
        dnew = dcarry if valid is None else tuple(np.where(valid[t], d, 0) for d in dcarry)
        befores, afters = tuple(s[t] for s in before), tuple(s[t] for s in after)
        dz, dr, dold = cell.gradient(gates[t], cache["saved"][t], befores, afters, dnew)
        if valid is not None:  # a carry that only passes by may hold anything
            dz, dr = np.where(valid[t], dz, 0), np.where(valid[t], dr, 0)
        _blocks(dprojected[t], cell.gates)[...] = dz
        if not cell.one_sum:
            _blocks(drecurrent[t], cell.gates)[...] = dr
        dold = (dold[0] + numerics.matmul(drecurrent[t], weight_hh), *dold[1:])
        if valid is None:
            dcarry = dold
        else:  # where the carry stays, so does its gradient
            dcarry = tuple(np.where(valid[t], d, kept) for d, kept in zip(dold, dcarry, strict=True))
    dz, dr = (d.reshape(steps * batch, width) for d in (dprojected, drecurrent))
    hidden = before[0] if valid is None else np.where(valid, before[0], 0)
    dparams = {
        "weight_ih": numerics.matmul(dz.T, cache["x"]),
        "weight_hh": numerics.matmul(dr.T, hidden.reshape(steps * batch, weight_hh.shape[1])),
        "bias_ih": numerics.sum(dz, 0),
        "bias_hh": numerics.sum(dr, 0),
    }
    dx = numerics.matmul(dz, cache["weight_ih"]).reshape(steps, batch, cache["x"].shape[1])
    return dparams, dx.transpose(1, 0, 2), dcarry


def _as_of_walk(cell: Cell, cache: Cache, reverse: bool) -> Cache:
    """What compiled kernels have left, as `walk` leaves it."""

    def whole(part: Array) -> Array:
        """``(P, T, rows, N / P) -> (T, N, rows)``, in the order of time."""
        found = part.transpose(1, 0, 3, 2).reshape(part.shape[1], -1, part.shape[2])
        return found[::-1] if reverse else found

    x, entering, memory = cache["x"].transpose(1, 0, 2), whole(cache["entering"]), cache["memory"]
    gates = _blocks(whole(cache["gates"]), cell.gates + (not cell.one_sum))
    saved = None if cell.one_sum else gates[:, 3]
    return {
        **cache,
        "x": np.ascontiguousarray(x).reshape(-1, x.shape[2]),
        "valid": None,
        "gates": np.ascontiguousarray(gates if cell.one_sum else gates[:, [1, 2, 0]]),
        "states": (entering[:, :, x.shape[2] :], *(whole(memory) for _ in range(1, cell.states))),
        "saved": [None] * len(x) if saved is None else saved,
    }


def _around(states: tuple[Array, ...], reverse: bool) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Each state before and after every step."""
    early, late = tuple(s[:-1] for s in states), tuple(s[1:] for s in states)
    return (late, early) if reverse else (early, late)


def _blocks(z: Array, gates: int) -> Array:
    """``(..., N, gates * H) -> (..., gates, N, H)``, a view."""
    return z.reshape(*z.shape[:-1], gates, z.shape[-1] // gates).swapaxes(-3, -2)
