"""What the reparametrisations promise by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from funcnn import (
    batch_norm,
    conv,
    dense,
    initializers,
    random,
    relu,
    serial,
    spectral_norm,
    tree,
    weight_norm,
)
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


_UNITS = (1e-44, 1e-38, 1e-24, 1e-9, 1.0, 1e9, 1e20, 1e36)


def _run(layer: Layer[Any, Any], params: Any, x: Array) -> tuple[Any, ...]:
    out, cache = layer.apply(params, x)
    return out, *layer.vjp(cache, np.full_like(out, 0.5))


@pytest.mark.parametrize("unit", _UNITS)
@pytest.mark.parametrize("wrap", [weight_norm, lambda layer: spectral_norm(layer, epsilon=1e-46)])
def test_weights_of_every_magnitude(wrap: Callable[[Any], Layer[Any, Any]], unit: float) -> None:
    """Float32 says what float64 does, and nothing is squared that overflows or vanishes."""
    layer, x = wrap(dense(3, bias=False)), random.normal(random.key(1), (2, 4))
    params = layer.init(random.key(0), x.shape)[1]
    name = "direction" if "direction" in params["weight"] else "original"
    params["weight"][name] = params["weight"][name] * np.float32(unit)
    wide = tree.map(lambda leaf: leaf.astype(np.float64), params)
    found, exact = _run(layer, params, x), _run(layer, wide, x.astype(np.float64))
    for part, wanted in zip(found, exact, strict=True):
        for one, other in zip(tree.leaves(part), tree.leaves(wanted), strict=True):
            largest = np.abs(other[1]).max()
            if largest < 1e38:
                rounding = 1e-5 if unit > 1e-38 else 0.5  # a subnormal number has few digits
                np.testing.assert_allclose(one[1], other[1], rtol=0, atol=rounding * largest + 1e-44)
            assert not np.isnan(one[1]).any()


def test_a_weight_of_nothing_has_no_direction() -> None:
    zeros = dense(3, weight_init=initializers.zeros())
    with pytest.raises(ValueError, match=r"^weight_norm: `layer` must start with weights that are "):
        weight_norm(zeros).init(random.key(0), (2, 4))
    layer, x = weight_norm(dense(3)), random.normal(random.key(1), (2, 4))
    params = tree.map(np.zeros_like, layer.init(random.key(0), x.shape)[1])
    for wrapped in (layer, spectral_norm(zeros), spectral_norm(zeros, epsilon=1e-300)):
        own = params if wrapped is layer else wrapped.init(random.key(0), x.shape)[1]
        for _, leaf in tree.leaves(_run(wrapped, own, x)):
            assert np.isfinite(leaf).all()
        assert not wrapped.apply(own, x)[0].any()
