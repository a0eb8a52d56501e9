"""All steps of an LSTM or a GRU in one kernel, with the bits of portable mode.

The recurrent weights are packed once. Each thread walks with some of the sequences, none of which
meets another. Every operation is that of the cell, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from funcnn._kernels.recurrent import Carry, Cell
from funcnn.machine.threads import team
from funcnn.numerics.handover import divided_exactly
from funcnn.numerics.jit import Address, InSingle, OutBytes, Single, Table, address
from funcnn.numerics.numbers import sigmoid, tanh
from funcnn.numerics.packing import LANES, TALL, pack_columns, pack_rows
from funcnn.numerics.panels import beginning, packed_product, unaligned
from funcnn.types import Array, Cache

_PART = 1 << 21  # multiplications that are worth a thread; measured as `panels` says
_PANEL = 3 * LANES
_NAMES = ("lstm", "gru")


def _ends(steps: int, batch: int, weight: Array) -> Array:
    """Where the sequences of each thread end; it does not show in what they give."""
    count = max(1, min(team(), steps * batch * weight.size // _PART))
    return np.array(sorted({*(batch * i // count // TALL * TALL for i in range(count)), batch, 0}))


def _fits(cell: Cell, weights: Mapping[str, Array], *arrays: Array) -> bool:
    singles = all(x.dtype == np.float32 and x.size for x in (weights["weight_hh"], *arrays))
    return cell.name in _NAMES and "weight_hr" not in weights and singles


def forward(
    cell: Cell,
    projected: Array,
    params: Mapping[str, Array],
    carry: Carry,
    valid: Array | None,
    reverse: bool,
) -> Any:
    """`funcnn._kernels.recurrent.forward`, where all steps count."""
    weight = params["weight_hh"]
    if valid is not None or not _fits(cell, params, projected, *carry) or not weight.flags.aligned:
        return NotImplemented
    (steps, batch, width), hidden = projected.shape, weight.shape[1]
    bias = np.array(params.get("bias_hh", ()), np.float32)
    gates = np.empty((steps, cell.gates, batch, hidden), np.float32)
    states = np.empty((cell.states, steps + 1, batch, hidden), np.float32)
    for state, start in zip(states, carry, strict=True):
        state[-1 if reverse else 0] = start
    inner = np.empty((0 if cell.one_sum else steps, batch, hidden), np.float32)
    order = np.arange(steps)[:: -1 if reverse else 1].copy()
    ends, doubt = _ends(steps, batch, weight), np.zeros(1, np.uint8)
    product, edge = (np.empty(n, np.float32) for n in (batch * width, len(ends) * TALL * _PANEL))
    _forward(
        order, ends, projected.reshape(-1), bias, gates.reshape(-1), states.reshape(-1),
        inner.reshape(-1), product, edge, address(weight), weight.strides[0] // 4,
        weight.strides[1] // 4, steps, batch, hidden, width, reverse, doubt, 0, len(ends) - 1,
    )  # fmt: skip
    if doubt[0]:
        return NotImplemented
    saved: list[Array | None] = [None] * steps if cell.one_sum else list(inner)
    return tuple(states), gates, saved, None


def backward(cell: Cell, cache: Cache, dout: Array, dcarry: Carry, reverse: bool) -> Any:
    """`funcnn._kernels.recurrent.backward`, where all steps count."""
    weight = cache["weights"]["weight_hh"]
    if cache["valid"] is not None or not _fits(cell, cache["weights"], dout, *dcarry):
        return NotImplemented
    if not weight.flags.aligned:
        return NotImplemented
    steps, count, batch, hidden = cache["gates"].shape
    width = count * hidden
    gates, douts = (np.ascontiguousarray(x) for x in (cache["gates"], dout))
    states, carried = np.stack(cache["states"]), np.array(dcarry, order="C")  # which is written to
    inner = np.zeros(0, np.float32) if cell.one_sum else np.stack(cache["saved"])
    dprojected = np.empty((steps, batch, width), np.float32)
    drecurrent = dprojected if cell.one_sum else np.empty_like(dprojected)
    order = np.arange(steps)[:: 1 if reverse else -1].copy()
    ends, doubt = _ends(steps, batch, weight), np.zeros(1, np.uint8)
    product, edge = (np.empty(n, np.float32) for n in (batch * hidden, len(ends) * TALL * _PANEL))
    _backward(
        order, ends, gates.reshape(-1), states.reshape(-1), inner.reshape(-1), douts.reshape(-1),
        dprojected.reshape(-1), drecurrent.reshape(-1), carried.reshape(-1), product, edge,
        address(weight), weight.strides[0] // 4, weight.strides[1] // 4, steps, batch, hidden,
        width, reverse, doubt, 0, len(ends) - 1,
    )  # fmt: skip
    if doubt[0]:
        return NotImplemented
    return dprojected, drecurrent, None, tuple(carried)


@divided_exactly
def _forward(
    order: Table, ends: Table, projected: InSingle, bias: InSingle, gates: Single, states: Single,
    inner: Single, products: Single, edge: Single, weight: Address, row: int, term: int,
    steps: int, batch: int, hidden: int, width: int, reverse: int, doubtful: OutBytes,
    first_part: int, last_part: int,
) -> None:  # fmt: skip
    low, high = ends[first_part], ends[last_part]
    product, spare = products[low * width : high * width], edge[first_part * TALL * _PANEL :]
    many, block, doubt = high - low, batch * hidden, 0
    left, norm = np.empty(many * hidden + LANES), np.empty(many + LANES)
    right, size = np.empty((width + LANES) * (hidden + 1) + 8), np.empty(width + 2 * LANES)
    start, moments = unaligned(right), (steps + 1) * block
    pack_columns(weight, row, term, width, hidden, right, start, size)
    seen, to, rest = beginning(states), beginning(product), beginning(spare)
    for t in order:
        before, after = (t + reverse) * block, (t + 1 - reverse) * block
        pack_rows(seen, before + low * hidden, hidden, 1, many, hidden, left, norm)
        doubt |= packed_product(left, norm, right, size, to, rest, hidden, many, width, start, 0, width)
        if len(bias):
            for n in range(many):
                line = product[n * width : (n + 1) * width]
                for i in range(width):
                    line[i] += bias[i]
        for n in range(low, high):
            place, own = n * hidden, (n + 1) * hidden
            first = t * width * batch + place
            p, r = projected[(t * batch + n) * width :], product[(n - low) * width :]
            h0, h1 = states[before + place :], states[after + place : after + own]
            z0, z1 = gates[first : first + hidden], gates[first + block : first + block + hidden]
            z2 = gates[first + 2 * block : first + 2 * block + hidden]
            for i in range(2 * hidden if len(inner) else width):
                r[i] += p[i]
            sigmoid(r[:hidden], z0)
            sigmoid(r[hidden : 2 * hidden], z1)
            third = r[2 * hidden : 3 * hidden]
            if len(inner):
                saved = inner[t * block + place :]
                for i in range(hidden):
                    saved[i] = third[i]
                    third[i] = p[2 * hidden + i] + z0[i] * third[i]
                tanh(third, z2)
                for i in range(hidden):
                    h1[i] = z2[i] + z1[i] * (h0[i] - z2[i])
            else:
                z3 = gates[first + 3 * block : first + 3 * block + hidden]
                c0, c1 = states[moments + before + place :], states[moments + after + place :]
                tanh(third, z2)
                sigmoid(r[3 * hidden : width], z3)
                for i in range(hidden):
                    c1[i] = z1[i] * c0[i] + z0[i] * z2[i]
                tanh(c1[:hidden], third)
                for i in range(hidden):
                    h1[i] = z3[i] * third[i]
            for i in range(hidden):
                doubt |= not abs(h1[i]) < np.inf
    if doubt:
        doubtful[0] = 1


@divided_exactly
def _backward(
    order: Table, ends: Table, gates: InSingle, states: InSingle, inner: InSingle, slope: InSingle,
    dprojected: Single, drecurrent: Single, carried: Single, products: Single, edge: Single,
    weight: Address, row: int, term: int, steps: int, batch: int, hidden: int, width: int,
    reverse: int, doubtful: OutBytes, first_part: int, last_part: int,
) -> None:  # fmt: skip
    low, high = ends[first_part], ends[last_part]
    product, spare = products[low * hidden : high * hidden], edge[first_part * TALL * _PANEL :]
    many, block, doubt, one = high - low, batch * hidden, 0, np.float32(1)
    left, norm = np.empty(many * width + LANES), np.empty(many + LANES)
    right, size = np.empty((hidden + LANES) * (width + 1) + 8), np.empty(hidden + 2 * LANES)
    start, moments = unaligned(right), (steps + 1) * block
    pack_columns(weight, term, row, hidden, width, right, start, size)
    seen, to, rest = beginning(drecurrent), beginning(product), beginning(spare)
    tanh_c = np.empty(hidden, np.float32)
    for t in order:
        before, after = (t + reverse) * block, (t + 1 - reverse) * block
        for n in range(low, high):
            place, first = n * hidden, t * width * batch + n * hidden
            d, dh, dc = slope[(n * steps + t) * hidden :], carried[place:], carried[block + place :]
            dz, dr = dprojected[(t * batch + n) * width :], drecurrent[(t * batch + n) * width :]
            z0, z1, z2 = gates[first:], gates[first + block :], gates[first + 2 * block :]
            for i in range(hidden):
                dh[i] += d[i]
            if len(inner):
                saved, h = inner[t * block + place :], states[before + place :]
                for i in range(hidden):
                    dn = dh[i] * (one - z1[i]) * (one - z2[i] * z2[i])
                    dz[i] = z0[i] * (one - z0[i]) * (dn * saved[i])
                    dz[hidden + i] = z1[i] * (one - z1[i]) * (dh[i] * (h[i] - z2[i]))
                    dz[2 * hidden + i] = dn
                    dr[i], dr[hidden + i], dr[2 * hidden + i] = dz[i], dz[hidden + i], dn * z0[i]
                    dh[i] *= z1[i]
            else:
                z3, c0 = gates[first + 3 * block :], states[moments + before + place :]
                c1 = states[moments + after + place :]
                tanh(c1[:hidden], tanh_c)
                for i in range(hidden):
                    dc[i] += dh[i] * z3[i] * (one - tanh_c[i] * tanh_c[i])
                    dz[i] = z0[i] * (one - z0[i]) * (dc[i] * z2[i])
                    dz[hidden + i] = z1[i] * (one - z1[i]) * (dc[i] * c0[i])
                    dz[2 * hidden + i] = dc[i] * z0[i] * (one - z2[i] * z2[i])
                    dz[3 * hidden + i] = z3[i] * (one - z3[i]) * (dh[i] * tanh_c[i])
                    dc[i] *= z1[i]
                    dh[i] = 0
        pack_rows(seen, (t * batch + low) * width, width, 1, many, width, left, norm)
        doubt |= packed_product(
            left, norm, right, size, to, rest, width, many, hidden, start, 0, hidden
        )
        into = carried[low * hidden : high * hidden]
        for i in range(many * hidden):
            into[i] += product[i]
    if doubt:
        doubtful[0] = 1
