"""Where a slope is 0 nothing passes, whatever comes back: infinity and NaN neither."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn import (
    drop_path,
    dropout,
    elu,
    hard_shrink,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    lp_pool,
    max_pool,
    maxout,
    prelu,
    random,
    relu,
    relu6,
    rnn,
    soft_shrink,
    spatial_dropout,
    threshold,
)
from funcnn.parameterless import elementwise
from funcnn.testing import _values
from funcnn.types import Array, Layer

FAR = [np.inf, -np.inf, np.nan]

# Where each of them is dead, and where it lives.
ACTIVATIONS: list[tuple[Layer[Any, Any], list[float], list[float]]] = [
    (relu(), [-2.0, -0.0, 0.0, -np.inf], [1e-30, 3.0]),
    (relu6(), [-1.0, 0.0, 6.0, 7.0, np.inf], [3.0]),
    (hard_tanh(), [-1.0, 1.0, -5.0, 9.0, -np.inf], [0.5]),
    (hard_tanh(-0.25, 1e-46), [-0.25, 1.0, 0.125], [-0.125]),
    (hard_sigmoid(), [-3.0, 3.0, 99.0, -np.inf], [0.0]),
    (hard_swish(), [-3.0, -1e9, -np.inf], [4.0, 1.0]),
    (threshold(0.5, -2.0), [0.5, -1.0], [2.0]),
    (soft_shrink(), [0.5, -0.25, 0.0], [1.0]),
    (hard_shrink(), [0.5, -0.25, 0.0], [1.0]),
    (leaky_relu(0.0), [-2.0, 0.0, -np.inf], [1.0]),
    (prelu(initial_slope=0.0), [-2.0, 0.0, -np.inf], [1.0]),
    (elu(0.0), [-2.0, -np.inf], [1.0]),
]


def _slopes(layer: Layer[Any, Any], x: Array, far: float) -> tuple[Any, Array]:
    params = _values.cast(layer.init(random.key(0), x.shape)[1], x.dtype)
    out, cache = layer.apply(params, x)
    return layer.vjp(cache, np.full_like(out, far))


@pytest.mark.parametrize(("layer", "dead", "alive"), ACTIVATIONS, ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("far", FAR)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("many", [1, 1 << 15])
def test_dead_units_pass_nothing(
    layer: Layer[Any, Any], dead: list[float], alive: list[float], far: float, dtype: Any, many: int
) -> None:
    x = np.array([[*dead, *alive]], dtype).repeat(many // (len(dead) + len(alive)) + 1, 0)
    dparams, dx = _slopes(layer, x, far)
    assert not dx[:, : len(dead)].any()
    assert not np.isfinite(dx[:, len(dead) :]).any()
    if "slope" in dparams and dead:
        assert not _slopes(layer, np.abs(x), far)[0]["slope"].any()


@pytest.mark.parametrize("far", FAR)
def test_losers_get_nothing(far: float) -> None:
    x = np.array([[[[1.0, 4.0], [2.0, 3.0]]]], np.float32)
    winners: list[tuple[Layer[Any, Any], list[float]]] = [(max_pool(2), [4]), (maxout(2), [4, 3])]
    for layer, won in winners:
        assert np.array_equal(_slopes(layer, x, far)[1] != 0, np.isin(x, won))
    assert not _slopes(lp_pool(2), np.zeros_like(x), far)[1].any()


@pytest.mark.parametrize("far", FAR)
def test_a_dead_unit_of_a_recurrent_layer_passes_nothing(far: float) -> None:
    layer, x = rnn(2, nonlinearity="relu", bias=False), np.ones((1, 1, 3), np.float32)
    params = layer.init(random.key(0), x.shape)[1]
    params["weight_ih"] = np.array([[-1.0] * 3, [1.0] * 3], np.float32)
    out, cache = layer.apply(params, x)
    dparams, _ = layer.vjp(cache, np.array([[[far, 1.0]]], np.float32))
    assert out.tolist() == [[[0.0, 3.0]]]
    assert dparams["weight_ih"].tolist() == [[0.0] * 3, [1.0] * 3]


@pytest.mark.parametrize("build", [dropout, spatial_dropout, drop_path])
@pytest.mark.parametrize("far", FAR)
def test_what_is_dropped_may_hold_anything(build: Any, far: float) -> None:
    layer, key = build(0.5), random.key(0)
    ones = np.ones((64, 3, 5), np.float32)
    kept = layer.apply({}, ones, key=key)[0] != 0
    out, cache = layer.apply({}, np.where(kept, ones, np.float32(far)), key=key)
    assert np.array_equal(out, np.where(kept, np.float32(2), 0))
    _, dx = layer.vjp(cache, np.where(kept, ones, np.float32(far)))
    assert np.array_equal(dx, np.where(kept, np.float32(2), 0))


def test_a_pullback_that_multiplies_is_caught() -> None:
    right = elementwise(lambda x: x.clip(0, np.inf), lambda x: x > 0)
    wrong = right._replace(vjp=lambda cache, dout: ({}, dout * (cache["x"] > 0)))
    dead, alive = [-1.0], [1.0]
    test_dead_units_pass_nothing(right, dead, alive, np.inf, np.float32, 1)
    with pytest.raises(AssertionError), np.errstate(invalid="ignore"):
        test_dead_units_pass_nothing(wrong, dead, alive, np.inf, np.float32, 1)
