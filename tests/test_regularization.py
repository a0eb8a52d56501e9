"""What regularisations promise by their names: how much is dropped, and what of it belongs together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from funcnn import (
    alpha_dropout,
    drop_path,
    dropout,
    gaussian_noise,
    random,
    rrelu,
    spatial_dropout,
)
from funcnn.types import Array, Layer

Build = Callable[[float], Layer[Array, Array]]

_DROPPING = (dropout, spatial_dropout, drop_path)


@pytest.mark.parametrize("build", _DROPPING)
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_rate_is_the_fraction_dropped(build: Build, rate: float) -> None:
    x = np.ones((4000, 10, 1), np.float32)
    out, cache = build(rate).apply({}, x, key=random.key(0))
    assert abs((out == 0).mean() - rate) < 0.03
    assert np.unique(out).tolist() == [0, np.float32(1 / (1 - rate))]
    assert abs(out.mean() - 1) < 0.1
    assert np.array_equal(build(rate).vjp(cache, x)[1], out)


@pytest.mark.parametrize("build", [*_DROPPING, alpha_dropout, gaussian_noise])
def test_without_a_key_it_is_the_identity(build: Build) -> None:
    x = random.normal(random.key(0), (4, 3, 2))
    out, cache = build(0.5).apply({}, x)
    assert np.array_equal(out, x)
    assert np.array_equal(build(0.5).vjp(cache, x)[1], x)
    assert not np.array_equal(build(0.5).apply({}, x, key=random.key(1))[0], x)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_alpha_dropout_keeps_mean_and_variance(rate: float) -> None:
    """What it drops, and what it makes of it, are as in PyTorch."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    layer: Layer[Array, Array] = alpha_dropout(rate)
    x = random.normal(random.key(1), (400, 100), dtype=np.float64)
    out, cache = layer.apply({}, x, key=random.key(0))
    kept = layer.vjp(cache, np.ones_like(x))[1] != 0
    assert abs((~kept).mean() - rate) < 0.01
    assert abs(out.mean()) < 0.03
    assert abs(out.std() - 1) < 0.03
    torch.manual_seed(0)
    theirs = torch.nn.functional.alpha_dropout(torch.tensor(x), rate, True).numpy()
    numbers, counts = np.unique(theirs.round(9), return_counts=True)
    dropped = np.abs(theirs - numbers[counts.argmax()]) < 1e-8  # the number that comes often
    both = kept & ~dropped
    np.testing.assert_allclose(out[both], theirs[both], rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.unique(out[~kept]).mean(), theirs[dropped].mean(), atol=1e-12)


def test_rrelu_draws_each_slope_between_its_bounds() -> None:
    layer: Layer[Array, Array] = rrelu(0.2, 0.6)
    x = random.normal(random.key(1), (400, 100))
    out, cache = layer.apply({}, x, key=random.key(0))
    slopes = (out / x)[x < 0]
    assert (out[x > 0] == x[x > 0]).all()
    assert 0.2 <= slopes.min() < 0.201
    assert 0.599 < slopes.max() <= 0.6 + 1e-6
    assert abs(slopes.mean() - 0.4) < 0.005
    np.testing.assert_allclose(layer.vjp(cache, x)[1], out)
    with pytest.raises(ValueError, match=r"^rrelu: `lower` must be at most `upper`, got 0\.5"):
        rrelu(0.5, 0.1)


def test_what_is_dropped_together() -> None:
    images, sequences = np.ones((20, 6, 4, 5)), np.ones((20, 8, 6))
    channel: Layer[Array, Array] = spatial_dropout(0.5)
    example: Layer[Array, Array] = drop_path(0.5)
    element: Layer[Array, Array] = dropout(0.5)
    key = random.key(3)
    for layer, x, varies in (
        (channel, images, (True, True, False, False)),
        (channel, sequences, (True, False, True)),
        (alpha_dropout(0.5, channels=True), sequences, (True, False, True)),
        (example, images, (True, False, False, False)),
        (element, images, (True, True, True, True)),
    ):
        out, cache = layer.apply({}, x, key=key)
        assert tuple(bool(np.ptp(out, axis).any()) for axis in range(x.ndim)) == varies
        mask = cache["mask"]
        assert mask.dtype == np.bool_  # one byte for each draw
        assert mask.size == np.prod([n for n, v in zip(x.shape, varies, strict=True) if v])


def test_noise_has_the_standard_deviation() -> None:
    layer: Layer[Array, Array] = gaussian_noise(0.25)
    x = np.full((200, 200), 3.0)
    out, cache = layer.apply({}, x, key=random.key(0))
    assert abs(out.std() - 0.25) < 0.005
    assert abs(out.mean() - 3.0) < 0.005
    assert np.array_equal(layer.vjp(cache, x)[1], x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dropout(1.0), "dropout: `rate` must be below 1, got 1.0"),
        (lambda: drop_path(-0.1), "drop_path: `rate` must be at least 0, got -0.1"),
        (lambda: spatial_dropout(2), "spatial_dropout: `rate` must be below 1, got 2"),
        (lambda: gaussian_noise(-1.0), "gaussian_noise: `std` must be at least 0, got -1.0"),
    ],
)
def test_options_are_checked(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=r"^\w+: ") as caught:
        build()
    assert str(caught.value) == message


def test_a_number_is_no_key() -> None:
    layer: Layer[Array, Array] = dropout(0.5)
    with pytest.raises(TypeError, match="dropout: `key` must be a funcnn Key, got 0: write"):
        layer.apply({}, np.ones((2, 2)), key=0)  # type: ignore[arg-type]
