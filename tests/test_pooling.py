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
    lp_pool1d,
    max_pool,
    max_pool1d,
    max_pool3d,
    max_unpool,
    max_unpool1d,
    numerics,
    random,
    relu,
    serial,
)
from funcnn.types import Layer

mpmath: Any = pytest.importorskip("mpmath")

_IMAGE: Any = random.normal(random.key(0), (2, 3, 6, 7), dtype=np.float64)

ON_EVERY_SET_OF_KERNELS = True


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


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["same", ((1, 0), (0, 2)), ((0, 2), 1)], ids=str)
@pytest.mark.parametrize("size", [3, (4, 3)])
@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
def test_winners_are_where_they_were(stride: Any, size: Any, padding: Any, dilation: int) -> None:
    """For paddings that PyTorch does not have, too."""
    layer = max_pool(size, stride=stride, padding=padding, dilation=dilation, return_indices=True)
    (out, where), _ = layer.apply({}, _IMAGE)
    flat = _IMAGE.reshape(2, 3, -1)
    np.testing.assert_array_equal(
        np.take_along_axis(flat, where.reshape(2, 3, -1), 2).reshape(out.shape), out
    )


def test_a_max_pool_of_the_past() -> None:
    """All the padding at one side, and nothing of the future."""
    steps: Any = np.array([3.0, 1.0, 2.0, 0.0, 5.0]).reshape(1, 5, 1)
    out, _ = max_pool1d(3, stride=1, padding=((2, 0),)).apply({}, steps)
    np.testing.assert_array_equal(out.ravel(), [3, 3, 3, 2, 5])
    mean, _ = avg_pool1d(2, stride=1, padding=((1, 0),), count_include_pad=False).apply({}, steps)
    np.testing.assert_array_equal(mean.ravel(), [3, 2, 1.5, 1, 2.5])


