"""Options of recurrent layers, and pooling over steps that count, against PyTorch's and plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn import gru, last_step, lstm, masked_max_pool, masked_mean_pool, random, rnn, tree
from funcnn.types import Array
from tests.reference.agreement import torch
from tests.reference.several import agrees, call, normal, torch_names

LENGTHS = np.array([4, 0, 2, 3])
FLAGS = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0]], np.bool_)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, False), (2, True)])
def test_lstm_with_a_projection(layers: int, both: bool, bias: bool) -> None:
    theirs = torch.nn.LSTM(
        3, 5, layers, bias=bias, batch_first=True, bidirectional=both, proj_size=2
    ).double()

    def reference(params: Any, x: Any) -> Any:
        x, first = x
        first = tuple(state.transpose(0, 1) for state in first)
        out, last = call(theirs, torch_names(params, layers, both), (x, first))
        return out, tuple(state.transpose(0, 1) for state in last)

    count = layers * (1 + both)
    layer = lstm(5, layers=layers, bidirectional=both, bias=bias, projection=2, carry=True)
    agrees(layer, (normal(4, 6, 3), (normal(4, count, 2), normal(4, count, 5))), reference)


@pytest.mark.parametrize("bias", [True, False])
def test_gru_with_the_reset_gate_in_front(bias: bool) -> None:
    """As Keras' with ``reset_after=False``, and as Cho et al. wrote it."""

    def reference(params: Any, x: Any) -> Any:
        h, outs = torch.zeros(len(x), 4, dtype=x.dtype), []
        zeros = torch.zeros(12, dtype=x.dtype)
        w_ih, w_hh = params["weight_ih"], params["weight_hh"]
        b = params.get("bias_ih", zeros) + params.get("bias_hh", zeros)
        for t in range(x.shape[1]):
            a = x[:, t] @ w_ih.T + b
            r, z = (a[:, :8] + h @ w_hh[:8].T).sigmoid().chunk(2, 1)
            n = (a[:, 8:] + (r * h) @ w_hh[8:].T).tanh()
            h = (1 - z) * n + z * h
            outs.append(h)
        return torch.stack(outs, 1)

    agrees(gru(4, reset_after=False, bias=bias), normal(3, 5, 2), reference)


@pytest.mark.parametrize("build", [rnn, gru, lstm])
def test_dropout_between_layers(build: Any) -> None:
    """In training each layer but the last gives a part of what it has, scaled up."""
    x = normal(8, 5, 3)
    plain, layer = (build(16, layers=2, rate=rate) for rate in (0.0, 0.5))
    _, params = layer.init(random.key(0), x.shape)
    params = tree.cast(params, np.float64)
    np.testing.assert_array_equal(layer.apply(params, x)[0], plain.apply(params, x)[0])
    first = build(16)
    h = first.apply(params["layer1"], x)[0]
    out, cache = layer.apply(params, x, key=random.key(1))
    kept = cache["drops"][0]
    assert cache["drops"][1] is None
    assert set(np.unique(kept)) == {0.0, 2.0}
    assert 0.4 < np.mean(kept == 0) < 0.6
    np.testing.assert_array_equal(out, first.apply(params["layer2"], h * kept)[0])


@pytest.mark.parametrize("build", [rnn, gru, lstm])
def test_flags_are_lengths_and_may_have_gaps(build: Any) -> None:
    """What does not count is as if it were cut out."""
    x = normal(4, 4, 3)
    layer = build(5, lengths=True)
    _, params = layer.init(random.key(0), (x.shape, (4,)))
    params = tree.cast(params, np.float64)
    prefix = np.arange(4) < LENGTHS[:, None]
    np.testing.assert_array_equal(
        layer.apply(params, (x, LENGTHS))[0], layer.apply(params, (x, prefix))[0]
    )
    out, _ = layer.apply(params, (x, FLAGS))
    assert not out[~FLAGS].any()
    for row, flags, found in zip(x, FLAGS, out, strict=True):
        if flags.any():
            alone = build(5).apply(params, row[flags][None])[0]
            np.testing.assert_allclose(found[flags], alone[0], rtol=0, atol=1e-12)


def _one_by_one(x: Any, counts: Array, pool: Any) -> Any:
    rows = [one[torch.tensor(flags)] for one, flags in zip(x, counts, strict=True)]
    return torch.stack([pool(row) if len(row) else torch.zeros(3, dtype=x.dtype) for row in rows])


@pytest.mark.parametrize("counts", [LENGTHS, FLAGS], ids=["lengths", "flags"])
@pytest.mark.parametrize(
    ("layer", "pool"),
    [
        (last_step(masked=True), lambda row: row[-1]),
        (masked_mean_pool(), lambda row: row.mean(0)),
        (masked_max_pool(), lambda row: row.max(0).values),
    ],
    ids=["last_step", "masked_mean_pool", "masked_max_pool"],
)
def test_pooling(layer: Any, pool: Any, counts: Array) -> None:
    flags = np.arange(4) < counts[:, None] if counts.ndim == 1 else counts
    agrees(layer, (normal(4, 4, 3), counts), lambda params, x: _one_by_one(x[0], flags, pool))


def test_last_of_all_steps() -> None:
    agrees(last_step(), normal(3, 4, 2), lambda params, x: x[:, -1])


def test_a_mean_of_the_largest_numbers_is_finite() -> None:
    x = np.full((1, 3, 1), 3e38, np.float32)
    assert masked_mean_pool().apply({}, (x, np.array([3])))[0].item() == np.float32(3e38)


def test_the_largest_of_infinities_counts() -> None:
    x = np.array([[[-np.inf], [-np.inf]]])
    flags = np.array([[False, True]])
    out, cache = masked_max_pool().apply({}, (x, flags))
    assert out.item() == -np.inf
    np.testing.assert_array_equal(masked_max_pool().vjp(cache, np.ones((1, 1)))[1][0].ravel(), [0, 1])
