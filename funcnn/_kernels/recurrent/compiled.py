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
from funcnn.machine.threads import share
from funcnn.numerics.jit import In, Out, Table, inlined, kernel
from funcnn.numerics.vectors import VECTOR
from funcnn.types import Array, Cache

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
_FEW = 2  # sequences: one alone has products with vectors, which BLAS reads as fast
_PART = 1 << 24  # multiplications that are worth a thread
_NEAR = 8  # steps whose gates are gathered at once: those of all steps lie too far apart for the cache
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
    tile = VECTOR // 4
    able = [count for count in (8, 4, 2) if batch % (count * tile) == 0 and work >= count * _PART]
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
    seen = _cut(x[:, ::-1] if reverse else x, size.parts)
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
    out = np.empty((size.parts, size.batch, size.steps, size.hidden), x.dtype)

    def walk_some(i: int) -> None:
        entering[i, :-1, : size.features] = seen[i]
        _walk(
            entering[i].reshape(-1), at, table, weight.reshape(-1), bias, gates[i].reshape(-1),
            memory[i].reshape(-1), _KINDS[cell.name], size.steps, size.features, size.hidden,
            size.batch, VECTOR // x.itemsize,
        )  # fmt: skip
        out[i] = entering[i, 1:, size.features :].transpose(2, 0, 1)

    share(walk_some, size.parts)
    whole = out.reshape(len(x), size.steps, size.hidden)
    last = [entering[:, -1, size.features :], *(memory[:, -1] for _ in range(1, cell.states))]
    cache = {
        "x": x,
        "entering": entering,
        "gates": gates,
        "memory": memory,
        "weight_ih": weight_ih,
        "weight_hh": weight_hh,
    }
    return whole[:, ::-1] if reverse else whole, tuple(map(_joined, last)), cache


