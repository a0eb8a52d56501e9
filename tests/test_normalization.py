"""What normalisations promise by their names, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from funcnn import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    numerics,
    random,
    rms_norm,
    serial,
    tree,
)
from funcnn.types import Array, Layer

ON_EVERY_SET_OF_KERNELS = True


def test_running_statistics_approach_those_of_the_data() -> None:
    net: Layer[Array, Array] = serial(batch_norm())
    params = net.init(random.key(0), (-1, 4))[1]
    for step in range(200):
        x = random.normal(random.fold_in(random.key(1), step), (64, 4), 5.0, 3.0)
        params = tree.replace(params, net.statistics(net.apply(params, x, key=random.key(step))[1]))
    found = params["batch_norm1"]
    np.testing.assert_allclose(found["running_mean"], 5.0, atol=0.4)
    np.testing.assert_allclose(found["running_var"], 9.0, rtol=0.15)
    x = random.normal(random.key(2), (1000, 4), 5.0, 3.0)
    out, _ = net.apply(params, x)
    np.testing.assert_allclose(out.mean(0), 0.0, atol=0.2)
    np.testing.assert_allclose(out.std(0), 1.0, atol=0.1)


def test_training_uses_the_batch_and_inference_does_not() -> None:
    layer: Layer[Array, Array] = batch_norm()
    x = random.normal(random.key(0), (32, 3), 7.0, 2.0)
    params = layer.init(random.key(0), x.shape)[1]
    trained, _ = layer.apply(params, x, key=random.key(0))
    np.testing.assert_allclose(trained.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(trained.std(0), 1.0, atol=1e-4)
    np.testing.assert_allclose(layer.apply(params, x)[0], x, rtol=1e-4)


@pytest.mark.parametrize("build", [batch_norm, layer_norm])
def test_a_large_mean_does_no_harm_in_float32(build: Callable[[], Layer[Array, Array]]) -> None:
    """Variance as a mean of squares less a square would be all rounding error here."""
    x = random.normal(random.key(0), (256, 256), 1e4)
    layer = build()
    params = layer.init(random.key(0), x.shape)[1]
    wide = tree.map(lambda leaf: leaf.astype(np.float64), params)
    exact, _ = layer.apply(wide, x.astype(np.float64), key=random.key(0))
    np.testing.assert_allclose(layer.apply(params, x, key=random.key(0))[0], exact, atol=0.02)


CENTRED: list[tuple[Layer[Array, Array], Callable[[int], tuple[int, ...]]]] = [
    (layer_norm(affine=False), lambda width: (2, width)),
    (layer_norm((1, 2, 3)), lambda width: (2, 3, width, 2)),
    (layer_norm(1), lambda width: (2, width, 3)),
    (group_norm(2), lambda width: (2, 4, width, 2)),
    (instance_norm(), lambda width: (2, 3, width, 1)),
    (batch_norm(), lambda width: (width, 3)),
    (batch_norm(track_running=False), lambda width: (2, 3, width, 2)),
]
_LEVELS = (10000.1, 1013.3, -0.1, 1e-20, 3e19, -1e30, 3e38)


@pytest.mark.parametrize("mode", ["fast", "portable"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [2, 7, 300, 4099])
@pytest.mark.parametrize(("layer", "shape"), [pytest.param(*e, id=repr(e[0])) for e in CENTRED])
def test_what_is_constant_becomes_zero(
    layer: Layer[Array, Array],
    shape: Callable[[int], tuple[int, ...]],
    width: int,
    dtype: Any,
    mode: numerics.Mode,
) -> None:
    key, levels = random.key(0), (*_LEVELS, *((1e200, -1e308) if dtype is np.float64 else ()))
    params = layer.init(key, shape(width))[1]
    params = tree.map(lambda leaf: leaf.astype(dtype), params)
    dout = random.normal(key, shape(width), dtype=dtype)
    with numerics.use(mode):
        for level in levels:
            out, cache = layer.apply(params, np.full(shape(width), level, dtype), key=key)
            assert not out.any(), level
            dparams, dx = layer.vjp(cache, dout)
            assert all(np.isfinite(leaf).all() for _, leaf in tree.leaves({**dparams, "x": dx}))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", [10000.1, -1013.3, 1e19, 1e30, -3e38])
def test_other_norms_of_what_is_constant(level: float, dtype: Any) -> None:
    x = np.full((2, 7), level, dtype)
    out, cache = rms_norm(affine=False).apply({}, x)
    np.testing.assert_allclose(out, np.sign(x), rtol=1e-6)
    dx = rms_norm(affine=False).vjp(cache, np.ones_like(x))[1]
    np.testing.assert_allclose(dx * level, 0, atol=1e-5)
    out, cache = local_response_norm(3).apply({}, x)
    assert np.isfinite(out).all()
    assert np.isfinite(local_response_norm(3).vjp(cache, np.ones_like(x))[1]).all()


def test_running_statistics_of_what_is_constant() -> None:
    x = np.full((300, 3), 1013.3, np.float32)
    layer: Layer[Array, Array] = batch_norm(momentum=1.0)
    params = layer.init(random.key(0), x.shape)[1]
    cache = layer.apply(params, x, key=random.key(0))[1]
    new = layer.statistics(cache)
    assert (new["running_mean"] == x[0]).all()
    assert not new["running_var"].any()
    assert not layer.apply({**params, **new}, x)[0].any()  # in inference, too


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4, 1e18, 1e20, 1e30, 1e38])
@pytest.mark.parametrize("layer", [layer_norm(affine=False), rms_norm(affine=False), batch_norm()])
def test_huge_numbers_in_float32(layer: Layer[Array, Array], size: float) -> None:
    """Where squares overflow, values and slopes are those of float64."""
    x = random.normal(random.key(0), (9, 12)) * np.float32(size)
    dout, params = random.normal(random.key(1), x.shape), layer.init(random.key(0), x.shape)[1]
    found, cache = layer.apply(params, x, key=random.key(0))
    wide = tree.map(lambda leaf: leaf.astype(np.float64), params)
    expected, wide_cache = layer.apply(wide, x.astype(np.float64), key=random.key(0))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    slopes = (layer.vjp(cache, dout)[1], layer.vjp(wide_cache, dout.astype(np.float64))[1])
    np.testing.assert_allclose(slopes[0] * size, slopes[1] * size, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: batch_norm(momentum=1.5), "batch_norm: `momentum` must be at most 1, got 1.5"),
        (lambda: batch_norm(epsilon=-1.0), "batch_norm: `epsilon` must be at least 0, got -1.0"),
        (lambda: layer_norm(()), "layer_norm: `axes` must name at least one axis, got ()"),
        (
            lambda: layer_norm(0).init(random.key(0), (2, 3)),
            "layer_norm: `axis` must name one of the axes 1..1, got 0",
        ),
        (
            lambda: layer_norm((1, -1)).init(random.key(0), (2, 3)),
            "layer_norm: `axes` must be different axes of the shape (2, 3), got (1, -1)",
        ),
        (
            lambda: group_norm(3).init(random.key(0), (2, 4)),
            "group_norm: `x` must have a multiple of 3 channels, got shape (2, 4)",
        ),
        (
            lambda: local_response_norm(3, k=0.0),
            "local_response_norm: `k` must be above 0, got 0.0",
        ),
    ],
)
def test_options_are_checked(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=r"^\w+: ") as caught:
        build()
    assert str(caught.value) == message
