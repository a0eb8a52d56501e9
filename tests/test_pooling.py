"""What the names of the poolings promise, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    avg_pool1d,
    global_avg_pool,
    global_max_pool,
    lp_pool,
    max_pool,
    max_pool1d,
    max_pool3d,
    random,
)
from funcnn.types import Layer

_IMAGE: Any = random.normal(random.key(0), (2, 3, 6, 7), dtype=np.float64)


def test_every_output_is_the_largest_of_its_window() -> None:
    out, _ = max_pool(3, stride=2).apply({}, _IMAGE)
    for p in range(2):
        for q in range(3):
            window = _IMAGE[:, :, 2 * p : 2 * p + 3, 2 * q : 2 * q + 3]
            np.testing.assert_array_equal(out[:, :, p, q], window.max((2, 3)))


def test_the_first_of_equals_gets_the_gradient() -> None:
    x: Any = np.zeros((1, 1, 4, 4))
    layers: tuple[Layer[Any, Any], ...] = (max_pool(4), adaptive_max_pool(1), global_max_pool())
    for layer in layers:
        out, cache = layer.apply({}, x)
        _, dx = layer.vjp(cache, np.ones_like(out))
        assert dx[0, 0, 0, 0] == 1
        assert dx.max() == 1
        assert np.count_nonzero(dx) == 1


def test_padding_never_wins() -> None:
    out, _ = max_pool(2, padding=1).apply({}, -np.ones((1, 1, 2, 2)))
    np.testing.assert_array_equal(out, -np.ones((1, 1, 2, 2)))


def test_a_mean_of_ones_is_one_unless_the_padding_counts() -> None:
    ones: Any = np.ones((1, 1, 5, 5))
    options: dict[str, Any] = {"stride": 2, "padding": 1, "ceil_mode": True}
    out, _ = avg_pool(3, count_include_pad=False, **options).apply({}, ones)
    np.testing.assert_allclose(out, 1, rtol=0, atol=1e-15)
    out, _ = avg_pool(3, **options).apply({}, ones)
    np.testing.assert_allclose(out[0, 0, 0, 0], 4 / 9, rtol=0, atol=1e-15)


def test_norms_lie_between_sum_and_maximum() -> None:
    size = np.abs(_IMAGE)
    total, _ = lp_pool(2, norm_type=1).apply({}, _IMAGE)
    np.testing.assert_allclose(total, 4 * avg_pool(2).apply({}, size)[0], rtol=0, atol=1e-12)
    largest, _ = max_pool(2).apply({}, size)
    near, _ = lp_pool(2, norm_type=200).apply({}, _IMAGE)
    np.testing.assert_allclose(near, largest, rtol=0.01)
    assert (lp_pool(2).apply({}, _IMAGE)[0] < total).all()


def test_a_norm_of_nothing_has_no_gradient() -> None:
    for power in (1, 1.5, 2, 3):
        layer = lp_pool(2, norm_type=power)
        out, cache = layer.apply({}, np.zeros((1, 1, 2, 2)))
        np.testing.assert_array_equal(layer.vjp(cache, out + 1)[1], np.zeros((1, 1, 2, 2)))


def test_one_bin_is_everything() -> None:
    pairs: tuple[tuple[Layer[Any, Any], Layer[Any, Any]], ...] = (
        (adaptive_avg_pool(1), global_avg_pool()),
        (adaptive_max_pool(1), global_max_pool()),
    )
    for adaptive, everything in pairs:
        np.testing.assert_array_equal(
            adaptive.apply({}, _IMAGE)[0][:, :, 0, 0], everything.apply({}, _IMAGE)[0]
        )


MESSAGES: list[tuple[Any, str]] = [
    (lambda: max_pool(0), "max_pool: `kernel_size` must be at least 1, got 0"),
    (lambda: max_pool(2, stride=0), "max_pool: `stride` must be at least 1, got 0"),
    (lambda: max_pool(2, dilation=0), "max_pool: `dilation` must be at least 1, got 0"),
    (lambda: avg_pool(2, padding=-1), "avg_pool: `padding` must be at least 0, got -1"),
    (
        lambda: avg_pool(3, padding=2),
        "avg_pool: `padding` must be at most half of the kernel (3, 3), got (2, 2)",
    ),
    (
        lambda: max_pool1d(2, dilation=2, padding=2),
        "max_pool1d: `padding` must be at most half of the kernel (3,), got (2,)",
    ),
    (
        lambda: max_pool3d((2, 2)),  # type: ignore[arg-type]
        "max_pool3d: `kernel_size` must be an int or 3 of them, got (2, 2)",
    ),
    (
        lambda: max_pool(2, ceil_mode=1),  # type: ignore[arg-type]
        "max_pool: `ceil_mode` must be True or False, got 1",
    ),
    (
        lambda: avg_pool1d(2, count_include_pad=0),  # type: ignore[arg-type]
        "avg_pool1d: `count_include_pad` must be True or False, got 0",
    ),
    (lambda: lp_pool(2, norm_type=0.5), "lp_pool: `norm_type` must be at least 1, got 0.5"),
    (lambda: lp_pool(2, norm_type=np.inf), "lp_pool: `norm_type` must be finite, got inf"),
    (
        lambda: adaptive_avg_pool((2, 0)),
        "adaptive_avg_pool: `output_size` must be at least 1, got 0",
    ),
    (
        lambda: max_pool(3).init(random.key(0), (2, 1, 2, 5)),
        "max_pool: `x` must not be smaller than the kernel (3, 3), got shape (2, 1, 2, 5)",
    ),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_refuses(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "layer",
    [max_pool(2), max_pool(3, stride=1, padding=1), adaptive_max_pool(1), adaptive_max_pool((3, 2))],
)
def test_zeros_and_nans_have_one_pattern_of_bits(layer: Layer[Any, Any], dtype: Any) -> None:
    """Which zero is larger, and which of two NaNs stays, would be the processor's choice."""
    zeros = np.where(np.arange(64).reshape(1, 1, 8, 8) % 3, dtype(0), dtype(-0.0))
    for sign in (1, -1):
        out, _ = layer.apply({}, sign * zeros)
        assert not np.signbit(out).any()
        out, _ = layer.apply({}, np.copysign(dtype(np.nan), sign * (0.5 + zeros)))
        assert out.tobytes() == np.full(out.shape, np.nan, dtype).tobytes()
