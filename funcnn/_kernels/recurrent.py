"""Recurrent cells, and the walk along time that they share.

Inside, arrays are time-major: each step reads and writes one contiguous block. A cell is what
happens in one step, once the products with the weights are done for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from funcnn import numerics
from funcnn.types import Array, Cache

Carry = tuple[Array, ...]  # (N, H) each; the first is the hidden state


class Cell(NamedTuple):
    """One step of time.

    ``step(z, recurrent, carry) -> (carry, saved)`` turns ``z``, the product of the input and the
    weights, into the activations of the gates, in place. ``gradient(z, saved, before, after,
    dcarry) -> (dz, drecurrent, dcarry)`` pulls back to both products and to the carry, less what
    goes through ``drecurrent``.
    """

    gates: int  # blocks of rows in the weights
    states: int  # arrays in the carry
    one_sum: bool  # whether `z` and `recurrent` only occur as their sum
    step: Callable[[Array, Array, Carry], tuple[Carry, Array | None]]
    gradient: Callable[[Array, Array | None, Carry, Carry, Carry], tuple[Array, Array, Carry]]


def _rnn(activation: Callable[[Array], Array]) -> Callable[[Array, Array, Carry], tuple[Carry, None]]:
    def step(z: Array, recurrent: Array, carry: Carry) -> tuple[Carry, None]:
        z += recurrent
        z[...] = activation(z)
        return (z,), None

    return step


def _tanh_gradient(
    z: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> tuple[Array, Array, Carry]:
    dz = dcarry[0] * (1 - z * z)
    return dz, dz, (np.zeros_like(dz),)


def _relu_gradient(
    z: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> tuple[Array, Array, Carry]:
    dz = dcarry[0] * (z > 0)
    return dz, dz, (np.zeros_like(dz),)


def _lstm_step(z: Array, recurrent: Array, carry: Carry) -> tuple[Carry, None]:
    size = carry[1].shape[1]
    z += recurrent
    z[:, : 2 * size] = numerics.sigmoid(z[:, : 2 * size])
    z[:, 2 * size : 3 * size] = numerics.tanh(z[:, 2 * size : 3 * size])
    z[:, 3 * size :] = numerics.sigmoid(z[:, 3 * size :])
    i, f, g, o = _blocks(z, 4)
    c = f * carry[1]
    c += i * g
    return (o * numerics.tanh(c), c), None


def _lstm_gradient(
    z: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> tuple[Array, Array, Carry]:
    i, f, g, o = _blocks(z, 4)
    dh, dc = dcarry
    tanh_c = numerics.tanh(after[1])
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    dz = z * (1 - z)  # the slope of the sigmoids
    di, df, dg, do = _blocks(dz, 4)
    di *= dc * g
    df *= dc * before[1]
    np.multiply(dc * i, 1 - g * g, out=dg)
    do *= dh * tanh_c
    return dz, dz, (np.zeros_like(dh), dc * f)


def _gru_step(z: Array, recurrent: Array, carry: Carry) -> tuple[Carry, Array]:
    h = carry[0]
    size = h.shape[1]
    gates, inner = z[:, : 2 * size], recurrent[:, 2 * size :].copy()
    gates += recurrent[:, : 2 * size]
    gates[...] = numerics.sigmoid(gates)
    r, u, n = _blocks(z, 3)
    n += r * inner
    n[...] = numerics.tanh(n)
    return (n + u * (h - n),), inner


def _gru_gradient(
    z: Array, saved: Array | None, before: Carry, after: Carry, dcarry: Carry
) -> tuple[Array, Array, Carry]:
    (dh,), (h,) = dcarry, before
    r, u, n = _blocks(z, 3)
    dz = z * (1 - z)
    dr, du, dn = _blocks(dz, 3)
    np.multiply(dh * (1 - u), 1 - n * n, out=dn)
    dr *= dn * saved
    du *= dh * (h - n)
    drecurrent = dz.copy()
    drecurrent[:, 2 * h.shape[1] :] *= r
    return dz, drecurrent, (dh * u,)


def _blocks(z: Array, count: int) -> list[Array]:
    """Views of the gates, ``(N, H)`` each."""
    size = z.shape[1] // count
    return [z[:, k * size : (k + 1) * size] for k in range(count)]


def _relu(z: Array) -> Array:
    return np.maximum(z, 0)


# a function of its own, so that the mode of `numerics` is the one at the time of the call
def _tanh(z: Array) -> Array:
    return numerics.tanh(z)


RNN_TANH = Cell(1, 1, True, _rnn(_tanh), _tanh_gradient)
RNN_RELU = Cell(1, 1, True, _rnn(_relu), _relu_gradient)
LSTM = Cell(4, 2, True, _lstm_step, _lstm_gradient)
GRU = Cell(3, 1, False, _gru_step, _gru_gradient)


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
    z = numerics.matmul(rows, params["weight_ih"].T)
    if "bias_ih" in params:
        z += params["bias_ih"]
    z = z.reshape(steps, batch, weight_hh.shape[0])

    states = tuple(np.empty((steps + 1, *state.shape), x.dtype) for state in carry)
    for state, start in zip(states, carry, strict=True):
        state[-1 if reverse else 0] = start
    after = _around(states, reverse)[1]
    saved: list[Array | None] = [None] * steps
    for t in range(steps)[:: -1 if reverse else 1]:
        recurrent = numerics.matmul(carry[0], transposed)
        if "bias_hh" in params:
            recurrent += params["bias_hh"]
        new, saved[t] = cell.step(z[t], recurrent, carry)
        for state, fresh, old in zip(after, new, carry, strict=True):
            state[t] = fresh if valid is None else np.where(valid[t], fresh, old)
        carry = tuple(state[t] for state in after)
    out = after[0] if valid is None else after[0] * valid
    cache = {
        "x": rows,
        "valid": valid,
        "gates": z,
        "states": states,
        "saved": saved,
        "weight_ih": params["weight_ih"],
        "weight_hh": weight_hh,
    }
    return out.transpose(1, 0, 2), carry, cache


def walk_gradients(
    cell: Cell, cache: Cache, dout: Array, dcarry: Carry, reverse: bool = False
) -> tuple[dict[str, Array], Array, Carry]:
    """Gradients of `walk` for the parameters (both biases), the input and the first carry."""
    z, valid, weight_hh = cache["gates"], cache["valid"], cache["weight_hh"]
    steps, batch, width = z.shape
    before, after = _around(cache["states"], reverse)
    dz_all = np.empty_like(z)
    drecurrent_all = dz_all if cell.one_sum else np.empty_like(z)
    douts = dout.transpose(1, 0, 2) if valid is None else np.where(valid, dout.transpose(1, 0, 2), 0)
    for t in range(steps)[:: 1 if reverse else -1]:
        dcarry = (dcarry[0] + douts[t], *dcarry[1:])
        dnew = dcarry if valid is None else tuple(np.where(valid[t], d, 0) for d in dcarry)
        befores, afters = tuple(s[t] for s in before), tuple(s[t] for s in after)
        dz, drecurrent, dold = cell.gradient(z[t], cache["saved"][t], befores, afters, dnew)
        dz_all[t] = dz
        if not cell.one_sum:
            drecurrent_all[t] = drecurrent
        dold = (dold[0] + numerics.matmul(drecurrent, weight_hh), *dold[1:])
        if valid is None:
            dcarry = dold
        else:  # where the carry stays, so does its gradient
            dcarry = tuple(np.where(valid[t], d, kept) for d, kept in zip(dold, dcarry, strict=True))
    dz, drecurrent = (d.reshape(steps * batch, width) for d in (dz_all, drecurrent_all))
    hidden = before[0].reshape(steps * batch, weight_hh.shape[1])
    dparams = {
        "weight_ih": numerics.matmul(dz.T, cache["x"]),
        "weight_hh": numerics.matmul(drecurrent.T, hidden),
        "bias_ih": numerics.sum(dz, 0),
        "bias_hh": numerics.sum(drecurrent, 0),
    }
    dx = numerics.matmul(dz, cache["weight_ih"]).reshape(steps, batch, cache["x"].shape[1])
    if valid is not None:
        dx *= valid
    return dparams, dx.transpose(1, 0, 2), dcarry


def _around(states: tuple[Array, ...], reverse: bool) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Each state before and after every step."""
    early, late = tuple(s[:-1] for s in states), tuple(s[1:] for s in states)
    return (late, early) if reverse else (early, late)
