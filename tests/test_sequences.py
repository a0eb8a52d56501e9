"""What sequence layers promise beyond the laws: bounded memory, limits, huge numbers."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from funcnn import (
    attention,
    bidirectional,
    gru,
    lstm,
    multi_head_attention,
    positional_encoding,
    random,
    relu,
    rnn,
    rotary,
    serial,
)
from funcnn._kernels import positions
from funcnn.machine.threads import in_team
from funcnn.models import encoder_decoder
from funcnn.testing import digest
from funcnn.tracing import attention_weights
from funcnn.types import Layer


def test_tables_of_positions_keep_little_memory() -> None:
    layers = (positional_encoding(), rotary())
    tracemalloc.start()
    for steps in range(700, 1200, 20):
        x = np.zeros((1, steps, 1024), np.float32)
        for layer in layers:
            layer.apply({}, x)
    del x
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 40 * 2**20


@pytest.mark.threads
def test_threads_share_out_a_batch_of_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("funcnn._kernels.attention._CHUNK", 2 * 4 * 4 * 2)  # two examples of a part
    layer = multi_head_attention(2, causal=True)
    _, params = layer.init(random.key(0), (9, 4, 6))
    x = random.normal(random.key(1), (9, 4, 6))

    def both_ways() -> Any:
        out, cache = layer.apply(params, x)
        return digest((out, layer.vjp(cache, out)))

    assert len({in_team(workers, both_ways) for workers in (1, 2, 3)}) == 1
    used: list[int] = []
    monkeypatch.setattr("funcnn._kernels.attention.share", lambda task, count: used.append(count))
    layer.apply(params, x)
    assert used == [5]


def test_a_row_of_a_table_is_the_same_for_all_lengths() -> None:
    long = positions.sinusoids(3000, 512, 1e4, np.dtype(np.float32))  # too large to be kept
    for steps in (1, 5, 64, 1000):
        short = positions.sinusoids(steps, 512, 1e4, np.dtype(np.float32))
        np.testing.assert_array_equal(short, long[:steps])


@pytest.mark.parametrize("base", [1e-300, 1e-3, 1e300])
def test_any_base_turns_and_keeps_lengths(base: float) -> None:
    x = random.normal(random.key(0), (2, 9, 6))
    out, _ = rotary(base=base).apply({}, x)
    np.testing.assert_allclose(np.linalg.norm(out, axis=2), np.linalg.norm(x, axis=2), rtol=1e-5)
    assert np.isfinite(positional_encoding(base=base).apply({}, x)[0]).all()


@pytest.mark.parametrize("size", [1e18, 1e30, 3e38])
@pytest.mark.parametrize(
    "layer", [rnn(3), gru(3), lstm(3), rnn(3, layers=2, bidirectional=True)], ids=repr
)
def test_gates_that_are_shut_or_open_stay_finite(layer: Layer[Any, Any], size: float) -> None:
    x = np.sign(random.normal(random.key(0), (4, 5, 2))) * np.float32(size)
    _, params = layer.init(random.key(1), x.shape)
    out, cache = layer.apply(params, x)
    assert np.all(np.abs(out) <= 5)
    dparams, dx = layer.vjp(cache, np.ones_like(out))
    assert np.isfinite(dx).all()
    assert np.isfinite(dparams.get("bias_ih", np.zeros(1))).all()


def test_the_mean_of_both_directions_of_huge_numbers_is_finite() -> None:
    x = np.full((1, 2, 3), np.finfo(np.float32).max)
    out, cache = bidirectional(relu(), merge="mean").apply({}, x)
    np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(
        bidirectional(relu(), merge="mean").vjp(cache, np.ones_like(x))[1], np.ones_like(x)
    )


@pytest.mark.parametrize("size", [1e18, 1e19])
def test_attention_of_huge_scores_takes_the_largest(size: float) -> None:
    q = np.full((1, 1, 1), size, np.float32)
    k = np.array([[[1.0], [size], [-size]]], np.float32)
    v = np.array([[[1.0], [2.0], [3.0]]], np.float32)
    out, cache = attention().apply({}, (q, k, v))
    assert out.item() == 2
    slopes = attention().vjp(cache, np.ones((1, 1, 1), np.float32))[1]
    assert all(np.isfinite(slope).all() for slope in slopes)
    np.testing.assert_array_equal(slopes[2].ravel(), [0, 1, 0])


def test_what_a_network_looks_at() -> None:
    """The weights of each attention, by its path; as the layer gives them that is asked for them."""
    net: Layer[Any, Any] = encoder_decoder(7, 9, 5, features=4, heads=2, depth=1, masked=True)
    x = (np.array([[1, 2, 3]]), np.array([[1, 2, 3, 4]]), np.array([3]))
    _, params = net.init(random.key(0), tuple(one.shape for one in x))
    found = attention_weights(net, params, x)
    assert {path: weights.shape for path, weights in found.items()} == {
        "encoder/block1/attention/multi_head_attention1": (1, 2, 4, 4),
        "decoder/block1/attention/multi_head_attention1": (1, 2, 3, 3),
        "decoder/block1/cross_attention/cross_attention1": (1, 2, 3, 4),
    }
    for weights in found.values():
        np.testing.assert_allclose(weights.sum(3), 1, rtol=1e-6)
    assert not found["decoder/block1/cross_attention/cross_attention1"][..., 3].any()
    layer, asked = (multi_head_attention(2, causal=True, return_weights=give) for give in (False, True))
    own, sequence = layer.init(random.key(1), (2, 3, 4))[1], random.normal(random.key(2), (2, 3, 4))
    np.testing.assert_array_equal(
        attention_weights(serial(layer), {"multi_head_attention1": own}, sequence)[
            "multi_head_attention1"
        ],
        asked.apply(own, sequence)[0][1],
    )


def test_equal_huge_scores_share_the_weight() -> None:
    x = np.full((2, 3, 4), 1e18, np.float32)
    layer = multi_head_attention(2)
    _, params = layer.init(random.key(0), x.shape)
    out, cache = layer.apply(params, x)
    np.testing.assert_allclose(out, np.broadcast_to(out[:, :1], out.shape), rtol=1e-6)
    layer.vjp(cache, np.ones_like(out))