def walk_gradients(
    cell: Cell, cache: Cache, dout: Array, dcarry: Carry, reverse: bool = False, of_input: bool = True
) -> Any:
    """`funcnn._kernels.recurrent.walk_gradients`, of what `walk` has left."""
    if "entering" not in cache:
        return NotImplemented
    entering, gates, memory = cache["entering"], cache["gates"], cache["memory"]
    weight_ih, weight_hh = cache["weight_ih"], cache["weight_hh"]
    size = _sizes(cell, cache["x"].shape, weight_hh.shape[1])
    slopes = _cut(dout[:, ::-1] if reverse else dout, size.parts)
    weight = np.zeros((size.entering, size.rows), dout.dtype)
    of_x, of_h = _stacked(cell, weight_ih, weight_hh)
    weight[: size.features, : len(of_x)] = of_x.T
    weight[size.features :, size.rows - len(of_h) :] = of_h.T
    dgates = np.empty_like(gates)
    dentering = np.empty((size.parts, size.steps, size.entering, size.batch), dout.dtype)
    dstates = np.empty((size.parts, cell.states, size.hidden, size.batch), dout.dtype)
    for k, one in enumerate(dcarry):
        dstates[:, k] = _cut(one, size.parts)
    dx = np.empty((size.parts, size.batch, size.steps, size.features * of_input), dout.dtype)
    columns = np.empty((size.parts, size.steps, size.batch, size.entering), dout.dtype)
    at, table = np.arange(size.rows) * size.batch, _table_back(cell, size, of_input)
    nothing = np.zeros(size.entering, dout.dtype)

    def walk_back_some(i: int) -> None:
        _walk_back(
            entering[i].reshape(-1), at, table, weight.reshape(-1), nothing, gates[i].reshape(-1),
            memory[i].reshape(-1), np.ascontiguousarray(slopes[i]).reshape(-1), dgates[i].reshape(-1),
            dentering[i].reshape(-1), dstates[i].reshape(-1), _KINDS[cell.name], size.steps,
            size.features, size.hidden, size.batch, VECTOR // dout.itemsize,
        )  # fmt: skip
        dx[i] = dentering[i, :, : dx.shape[-1]].transpose(2, 0, 1)
        columns[i] = entering[i, :-1].transpose(0, 2, 1)

    share(walk_back_some, size.parts)
    count = size.parts * size.steps * size.batch
    down, sums = np.empty((size.rows, size.entering), dout.dtype), np.empty(size.rows, dout.dtype)

    def multiply_some(i: int) -> None:
        some = slice(size.rows * i // size.parts, size.rows * (i + 1) // size.parts)
        runs = np.empty((len(down[some]), size.parts, size.steps, size.batch), dout.dtype)
        for t in range(0, size.steps, _NEAR):
            near = slice(t, t + _NEAR)
            runs[:, :, near] = dgates[:, near, some].transpose(2, 0, 1, 3)
        dz = runs.reshape(-1, count)
        sums[some] = numerics.sum(dz, 1)
        numerics.matmul(dz, columns.reshape(count, -1), down[some])

    share(multiply_some, size.parts)
    dparams = {
        "weight_ih": _unstacked(cell, down[: len(of_x), : size.features]),
        "weight_hh": np.ascontiguousarray(down[size.rows - len(of_h) :, size.features :]),
        "bias_ih": _unstacked(cell, sums[: len(of_x)]),
        "bias_hh": sums[size.rows - len(of_h) :].copy(),
    }
    first = tuple(_joined(dstates[:, k]) for k in range(cell.states))
    whole = dx.reshape(cache["x"].shape)[:, :: -1 if reverse else 1] if of_input else None
    return dparams, whole, first


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


@kernel
def _walk(
    entering: Out, at: Table, table: Table, weight: In, bias: In, gates: Out, memory: Out,
    kind: int, steps: int, features: int, hidden: int, batch: int, vector: int,
) -> None:  # fmt: skip
    rows, taps, block = len(bias), features + hidden, hidden * batch
    zero = bias.dtype.type(0)
    for t in range(steps):
        seen, place = t * taps * batch, t * rows * batch
        z = gates[place : place + rows * batch]
        old = entering[seen + features * batch : seen + taps * batch]
        new = entering[seen + (taps + features) * batch : seen + 2 * taps * batch]
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
            continue
        if kind == _LSTM:
            _sigmoids(z[: 2 * block])
            _tanhs(z[2 * block : 3 * block])
            _sigmoids(z[3 * block :])
            i_, f, g, o = z[:block], z[block:], z[2 * block :], z[3 * block :]
            before, c = memory[t * block :], memory[(t + 1) * block : (t + 2) * block]
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


@kernel
def _walk_back(
    entering: In, at: Table, table: Table, weight: In, nothing: In, gates: In, memory: In, slope: In,
    dgates: Out, dentering: Out, dstates: Out,
    kind: int, steps: int, features: int, hidden: int, batch: int, vector: int,
) -> None:  # fmt: skip
    taps, block = features + hidden, hidden * batch
    rows, zero, one = len(weight) // taps, weight.dtype.type(0), weight.dtype.type(1)
    dh, dc, scratch = dstates[:block], dstates[block:], np.empty(block, nothing.dtype)
    for t in range(steps - 1, -1, -1):
        seen, place = t * taps * batch, t * rows * batch
        z, dz, d = gates[place : place + rows * batch], dgates[place:], slope[t * block :]
        old = entering[seen + features * batch : seen + taps * batch]
        for i in range(block):
            dh[i] += d[i]
        if kind == _LSTM:
            i_, f, g, o = z[:block], z[block:], z[2 * block :], z[3 * block :]
            di, df, dg, do = dz[:block], dz[block:], dz[2 * block :], dz[3 * block :]
            before, c = memory[t * block :], memory[(t + 1) * block :]
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
        for k in range(0, len(table), 4):
            product(dgates, at, weight, nothing, dentering, table[k], table[k + 1], place, seen,
                    table[k + 2], table[k + 3], batch, batch, vector)  # fmt: skip
        back = dentering[seen + features * batch : seen + taps * batch]
        if kind == _GRU:
            for i in range(block):
                dh[i] += back[i]
        else:
            _copy(back, dh)
