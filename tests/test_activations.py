"""What activations promise beyond the laws: at extremes, for NaN, in front of a maximum."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from funcnn import (
    gelu,
    glu,
    hard_shrink,
    hard_tanh,
    max_pool,
    maxout,
    numerics,
    parameterless,
    prelu,
    random,
    relu,
    relu6,
    serial,
    softplus,
    swiglu,
    threshold,
)
from funcnn.layers import activations
from funcnn.types import Array, Layer, has_trait
from tests import registry

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")
_LAYERS = [
    case.layer
    for case in registry.layers()
    if case.layer.spec.kind in vars(activations)["__all__"] and len(case.shape) == 2
]
_ALONG_AN_AXIS = ("glu", "log_softmax", "maxout", "softmax", "softmin", "swiglu")
_ELEMENTWISE = [layer for layer in _LAYERS if layer.spec.kind not in (*_ALONG_AN_AXIS, "prelu")]


@pytest.mark.parametrize("layer", _LAYERS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes_are_quiet_and_finite(layer: Layer[Array, Array], dtype: type) -> None:
    x: Array = np.array([[-1e4, -700, -89, -1e-30, 1e-30, 89, 700, 1e4]], dtype)
    params = {name: leaf.astype(dtype) for name, leaf in layer.init(random.key(0), x.shape)[1].items()}
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        out, cache = layer.apply(params, x)
        _, dx = layer.vjp(cache, np.ones_like(out))
    assert np.isfinite(out).all()
    assert np.isfinite(dx).all()
    assert out.dtype == dx.dtype == dtype


@pytest.mark.parametrize("layer", _LAYERS, ids=repr)
def test_nan_comes_out(layer: Layer[Array, Array]) -> None:
    x = np.array([[1.0, np.nan, -2.0, 3.0]], np.float32)
    out, _ = layer.apply(layer.init(random.key(0), x.shape)[1], x)
    assert np.isnan(out).any()
    if layer.spec.kind not in _ALONG_AN_AXIS:
        assert np.isnan(out).tolist() == [[False, True, False, False]]


@pytest.mark.parametrize("layer", _ELEMENTWISE, ids=repr)
def test_memory_order_stays(layer: Layer[Array, Array]) -> None:
    """Batch-last memory in, batch-last memory out: the next layer counts on it."""
    x = np.moveaxis(random.normal(random.key(0), (4, 2, 3, 8)), -1, 0)
    out, cache = layer.apply({}, x)
    assert out.strides == x.strides
    assert layer.vjp(cache, np.ones_like(x))[1].strides == x.strides


@pytest.mark.parametrize("layer", _ELEMENTWISE, ids=repr)
def test_blocks_and_memory_order_do_not_show(
    layer: Layer[Array, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameterless, "_LARGE", 1 << 14)
    monkeypatch.setattr(parameterless, "_BLOCK", 1 << 14)
    x = random.normal(random.key(0), (40, 3, 30, 20), std=3.0)
    assert x.size > 2 * parameterless._LARGE
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    gaps = np.repeat(x, 2, 3)[..., ::2]
    one_by_one = np.concatenate([layer.apply({}, image)[0] for image in np.split(x, 40)])
    for same in (x, last, np.asfortranarray(x), gaps, np.ascontiguousarray(x[::-1])[::-1]):
        out, cache = layer.apply({}, same)
        np.testing.assert_allclose(out, one_by_one, rtol=1e-6, atol=1e-6)
        slopes = layer.vjp(cache, np.ones_like(out))[1]
        np.testing.assert_allclose(slopes, layer.vjp(layer.apply({}, x)[1], np.ones_like(x))[1], 1e-6)
    assert layer.apply({}, last)[0].strides == last.strides


@pytest.mark.parametrize("layer", [relu(), relu6(), hard_tanh(), hard_tanh(-0.5, 0.25)], ids=repr)
def test_monotone_ones_swap_with_a_maximum(layer: Layer[Array, Array]) -> None:
    """Bit for bit, in the gradient too, with many equal and many saturated elements."""
    assert has_trait(layer.spec, "monotone")
    x = np.round(random.normal(random.key(0), (4, 3, 8, 8), std=4.0))
    pool: Layer[Array, Array] = max_pool(2)
    before, first = layer.apply({}, x)
    before, second = pool.apply({}, before)
    out, cache = serial(layer, pool).apply({}, x)
    dout = random.normal(random.key(1), out.shape)
    assert np.array_equal(out, before)
    assert np.array_equal(
        serial(layer, pool).vjp(cache, dout)[1], layer.vjp(first, pool.vjp(second, dout)[1])[1]
    )


def test_maxout_gives_ties_to_the_first() -> None:
    layer: Layer[Array, Array] = maxout(2)
    _, cache = layer.apply({}, np.array([[3.0, 3.0, 1.0, 2.0]]))
    assert layer.vjp(cache, np.array([[5.0, 7.0]]))[1].tolist() == [[5.0, 0.0, 0.0, 7.0]]


def test_gates_lie_where_the_papers_have_them() -> None:
    first: Layer[Array, Array] = swiglu()
    second: Layer[Array, Array] = glu()
    assert second.apply({}, np.array([[2.0, 3.0, -50.0, 50.0]]))[0].round(9).tolist() == [[0.0, 3.0]]
    assert first.apply({}, np.array([[-50.0, 50.0, 2.0, 3.0]]))[0].round(9).tolist() == [[0.0, 150.0]]


def test_softplus_is_smooth_everywhere() -> None:
    layer: Layer[Array, Array] = softplus()
    x = np.linspace(15, 25, 1001)[None]
    out, cache = layer.apply({}, x)
    assert (np.diff(out - x) < 0).all()
    assert (layer.vjp(cache, np.ones_like(x))[1] < 1).all()


def test_infinities() -> None:
    x = np.array([[-np.inf, np.inf]])
    expectations: list[tuple[Layer[Array, Array], list[float]]] = [
        (relu(), [0.0, np.inf]),
        (relu6(), [0.0, 6.0]),
        (threshold(0.0, -7.0), [-7.0, np.inf]),
        (hard_shrink(), [-np.inf, np.inf]),
    ]
    for layer, expected in expectations:
        assert layer.apply({}, x)[0].tolist() == [expected]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: gelu("exact"), "gelu: `approximate` must be one of 'none', 'tanh', got 'exact'"),
        (lambda: hard_tanh(1.0, 1.0), "hard_tanh: `maximum` must be above 1.0, got 1.0"),
        (lambda: maxout(0), "maxout: `pieces` must be at least 1, got 0"),
        (lambda: softplus(0.0), "softplus: `beta` must be above 0, got 0.0"),
        (lambda: hard_shrink(-1.0), "hard_shrink: `threshold` must be at least 0, got -1.0"),
    ],
)
def test_options_are_checked(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=r"^\w+: ") as caught:
        build()
    assert str(caught.value) == message


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compiled", ["off", pytest.param("require", marks=needs_numba)])
def test_prelu_multiplies_what_is_below_zero_alone(compiled: Any, order: Any) -> None:
    slopes = np.array([np.inf, -np.inf, np.nan, 0.0], np.float32)
    x = np.array([1.0, -1.0, np.inf, np.nan], np.float32)[:, None].repeat(4, 1)
    x = np.array(x.repeat(20, 0), order=order)
    with numerics.compiled(compiled), np.errstate(invalid="ignore"):
        out, cache = prelu(per_channel=True).apply({"slope": slopes}, x)
        dx = prelu(per_channel=True).vjp(cache, np.ones_like(x))[1]
        wanted = np.where(x <= 0, np.where(slopes == 0, 0, slopes * x), x)
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(dx, np.where(x > 0, 1, slopes))