def test_the_same_size_comes_out() -> None:
    for pool in (max_pool, avg_pool):
        for size, stride, dilation in ((2, 1, 1), (3, 2, 1), (2, 3, 2), ((1, 4), (2, 3), 1)):
            layer = pool(size, stride=stride, padding="same", dilation=dilation)
            down = np.broadcast_to(stride, 2)
            assert layer.init(random.key(0), (2, 3, 6, 7))[0][2:] == (
                -(-6 // down[0]),
                -(-7 // down[1]),
            )


def test_the_mean_of_nothing_is_zero() -> None:
    layer = avg_pool1d(2, stride=1, padding=1, dilation=2, count_include_pad=False)
    out, cache = layer.apply({}, np.array([[[5.0]]]))
    assert out.ravel().tolist() == [0]
    assert layer.vjp(cache, np.ones((1, 1, 1)))[1].ravel().tolist() == [0]


def test_an_activation_stays_in_front_of_winners() -> None:
    """Where there are none, pooling comes first, which is faster and gives the same."""
    net: Any = serial(relu(), max_pool(2, return_indices=True), max_unpool(2))
    image = _IMAGE[:, :, :6, :6]
    out, _ = net.apply({}, image)
    largest, _ = serial(relu(), max_pool(2)).apply({}, image)
    seen = np.repeat(np.repeat(largest, 2, 2), 2, 3)
    assert np.isin(out, [0, *largest.ravel()]).all()
    np.testing.assert_array_equal(out[out > 0], np.maximum(image, 0)[(image == seen) & (image > 0)])


def test_of_several_in_one_place_the_last_is_there() -> None:
    x, where = np.array([[[1.0], [2.0], [3.0]]]), np.array([[[1], [1], [0]]])
    layer: Layer[Any, Any] = max_unpool1d(1)
    out, cache = layer.apply({}, (x, where))
    assert out.ravel().tolist() == [3, 2, 0]
    assert layer.vjp(cache, np.ones((1, 3, 1)))[1][0].ravel().tolist() == [0, 1, 1]


def test_which_is_the_last_does_not_depend_on_the_order_in_memory() -> None:
    x = np.arange(1.0, 25).reshape(2, 3, 2, 2)
    where = np.tile([[2, 0], [0, 3]], (2, 3, 1, 1))
    layer: Layer[Any, Any] = max_unpool(1)
    for order in (np.array, np.asfortranarray):
        given: Any = order(x), order(where)
        out, cache = layer.apply({}, given)
        np.testing.assert_array_equal(out[0, 0], [[3, 0], [1, 4]])
        np.testing.assert_array_equal(layer.vjp(cache, out)[1][0], np.where(x % 4 == 2, 0, x))


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
        lambda: max_pool(2, padding=((0, 2), 0)),
        "max_pool: `padding` must be below the kernel (2, 2), got ((0, 2), (0, 0))",
    ),
    (
        lambda: avg_pool(2, padding="same", ceil_mode=True),
        "avg_pool: `ceil_mode` must be False for padding 'same', got True",
    ),
    (
        lambda: max_unpool(2, padding=2),
        "max_unpool: `padding` must be at most half of the kernel (2, 2), got (2, 2)",
    ),
    (
        lambda: max_pool3d((2, 2)),  # type: ignore[arg-type]
        "max_pool3d: `kernel_size` must be an int or 3 of them, got (2, 2)",
    ),
    (
        lambda: max_pool(2, ceil_mode=1),  # type: ignore[call-overload]
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


# --- norms of all magnitudes ------------------------------------------------------------------------

_UNITS = (1e-44, 1e-24, 1e-6, 1.0, 1e5, 1e20, 1e37)


def _exact_norm(x: list[float], power: float) -> tuple[float, list[float]]:
    """The norm and its slopes in numbers of many digits, whose exponents have no end."""
    with mpmath.workdps(400):
        exact = [mpmath.mpf(value) for value in x]
        p = mpmath.mpf(power)
        top = max(map(abs, exact)) or 1
        ratios = [abs(value) / top for value in exact]
        total = (sum(r**p for r in ratios) or 1) ** (1 / p - 1)
        slopes = [mpmath.sign(v) * r ** (p - 1) * total for v, r in zip(exact, ratios, strict=True)]
        norm = top * sum(r**p for r in ratios) ** (1 / p)
        return float(norm), [float(slope) for slope in slopes]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [1, 1.5, 2, 3, 8, 20, 200, 1e300])
@pytest.mark.parametrize("mode", ["fast", "portable"])
def test_norms_are_right_at_every_magnitude(power: float, dtype: Any, mode: numerics.Mode) -> None:
    rows = [[3.0, -4.0, 0.0], [1.0, 1.0, -1.0], [-0.75, 1e-3, 1e-9], [0.0, -0.0, 0.0]]
    units = [*_UNITS, *([1e-300, 1e-170, 1e100, 1e300] if dtype is np.float64 else [])]
    x = np.array([[[v * unit] for v in row] for row in rows for unit in units], dtype)
    layer = lp_pool1d(3, norm_type=power)
    with numerics.use(mode):
        out, cache = layer.apply({}, x)
        _, dx = layer.vjp(cache, np.ones_like(out))
        _, far = layer.vjp(cache, np.full_like(out, 1e38))
    exact = [_exact_norm(row, power) for row in x[:, :, 0].tolist()]
    info = np.finfo(dtype)
    rtol, least = 8 * float(info.eps), 2 * float(info.smallest_subnormal)
    wanted = np.array([norm for norm, _ in exact])
    np.testing.assert_allclose(out[:, 0, 0], wanted, rtol=rtol, atol=least)
    slopes = np.array([slopes for _, slopes in exact])
    conditioned = rtol * (max(1, power) if dtype is np.float64 else 1)  # powers multiply errors
    np.testing.assert_allclose(dx[:, :, 0], slopes, rtol=min(conditioned, 1e-3), atol=least)
    np.testing.assert_allclose(far[:, :, 0], 1e38 * slopes, rtol=min(conditioned, 1e-3), atol=1e-3)


def test_windows_of_different_magnitudes_are_all_right() -> None:
    x = np.array([[[3e20], [4e20], [3e-24], [4e-24], [0.0], [0.0], [np.inf], [1.0]]], np.float32)
    out, cache = lp_pool1d(2).apply({}, x)
    np.testing.assert_allclose(out[0, :, 0], np.array([5e20, 5e-24, 0, np.inf]), rtol=1e-6)
    _, dx = lp_pool1d(2).vjp(cache, np.ones_like(out))
    np.testing.assert_allclose(dx[0, :, 0], np.array([0.6, 0.8, 0.6, 0.8, 0, 0, 1, 0]), rtol=1e-6)
    _, dx = lp_pool1d(2).vjp(cache, np.full_like(out, np.inf))
    assert dx[0, 4:6, 0].tolist() == [0, 0]
