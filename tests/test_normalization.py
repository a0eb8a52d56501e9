"""What normalisations promise by their names, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from funcnn import batch_norm, group_norm, layer_norm, local_response_norm, random, serial, tree
from funcnn.combinators import statistics
from funcnn.types import Array, Layer


def test_running_statistics_approach_those_of_the_data() -> None:
    net: Layer[Array, Array] = serial(batch_norm())
    params = net.init(random.key(0), (-1, 4))[1]
    for step in range(200):
        x = random.normal(random.fold_in(random.key(1), step), (64, 4), 5.0, 3.0)
        params = tree.replace(params, statistics(net.apply(params, x, key=random.key(step))[1]))
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
