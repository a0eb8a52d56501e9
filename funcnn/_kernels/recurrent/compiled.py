"""Recurrent cells compiled: one loop over time for some sequences. The readable twins are beside this.

Memory runs batch-last. What enters a step, ``x_t`` above ``h_{t-1}``, is one block, which one product
turns into all gates, and the product with the transposed weights goes back to both. A GRU has four
blocks of gates, since its third has two parts, which meet late: ``n`` of x, ``r``, ``u``, ``n`` of h.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from funcnn import numerics
from funcnn._kernels.recurrent import Carry, Cell
from funcnn._kernels.scalars import sigmoid, tanh
from funcnn._kernels.tiles import product
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import In, Out, Table, inlined
from funcnn.numerics.vectors import VECTOR
from funcnn.types import Array, Cache

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
_FEW = 2  # sequences: one alone has products with vectors, which BLAS reads as fast
_PART = 1 << 24  # multiplications that are worth a thread
# Sequences of a part, better: two vectors, without AVX-512, have sums enough to wait for. Measured in
# November 2026 on an AMD EPYC (Zen 3, two cores, AVX2): products at 93 GFLOP/s, of one vector at 66.
_FULL = min(16, VECTOR // 2)
_TANH, _RELU, _LSTM, _GRU = range(4)
_KINDS = {"tanh": _TANH, "relu": _RELU, "lstm": _LSTM, "gru": _GRU}


class _Sizes(NamedTuple):
    parts: int  # of the batch
    steps: int
    blocks: int  # of gates
    features: int
    hidden: int
    batch: int  # of one part

    @property
    def entering(self) -> int:
        return self.features + self.hidden

    @property
    def rows(self) -> int:
        return self.blocks * self.hidden


def _sizes(cell: Cell, x_shape: tuple[int, ...], hidden: int) -> _Sizes:
    batch, steps, features = x_shape
    blocks = cell.gates + (not cell.one_sum)
    work = batch * steps * blocks * hidden * (features + hidden)
    able = [
        count
        for tile in (_FULL, VECTOR // 4)
        for count in (8, 4, 2)
        if batch % (count * tile) == 0 and work >= count * _PART
    ]
    parts = able[0] if able else 1
    return _Sizes(parts, steps, blocks, features, hidden, batch // parts)


def _cut(x: Array, parts: int) -> Array:
    """``(N, ...) -> (P, ..., N / P)``."""
    cut = x.reshape(parts, len(x) // parts, *x.shape[1:])
    return cut.transpose(0, *range(2, cut.ndim), 1)


def _joined(x: Array) -> Array:
    """``(P, ..., N / P) -> (N, ...)``."""
    cut = x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))
    return np.ascontiguousarray(cut).reshape(len(x) * x.shape[-1], *x.shape[1:-1])


def _stacked(cell: Cell, of_x: Array, of_h: Array) -> tuple[Array, Array]:
    """Gates in the order of their blocks: those that the input feeds, and those of the state."""
    if cell.one_sum:
        return of_x, of_h
    third = len(of_x) // 3
    return np.concatenate([of_x[2 * third :], of_x[: 2 * third]]), of_h


def _table(cell: Cell, size: _Sizes) -> Array:
    """The blocks of a weight that are not 0: its columns, from and to, and its rows.

    Only a GRU has some that are: of x for the last block of gates, and of h for the first.
    """
    rows, entering, some = size.rows, size.entering, cell.gates * size.hidden
    x, h = (0, size.features), (size.features, entering)
    blocks = [(*x, 0, size.hidden), (0, entering, size.hidden, some), (*h, some, rows)]
    return np.array([(0, entering, 0, rows)] if cell.one_sum else blocks, np.int64).reshape(-1)


def _table_back(cell: Cell, size: _Sizes, of_input: bool) -> Array:
    """The same for the transposed weight, without the rows of x if nobody wants them."""
    first = 0 if cell.one_sum else size.hidden
    blocks = [(0, cell.gates * size.hidden, 0, size.features)] * of_input
    return np.array([*blocks, (first, size.rows, size.features, size.entering)], np.int64).reshape(-1)


def walk(
    cell: Cell,
    x: Array,
    params: Mapping[str, Array],
    carry: Carry,
    counts: Array | None = None,
    reverse: bool = False,
) -> Any:
    """`funcnn._kernels.recurrent.walk`, of whole sequences."""
    if counts is not None or cell.late or "weight_hr" in params or len(x) < _FEW or not x.size:
        return NotImplemented
    weight_ih, weight_hh = params["weight_ih"], params["weight_hh"]
    size = _sizes(cell, x.shape, weight_hh.shape[1])
    entering = np.empty((size.parts, size.steps + 1, size.entering, size.batch), x.dtype)
    entering[:, 0, size.features :] = _cut(carry[0], size.parts)
    entering[:, -1, : size.features] = 0  # behind the last step nothing enters
    gates = np.empty((size.parts, size.steps, size.rows, size.batch), x.dtype)
    moments = size.steps + 1 if cell.states > 1 else 0
    memory = np.empty((size.parts, moments, size.hidden, size.batch), x.dtype)
    if moments:
        memory[:, 0] = _cut(carry[1], size.parts)
    weight = np.zeros((size.rows, size.entering), x.dtype)
    bias = np.zeros(size.rows, x.dtype)
    of_x, of_h = _stacked(cell, weight_ih, weight_hh)
    weight[: len(of_x), : size.features] = of_x
    weight[len(weight) - len(of_h) :, size.features :] = of_h
    if "bias_ih" in params:
        of_x, of_h = _stacked(cell, params["bias_ih"], params["bias_hh"])
        bias[: len(of_x)] += of_x
        bias[len(bias) - len(of_h) :] += of_h
    at, table = np.arange(size.entering) * size.batch, _table(cell, size)
    out = np.empty((len(x), size.steps, size.hidden), x.dtype)
    _walk(
        np.ascontiguousarray(x).reshape(-1), entering.reshape(-1), at, table, weight.reshape(-1), bias,
        gates.reshape(-1), memory.reshape(-1), out.reshape(-1), *_numbers(cell, size, reverse, x),
        0, size.parts,
    )  # fmt: skip
    last = [entering[:, -1, size.features :], *(memory[:, -1] for _ in range(1, cell.states))]
    cache = {
        "x": x,
        "entering": entering,
        "gates": gates,
        "memory": memory,
        "weight_ih": weight_ih,
        "weight_hh": weight_hh,
    }
    return out, tuple(map(_joined, last)), cache


def walk_gradients(
    cell: Cell, cache: Cache, dout: Array, dcarry: Carry, reverse: bool = False, of_input: bool = True
) -> Any:
    """`funcnn._kernels.recurrent.walk_gradients`, of what `walk` has left."""
    if "entering" not in cache:
        return NotImplemented
    entering, gates, memory = cache["entering"], cache["gates"], cache["memory"]
    weight_ih, weight_hh = cache["weight_ih"], cache["weight_hh"]
    size = _sizes(cell, cache["x"].shape, weight_hh.shape[1])
    weight = np.zeros((size.entering, size.rows), dout.dtype)
    of_x, of_h = _stacked(cell, weight_ih, weight_hh)
    weight[: size.features, : len(of_x)] = of_x.T
    weight[size.features :, size.rows - len(of_h) :] = of_h.T
    dstates = np.empty((size.parts, cell.states, size.hidden, size.batch), dout.dtype)
    for k, one in enumerate(dcarry):
        dstates[:, k] = _cut(one, size.parts)
    dx = np.empty(cache["x"].shape if of_input else 0, dout.dtype)
    columns = np.empty((size.parts * size.steps * size.batch, size.entering), dout.dtype)
    dz = np.empty((size.rows, len(columns) + VECTOR), dout.dtype)
    sums = np.empty((size.parts, size.rows), dout.dtype)
    at, table = np.arange(size.rows) * size.batch, _table_back(cell, size, of_input)
    nothing = np.zeros(size.entering, dout.dtype)
    _walk_back(
        entering.reshape(-1), at, table, weight.reshape(-1), nothing, gates.reshape(-1),
        memory.reshape(-1), np.ascontiguousarray(dout).reshape(-1), dstates.reshape(-1), dx.reshape(-1),
        columns.reshape(-1), dz.reshape(-1), sums.reshape(-1), *_numbers(cell, size, reverse, dout),
        0, size.parts,
    )  # fmt: skip
    down, total = numerics.matmul(dz[:, : len(columns)], columns), numerics.sum(sums, 0)
    dparams = {
        "weight_ih": _unstacked(cell, down[: len(of_x), : size.features]),
        "weight_hh": np.ascontiguousarray(down[size.rows - len(of_h) :, size.features :]),
        "bias_ih": _unstacked(cell, total[: len(of_x)]),
        "bias_hh": total[size.rows - len(of_h) :].copy(),
    }
    first = tuple(_joined(dstates[:, k]) for k in range(cell.states))
    return dparams, dx if of_input else None, first


def _numbers(cell: Cell, size: _Sizes, reverse: bool, like: Array) -> tuple[int, ...]:
    """What both kernels are told: the cell, sizes, which way it goes, and how wide a tile is."""
    each = _KINDS[cell.name], size.steps, size.features, size.hidden, size.batch
    return *each, int(reverse), VECTOR // like.itemsize


def _unstacked(cell: Cell, of_x: Array) -> Array:
    """The other way round than `_stacked`, for what the input feeds."""
    third = 0 if cell.one_sum else len(of_x) // 3
    return np.concatenate([of_x[third:], of_x[:third]])


@inlined
def _sigmoids(z: Out) -> None:
    for i in range(len(z)):
        z[i] = sigmoid(z[i])


@inlined
def _tanhs(z: Out) -> None:
    for i in range(len(z)):
        z[i] = tanh(z[i])


@inlined
def _copy(source: In, out: Out) -> None:
    for i in range(len(out)):
        out[i] = source[i]


@inlined
def _turn(rows: Any, start: int, step: int, block: Any, count: int, batch: int) -> None:
    """Rows of numbers, so many apart, side by side."""
    for n in range(batch):
        row = rows[start + n * step : start + n * step + count]
        for i in range(count):
            block[i * batch + n] = row[i]


@inlined
def _turn_back(block: Any, rows: Out, start: int, step: int, count: int, batch: int) -> None:
    for n in range(batch):
        row = rows[start + n * step : start + n * step + count]
        for i in range(count):
            row[i] = block[i * batch + n]


@divided
def _walk(
    x: In, entering: Out, at: Table, table: Table, weight: In, bias: In, gates: Out, memory: Out,
    out: Out, kind: int, steps: int, features: int, hidden: int, batch: int, reverse: int, vector: int,
    low: int, high: int,
) -> None:  # fmt: skip
    rows, taps, block = len(bias), features + hidden, hidden * batch
    zero = bias.dtype.type(0)
    for part in range(low, high):
        for t in range(steps):
            now = part * batch * steps + (steps - 1 - t if reverse else t)
            seen, place = (part * (steps + 1) + t) * taps * batch, (part * steps + t) * rows * batch
            z = gates[place : place + rows * batch]
            old = entering[seen + features * batch : seen + taps * batch]
            new = entering[seen + (taps + features) * batch : seen + 2 * taps * batch]
            _turn(x, now * features, steps * features, entering[seen:], features, batch)
            for k in range(0, len(table), 4):
                product(entering, at, weight, bias, z, table[k], table[k + 1], seen, 0,
                        table[k + 2], table[k + 3], batch, batch, vector)  # fmt: skip
            if kind == _GRU:
                n, r, u, inner = z[:block], z[block:], z[2 * block :], z[3 * block :]
                _sigmoids(z[block : 3 * block])
                for i in range(block):
                    n[i] = tanh(n[i] + r[i] * inner[i])
                for i in range(block):
                    new[i] = n[i] + u[i] * (old[i] - n[i])
            elif kind == _LSTM:
                _sigmoids(z[: 2 * block])
                _tanhs(z[2 * block : 3 * block])
                _sigmoids(z[3 * block :])
                i_, f, g, o = z[:block], z[block:], z[2 * block :], z[3 * block :]
                moment = (part * (steps + 1) + t) * block
                before, c = memory[moment:], memory[moment + block : moment + 2 * block]
                for i in range(block):
                    c[i] = f[i] * before[i] + i_[i] * g[i]
                for i in range(block):
                    new[i] = o[i] * tanh(c[i])
            else:
                if kind == _TANH:
                    _tanhs(z)
                else:
                    for i in range(block):
                        z[i] = zero if z[i] <= zero else z[i]
                _copy(z, new)
            _turn_back(new, out, now * hidden, steps * hidden, hidden, batch)


@inlined
def _gates_back(
    kind: int, block: int, z: In, dz: Out, old: In, before: In, c: In, dh: Out, dc: Out, scratch: Out
) -> None:
    """The slopes of gates before their functions; those of the states lose what goes through them."""
    zero, one = z.dtype.type(0), z.dtype.type(1)
    if kind == _LSTM:
        i_, f, g, o = z[:block], z[block:], z[2 * block :], z[3 * block :]
        di, df, dg, do = dz[:block], dz[block:], dz[2 * block :], dz[3 * block :]
        for i in range(block):
            scratch[i] = tanh(c[i])
        for i in range(block):
            do[i] = dh[i] * scratch[i] * (o[i] * (one - o[i]))
        for i in range(block):
            dc[i] += dh[i] * o[i] * (one - scratch[i] * scratch[i])
        for i in range(block):
            di[i] = dc[i] * g[i] * (i_[i] * (one - i_[i]))
        for i in range(block):
            dg[i] = dc[i] * i_[i] * (one - g[i] * g[i])
        for i in range(block):
            df[i] = dc[i] * before[i] * (f[i] * (one - f[i]))
        for i in range(block):
            dc[i] *= f[i]
    elif kind == _GRU:
        n, r, u, inner = z[:block], z[block:], z[2 * block :], z[3 * block :]
        dn, dr, du, dinner = dz[:block], dz[block:], dz[2 * block :], dz[3 * block :]
        for i in range(block):
            dn[i] = dh[i] * (one - u[i]) * (one - n[i] * n[i])
        for i in range(block):
            du[i] = dh[i] * (old[i] - n[i]) * (u[i] * (one - u[i]))
        for i in range(block):
            dr[i] = dn[i] * inner[i] * (r[i] * (one - r[i]))
        for i in range(block):
            dinner[i] = dn[i] * r[i]
        for i in range(block):
            dh[i] *= u[i]
    elif kind == _TANH:
        for i in range(block):
            dz[i] = dh[i] * (one - z[i] * z[i])
    else:
        for i in range(block):
            dz[i] = dh[i] if z[i] > zero else zero


@divided
def _walk_back(
    entering: In, at: Table, table: Table, weight: In, nothing: In, gates: In, memory: In, dout: In,
    dstates: Out, dx: Out, columns: Out, slopes: Out, sums: Out,
    kind: int, steps: int, features: int, hidden: int, batch: int, reverse: int, vector: int,
    low: int, high: int,
) -> None:  # fmt: skip
    taps, block, rows = features + hidden, hidden * batch, len(at)
    states, pitch = len(dstates) * rows // (len(sums) * block), len(slopes) // rows
    dz, scratch = np.empty(rows * batch, dx.dtype), np.empty(block, dx.dtype)
    dentering, totals = np.empty(taps * batch, dx.dtype), np.empty(rows * batch, dx.dtype)
    for part in range(low, high):
        dh, dc = dstates[part * states * block :], dstates[(part * states + states - 1) * block :]
        totals[:] = 0
        for t in range(steps - 1, -1, -1):
            now = part * batch * steps + (steps - 1 - t if reverse else t)
            seen, place = (part * (steps + 1) + t) * taps * batch, (part * steps + t) * rows * batch
            moment = min((part * (steps + 1) + t) * block, len(memory))
            _turn(dout, now * hidden, steps * hidden, scratch, hidden, batch)
            for i in range(block):
                dh[i] += scratch[i]
            z, old = gates[place : place + rows * batch], entering[seen + features * batch :]
            before, c = memory[moment:], memory[min(moment + block, len(memory)) :]
            _gates_back(kind, block, z, dz, old, before, c, dh, dc, scratch)
            for k in range(0, len(table), 4):
                product(dz, at, weight, nothing, dentering, table[k], table[k + 1], 0, 0,
                        table[k + 2], table[k + 3], batch, batch, vector)  # fmt: skip
            back = dentering[features * batch :]
            if kind == _GRU:
                for i in range(block):
                    dh[i] += back[i]
            else:
                _copy(back, dh[:block])
            if len(dx):
                _turn_back(dentering, dx, now * features, steps * features, features, batch)
            first = (part * steps + t) * batch
            _turn_back(entering[seen:], columns, first * taps, taps, taps, batch)
            for r in range(rows):
                row, some = dz[r * batch : (r + 1) * batch], slopes[r * pitch + first :]
                total = totals[r * batch : (r + 1) * batch]
                for n in range(batch):
                    some[n] = row[n]
                    total[n] += row[n]
        for r in range(rows):
            total = dx.dtype.type(0)
            for n in range(batch):
                total += totals[r * batch + n]
            sums[part * rows + r] = total
