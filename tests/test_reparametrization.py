"""What the reparametrisations promise by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from funcnn import batch_norm, conv, dense, random, relu, serial, spectral_norm, tree, weight_norm
from funcnn.types import Array, Layer, Shape


@pytest.mark.parametrize(("layer", "shape"), [(dense(4), (2, 5)), (conv(4, 3), (2, 3, 5, 5))])
def test_weight_norm_starts_where_the_layer_does(layer: Layer[Any, Any], shape: Shape) -> None:
    x, wrapped = random.normal(random.key(1), shape), weight_norm(layer)
    out, _ = layer.apply(layer.init(random.key(0), shape)[1], x)
    found, _ = wrapped.apply(wrapped.init(random.key(0), shape)[1], x)
    np.testing.assert_allclose(found, out, atol=1e-5)


def test_the_magnitude_is_the_norm_of_the_weight() -> None:
    layer = weight_norm(dense(3, bias=False))
    params = layer.init(random.key(0), (4, 4))[1]
    params["weight"]["magnitude"] = np.array([1.0, 2.0, 3.0], np.float32)
    weight = layer.apply(params, np.eye(4, dtype=np.float32))[0].T
    np.testing.assert_allclose(np.linalg.norm(weight, axis=1), [1.0, 2.0, 3.0], rtol=1e-5)


def test_the_gradient_keeps_the_direction_at_its_length() -> None:
    layer = weight_norm(dense(3))
    params = layer.init(random.key(0), (4, 5))[1]
    out, cache = layer.apply(params, random.normal(random.key(1), (4, 5)))
    slope = layer.vjp(cache, np.ones_like(out))[0]["weight"]["direction"]
    np.testing.assert_allclose((slope * params["weight"]["direction"]).sum(1), 0, atol=1e-5)


@pytest.mark.parametrize("build", [dense, lambda count: conv(count, 3)])
def test_the_largest_singular_value_becomes_one(build: Callable[[int], Layer[Any, Any]]) -> None:
    layer = spectral_norm(build(6))
    shape = (2, 8) if layer.spec.children[0].kind == "dense" else (2, 3, 6, 6)
    params = layer.init(random.key(0), shape)[1]
    x = random.normal(random.key(1), shape)
    for step in range(60):
        params = tree.replace(params, layer.statistics(layer.apply(params, x, key=random.key(step))[1]))
    weight = layer.apply(params, x)[1]["weight"]["weight"]
    values = np.linalg.svd(weight.reshape(6, -1), compute_uv=False)
    assert abs(values[0] - 1) < 1e-3


def test_inference_iterates_no_more() -> None:
    layer = serial(spectral_norm(dense(3)))
    params = layer.init(random.key(0), (4, 5))[1]
    x: Array = random.normal(random.key(1), (4, 5))
    assert layer.statistics(layer.apply(params, x)[1]) == {}
    new = layer.statistics(layer.apply(params, x, key=random.key(0))[1])
    assert list(new) == ["spectral_norm1"]
    assert list(new["spectral_norm1"]["weight"]) == ["running_u"]


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (
            lambda: weight_norm(dense(3), axis=2),
            ValueError,
            "weight_norm: `axis` must be 0 or 1, got 2",
        ),
        (
            lambda: weight_norm(relu()).init(random.key(0), (2, 3)),
            ValueError,
            "weight_norm: `layer` must have a weight of at least 2 axes, got no parameters",
        ),
        (
            lambda: weight_norm(serial(dense(2))).init(random.key(0), (2, 3)),
            ValueError,
            "weight_norm: `layer` must have a weight of at least 2 axes, got dense1",
        ),
        (
            lambda: spectral_norm(batch_norm()),
            ValueError,
            "spectral_norm: `layer` must not have running statistics, got batch_norm()",
        ),
        (
            lambda: spectral_norm(dense),  # type: ignore[arg-type]
            TypeError,
            "spectral_norm: every child must be a layer, got <function dense",
        ),
        (
            lambda: spectral_norm(dense(3)).apply({"weight": np.ones((3, 2))}, np.ones((2, 2))),
            TypeError,
            "spectral_norm: `params['weight']` must be a dict, got ndarray",
        ),
    ],
)
def test_what_is_refused(build: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        build()
    assert str(caught.value).startswith(message)
