"""Recurrent cells, and the walk along time that they share.

Inside, arrays are time-major: each step reads and writes one contiguous block. A cell is what
happens in one step; the walk does the products with the weights for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from funcnn import numerics
from funcnn._kernels.elementwise import chosen
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array, Cache

_compiled = compiled_in("funcnn._kernels.recurrent.compiled")
_also_portable = compiled_in(portable="funcnn._kernels.recurrent.portable_compiled")
Carry = tuple[Array, ...]  # (N, H) each; the first is the hidden state
Stepped = tuple[Carry, Array | None]  # and what is saved for the way back
Pulled = tuple[Array, Array, Carry]
Product = Callable[..., Array]  # with some rows of the recurrent weights, as gates; or back


class Cell(NamedTuple):
    """One step of time.

    ``step(gates, projected, recurrent, carry) -> (carry, saved)`` makes the activations of the gates
    of both products with the weights. ``gradient(gates, saved, before, after, dcarry) -> (dprojected,
    drecurrent, dcarry)`` pulls back to both, and to the carry, less what goes through ``drecurrent``.
    Gates and products are ``(gates, N, H)``, so that each gate is one block of memory.

    Where the cell is `late`, its last gate is of another product, of the hidden state times the first
    gate: ``step`` and ``gradient`` get a function for it at their end.
    """

    name: str
    gates: int
    states: int  # arrays in the carry
    one_sum: bool  # whether the products only occur as their sum
    step: Callable[..., Stepped]
    gradient: Callable[..., Pulled]
    late: bool = False


def _tanh_step(gates: Array, projected: Array, recurrent: Array, carry: Carry) -> Stepped:
    gates[...] = numerics.tanh(projected + recurrent)
    return (gates[0],), None


def _relu_step(gates: Array, projected: Array, recurrent: Array, carry: Carry) -> Stepped:
    np.maximum(projected + recurrent, 0, out=gates)
    return (gates[0],), None


def _tanh_gradient(
    gates: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> Pulled:
    dz = dcarry[0] * (1 - gates * gates)
    return dz, dz, (dz.dtype.type(0),)


def _relu_gradient(
    gates: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> Pulled:
    dz = chosen(dcarry[0], gates > 0, np.empty_like(gates))
    return dz, dz, (dz.dtype.type(0),)


def _lstm_step(gates: Array, projected: Array, recurrent: Array, carry: Carry) -> Stepped:
    np.add(projected, recurrent, out=gates)
    gates[:2] = numerics.sigmoid(gates[:2])
    gates[2] = numerics.tanh(gates[2])
    gates[3] = numerics.sigmoid(gates[3])
    i, f, g, o = gates
    c = f * carry[1]
    c += i * g
    tanh_c = numerics.tanh(c)
    return (o * tanh_c, c), tanh_c


def _lstm_gradient(
    gates: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> Pulled:
    i, f, g, o = gates
    dh, dc = dcarry
    tanh_c = numerics.tanh(after[1]) if saved is None else saved
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    dz = 1 - gates
    dz *= gates  # the slope of the sigmoids
    dz[0] *= dc * g
    dz[1] *= dc * before[1]
    np.multiply(dc * i, 1 - g * g, out=dz[2])
    dz[3] *= dh * tanh_c
    return dz, dz, (dz.dtype.type(0), dc * f)


def _gru_step(gates: Array, projected: Array, recurrent: Array, carry: Carry) -> Stepped:
    gates[:2] = numerics.sigmoid(projected[:2] + recurrent[:2])
    r, u, n = gates
    inner = recurrent[2].copy()
    n[...] = numerics.tanh(projected[2] + r * inner)
    return (n + u * (carry[0] - n),), inner


def _gru_gradient(
    gates: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> Pulled:
    (dh,), (h,), (r, u, n) = dcarry, before, gates
    dz = gates * (1 - gates)
    np.multiply(dh * (1 - u), 1 - n * n, out=dz[2])
    dz[0] *= dz[2] * saved
    dz[1] *= dh * (h - n)
    drecurrent = dz.copy()
    drecurrent[2] *= r
    return dz, drecurrent, (dh * u,)


def _late_gru_step(
    gates: Array, projected: Array, recurrent: Array, carry: Carry, product: Product
) -> Stepped:
    gates[:2] = numerics.sigmoid(projected[:2] + recurrent)
    r, u, n = gates
    n[...] = numerics.tanh(projected[2] + product(r * carry[0])[0])
    return (n + u * (carry[0] - n),), None


def _late_gru_gradient(
    gates: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry, back: Product
) -> Pulled:
    (dh,), (h,), (r, u, n) = dcarry, before, gates
    dz = gates * (1 - gates)
    np.multiply(dh * (1 - u), 1 - n * n, out=dz[2])
    dreset = back(dz[2])  # of r h
    dz[0] *= dreset * h
    dz[1] *= dh * (h - n)
    return dz, dz, (dh * u + dreset * r,)


RNN_TANH = Cell("tanh", 1, 1, True, _tanh_step, _tanh_gradient)
RNN_RELU = Cell("relu", 1, 1, True, _relu_step, _relu_gradient)
LSTM = Cell("lstm", 4, 2, True, _lstm_step, _lstm_gradient)
GRU = Cell("gru", 3, 1, False, _gru_step, _gru_gradient)
LATE_GRU = Cell("late gru", 3, 1, True, _late_gru_step, _late_gru_gradient, late=True)


@_compiled
def walk(
    cell: Cell,
    x: Array,
    params: Mapping[str, Array],
    carry: Carry,
    counts: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, Carry, Cache]:
    """All steps in order: ``(N, T, F) -> (N, T, H)``, and the carry after the last one.

    In steps that do not count the output is 0 and the carry stays. With ``weight_hr``, the hidden
    state is what that makes of it.
    """
    steps, batch, features = x.shape[1], x.shape[0], x.shape[2]
    x = x.transpose(1, 0, 2)
    valid = None if counts is None else counts.T[:, :, None]
    if valid is not None:
        x = np.where(valid, x, 0)  # whatever is there, NaN included
    weight_hh = params["weight_hh"]
    rows = np.ascontiguousarray(x).reshape(steps * batch, features)
    projected = numerics.matmul(rows, params["weight_ih"].T)
    if "bias_ih" in params:
        projected += params["bias_ih"]
    projected = projected.reshape(steps, batch, weight_hh.shape[0])
    states, gates, saved, whole = forward(cell, projected, params, carry, valid, reverse)
    after = _around(states, reverse)[1]
    carry = tuple(state[0 if reverse else -1] for state in after)
    out = after[0] if valid is None else np.where(valid, after[0], 0)
    cache = {
        "x": rows,
        "valid": valid,
        "gates": gates,
        "states": states,
        "saved": saved,
        "whole": whole,
        "weights": {name: leaf for name, leaf in params.items() if name.startswith("weight")},
    }
    return out.transpose(1, 0, 2), carry, cache


@_also_portable
def forward(
    cell: Cell,
    projected: Array,
    params: Mapping[str, Array],
    carry: Carry,
    valid: Array | None,
    reverse: bool,
) -> tuple[Carry, Array, list[Array | None], Array | None]:
    """The states before, between and after all steps, the gates, and what else gradients need."""
    weight_hh = params["weight_hh"]
    transposed = np.ascontiguousarray(weight_hh.T)  # one copy makes all the products faster
    steps, batch, _ = projected.shape
    blocks = _blocks(projected, cell.gates)
    gates: Array = np.empty(blocks.shape, projected.dtype)
    early, late = _fields(cell, weight_hh)

    def product(h: Array, rows: slice = late) -> Array:
        out = numerics.matmul(h, transposed[:, rows])
        if "bias_hh" in params:
            out += params["bias_hh"][rows]
        return _blocks(out, out.shape[1] // gates.shape[3])

    states = tuple(np.empty((steps + 1, *state.shape), gates.dtype) for state in carry)
    for state, start in zip(states, carry, strict=True):
        state[-1 if reverse else 0] = start
    after = _around(states, reverse)[1]
    saved: list[Array | None] = [None] * steps
    whole = np.empty((steps, batch, gates.shape[3]), gates.dtype) if "weight_hr" in params else None
    for t in range(steps)[:: -1 if reverse else 1]:
        given = (gates[t], blocks[t], product(carry[0], early), carry)
        new, saved[t] = cell.step(*given, product) if cell.late else cell.step(*given)
        if whole is not None:
            whole[t] = new[0]
            new = (numerics.matmul(new[0], params["weight_hr"].T), *new[1:])
        for state, fresh, old in zip(after, new, carry, strict=True):
            state[t] = fresh if valid is None else np.where(valid[t], fresh, old)
        carry = tuple(state[t] for state in after)
    return states, gates, saved, whole


@_compiled
def walk_gradients(
    cell: Cell, cache: Cache, dout: Array, dcarry: Carry, reverse: bool = False, of_input: bool = True
) -> tuple[dict[str, Array], Any, Carry]:
    """Gradients of `walk` for the parameters (both biases), the input, if wanted, and the carry."""
    if "entering" in cache:
        cache = _as_of_walk(cell, cache, reverse)
    gates, valid, weights, whole = (cache[name] for name in ("gates", "valid", "weights", "whole"))
    steps, _, batch, _ = gates.shape
    width = weights["weight_hh"].shape[0]
    early, late = _fields(cell, weights["weight_hh"])
    before = _around(cache["states"], reverse)[0]
    dprojected, drecurrent, dhidden, dcarry = backward(cell, cache, dout, dcarry, reverse)
    dz, dr = (d.reshape(steps * batch, width) for d in (dprojected, drecurrent))

    def flat(h: Array) -> Array:
        """Of the steps that count."""
        return (h if valid is None else np.where(valid, h, 0)).reshape(steps * batch, h.shape[2])

    x, hidden, dbias = cache["x"], flat(before[0]), numerics.sum(dz, 0)
    if cell.one_sum and not cell.late:  # one product, which reads `dz` once
        down = numerics.matmul(dz.T, np.concatenate([x, hidden], 1))
        of_x, of_h = (part.copy() for part in np.split(down, [x.shape[1]], 1))
    else:
        of_x, of_h = numerics.matmul(dz.T, x), numerics.matmul(dr[:, early].T, hidden)
    if cell.late:
        dlate = numerics.matmul(dr[:, late].T, flat(gates[:, 0]) * hidden)
        of_h = np.concatenate([of_h, dlate])
    dparams = {
        "weight_ih": of_x,
        "weight_hh": of_h,
        "bias_ih": dbias,
        "bias_hh": dbias.copy() if cell.one_sum else numerics.sum(dr, 0),
    }
    if dhidden is not None:
        dparams["weight_hr"] = numerics.matmul(flat(dhidden).T, flat(whole))
    if not of_input:
        return dparams, None, dcarry
    dx = numerics.matmul(dz, weights["weight_ih"]).reshape(steps, batch, cache["x"].shape[1])
    return dparams, dx.transpose(1, 0, 2), dcarry


@_also_portable
def backward(
    cell: Cell, cache: Cache, dout: Array, dcarry: Carry, reverse: bool
) -> tuple[Array, Array, Array | None, Carry]:
    """Gradients for both products of all steps, for the whole hidden state, and for the carry."""
    gates, valid, weights, whole = (cache[name] for name in ("gates", "valid", "weights", "whole"))
    steps, _, batch, _ = gates.shape
    weight_hh = weights["weight_hh"]
    width = weight_hh.shape[0]
    early, late = _fields(cell, weight_hh)
    before, after = _around(cache["states"], reverse)
    dprojected = np.empty((steps, batch, width), gates.dtype)
    drecurrent = dprojected if cell.one_sum else np.empty_like(dprojected)
    dhidden = np.empty(before[0].shape, gates.dtype) if whole is not None else None
    douts = dout.transpose(1, 0, 2) if valid is None else np.where(valid, dout.transpose(1, 0, 2), 0)

    def back(dz: Array, rows: slice = late) -> Array:
        return numerics.matmul(dz, weight_hh[rows])

    for t in range(steps)[:: 1 if reverse else -1]:
        dcarry = (dcarry[0] + douts[t], *dcarry[1:])
        dnew = dcarry if valid is None else tuple(np.where(valid[t], d, 0) for d in dcarry)
        if dhidden is not None:
            dhidden[t] = dnew[0]
            dnew = (numerics.matmul(dnew[0], weights["weight_hr"]), *dnew[1:])
        given = (gates[t], cache["saved"][t], *(tuple(s[t] for s in side) for side in (before, after)))
        extra = (back,) if cell.late else ()
        dz, dr, dold = cell.gradient(*given, dnew, *extra)
        if valid is not None:  # a carry that only passes by may hold anything
            dz, dr = np.where(valid[t], dz, 0), np.where(valid[t], dr, 0)
        _blocks(dprojected[t], cell.gates)[...] = dz
        if not cell.one_sum:
            _blocks(drecurrent[t], cell.gates)[...] = dr
        through = back(drecurrent[t][:, early], early)
        dold = (through if whole is not None else dold[0] + through, *dold[1:])
        if valid is None:
            dcarry = dold
        else:  # where the carry stays, so does its gradient
            dcarry = tuple(np.where(valid[t], d, kept) for d, kept in zip(dold, dcarry, strict=True))
    return dprojected, drecurrent, dhidden, dcarry


def _fields(cell: Cell, weight_hh: Array) -> tuple[slice, slice]:
    """The rows of the recurrent weights whose product is first, and those that come late."""
    first = len(weight_hh) // cell.gates * (cell.gates - cell.late)
    return slice(0, first), slice(first, None)


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
        "whole": None,
        "weights": {name: cache[name] for name in ("weight_ih", "weight_hh")},
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
