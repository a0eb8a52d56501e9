"""Convolution from first principles: seven loops, columns, and the rotated kernel."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from funcnn import (
    col2im,
    conv,
    conv1d,
    conv3d,
    conv_transpose,
    conv_transpose1d,
    depthwise_conv,
    im2col,
    numerics,
    random,
    separable_conv,
)
from funcnn.types import Array, Image, Layer, Params

Pair = tuple[int, int]

ON_EVERY_SET_OF_KERNELS = True


def _normal(label: str, *shape: int) -> Array:
    return random.normal(random.fold_in(random.key(0), label), shape, dtype=np.float64)


def _seven_loops(
    x: Array, weight: Array, bias: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """The definition, one product at a time."""
    batch, _, height, width = x.shape
    outs, deep, kh, kw = weight.shape
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    rows = (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    columns = (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    out = np.zeros((batch, outs, rows, columns))
    for n, o, p, q in product(range(batch), range(outs), range(rows), range(columns)):
        total = float(bias[o])
        first = o // (outs // groups) * deep
        for c, i, j in product(range(deep), range(kh), range(kw)):
            h, w = p * sh + i * dh - ph, q * sw + j * dw - pw
            if 0 <= h < height and 0 <= w < width:
                total += float(weight[o, c, i, j] * x[n, first + c, h, w])
        out[n, o, p, q] = total
    return out


GRID: list[tuple[Pair, Pair, Pair, Pair, int]] = [
    ((3, 3), (1, 1), (0, 0), (1, 1), 1),
    ((2, 3), (2, 1), (1, 2), (1, 1), 1),
    ((3, 2), (1, 3), (2, 0), (2, 1), 2),
    ((2, 2), (3, 2), (1, 1), (1, 3), 4),
    ((1, 4), (2, 2), (0, 3), (3, 1), 2),
    ((5, 4), (1, 1), (0, 0), (1, 1), 1),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), GRID)
def test_equals_seven_loops(
    kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> None:
    layer = conv(4, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    x = _normal("x", 2, 4, 5, 6)
    params = {"weight": _normal("weight", 4, 4 // groups, *kernel), "bias": _normal("bias", 4)}
    out, _ = layer.apply(params, x)
    wanted = _seven_loops(x, params["weight"], params["bias"], stride, padding, dilation, groups)
    np.testing.assert_allclose(out, wanted, rtol=0, atol=1e-12)


def _pulled_back(layer: Layer[Image, Image], x: Any, weight: Array) -> tuple[Array, Params, Array]:
    out, cache = layer.apply({"weight": weight}, x)
    dout: Any = _normal("dout", *out.shape)
    return dout, *layer.vjp(cache, dout)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [case[:4] for case in GRID])
def test_gradients_are_products_with_columns(
    kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> None:
    """``dK = dY Xᵀ`` and ``dX = col2im(Kᵀ dY)``."""
    options: Any = {"stride": stride, "padding": padding, "dilation": dilation}
    x, weight = _normal("x", 2, 3, 5, 6), _normal("weight", 4, 3, *kernel)
    dout, dparams, dx = _pulled_back(conv(4, kernel, bias=False, **options), x, weight)
    slopes = dout.transpose(1, 2, 3, 0).reshape(4, -1)
    columns = im2col(x, kernel, **options)
    dweight = numerics.matmul(slopes, columns.T).reshape(weight.shape)
    np.testing.assert_allclose(dparams["weight"], dweight, rtol=0, atol=1e-12)
    summed = col2im(numerics.matmul(weight.reshape(4, -1).T, slopes), x.shape, kernel, **options)
    np.testing.assert_allclose(dx, summed, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dilation", [1, 2, (1, 3)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 3), (4, 1)])
def test_input_gradient_is_the_full_convolution_with_the_rotated_kernel(
    kernel: Pair, dilation: Any
) -> None:
    """And so equals ``col2im(Kᵀ dY)``: two roads to one gradient, for stride 1."""
    spread = (dilation, dilation) if isinstance(dilation, int) else dilation
    x, weight = _normal("x", 2, 3, 7, 8), _normal("weight", 4, 3, *kernel)
    dout, _, dx = _pulled_back(conv(4, kernel, dilation=dilation, bias=False), x, weight)

    rotated = weight[:, :, ::-1, ::-1].swapaxes(0, 1)
    full = tuple(d * (k - 1) for k, d in zip(kernel, spread, strict=True))
    back = conv(3, kernel, padding=(full[0], full[1]), dilation=dilation, bias=False)
    convolved, _ = back.apply({"weight": rotated}, dout)
    slopes = dout.transpose(1, 2, 3, 0).reshape(4, -1)
    columns = numerics.matmul(weight.reshape(4, -1).T, slopes)
    summed = col2im(columns, x.shape, kernel, dilation=dilation)
    np.testing.assert_allclose(convolved, summed, rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx, convolved, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [case[:4] for case in GRID])
def test_col2im_is_the_adjoint_of_im2col(
    kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> None:
    options: Any = {"stride": stride, "padding": padding, "dilation": dilation}
    x = _normal("x", 2, 3, 5, 6)
    columns = im2col(x, kernel, **options)
    other = _normal("other", *columns.shape)
    there = numerics.sum(columns * other)
    back = numerics.sum(x * col2im(other, x.shape, kernel, **options))
    assert abs(float(there - back)) < 1e-11
    assert abs(float(there)) > 0.1  # or both could be nothing


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), GRID)
def test_transposed_is_the_adjoint(
    kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> None:
    """With one weight, ``<conv(x), y> = <x, conv_transpose(y)>``."""
    options: Any = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x: Any = _normal("x", 2, 4, 9, 10)
    params = {"weight": _normal("weight", 8, 4 // groups, *kernel)}
    out, _ = conv(8, kernel, bias=False, **options).apply(params, x)
    y: Any = _normal("y", *out.shape)
    smaller = conv_transpose(4, kernel, bias=False, **options).init(random.key(0), y.shape)[0]
    extra = tuple(n - m for n, m in zip(x.shape[2:], smaller[2:], strict=True))
    back = conv_transpose(4, kernel, output_padding=(extra[0], extra[1]), bias=False, **options)
    returned, _ = back.apply(params, y)
    assert returned.shape == x.shape
    assert abs(float(numerics.sum(out * y) - numerics.sum(x * returned))) < 1e-10


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_causal_does_not_see_the_future(dilation: int) -> None:
    layer = conv1d(3, 3, padding="causal", dilation=dilation)
    _, params = layer.init(random.key(0), (1, 12, 2))
    x: Any = _normal("x", 1, 12, 2).astype(np.float32)
    changed = x.copy()
    changed[:, 7:] += 1
    before, after = layer.apply(params, x)[0], layer.apply(params, changed)[0]
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert (before[:, 7] != after[:, 7]).all()


def test_depthwise_channels_do_not_see_each_other() -> None:
    layer = depthwise_conv(3, multiplier=2, padding=1)
    _, params = layer.init(random.key(0), (1, 3, 5, 5))
    x: Any = np.zeros((1, 3, 5, 5), np.float32)
    x[:, 1] = 1
    out, _ = layer.apply(params, x)
    assert out.any((0, 2, 3)).tolist() == [False, False, True, True, False, False]


def test_same_keeps_the_size() -> None:
    for kernel, dilation in product((1, 2, 3, 4), (1, 2)):
        layer = conv(2, kernel, dilation=dilation, padding="same")
        assert layer.init(random.key(0), (1, 1, 8, 9))[0] == (1, 2, 8, 9)


MESSAGES: list[tuple[Any, str]] = [
    (lambda: conv(0, 3), "conv: `out_channels` must be at least 1, got 0"),
    (lambda: conv(4.0, 3), "conv: `out_channels` must be an int, got 4.0"),  # type: ignore[arg-type]
    (lambda: conv(4, 0), "conv: `kernel_size` must be at least 1, got 0"),
    (
        lambda: conv(4, (3, 3, 3)),  # type: ignore[arg-type]
        "conv: `kernel_size` must be an int or 2 of them, got (3, 3, 3)",
    ),
    (lambda: conv(4, 3, stride=0), "conv: `stride` must be at least 1, got 0"),
    (lambda: conv(4, 3, dilation=(1, 0)), "conv: `dilation` must be at least 1, got 0"),
    (lambda: conv(4, 3, padding=-1), "conv: `padding` must be at least 0, got -1"),
    (
        lambda: conv(4, 3, padding="full"),
        "conv: `padding` must be one of 'same', 'valid', got 'full'",
    ),
    (
        lambda: conv(4, 3, padding="causal"),
        "conv: `padding` must be one of 'same', 'valid', got 'causal'",
    ),
    (
        lambda: conv1d(4, 3, padding="future"),
        "conv1d: `padding` must be one of 'same', 'valid', 'causal', got 'future'",
    ),
    (lambda: conv(4, 3, groups=0), "conv: `groups` must be at least 1, got 0"),
    (
        lambda: conv(4, 3, groups=3),
        "conv: `out_channels` must be a multiple of 3 groups, got 4",
    ),
    (
        lambda: conv(4, 3, bias=1),  # type: ignore[arg-type]
        "conv: `bias` must be True or False, got 1",
    ),
    (
        lambda: conv_transpose(4, 3, stride=2, output_padding=2),
        "conv_transpose: `output_padding` must be below the stride (2, 2) or the dilation (1, 1), "
        "got (2, 2)",
    ),
    (
        lambda: conv_transpose1d(3, 3, groups=2),
        "conv_transpose1d: `out_channels` must be a multiple of 2 groups, got 3",
    ),
    (
        lambda: conv_transpose(4, 3, padding="same"),  # type: ignore[arg-type]
        "conv_transpose: `padding` must be an int, got 'same'",
    ),
    (
        lambda: depthwise_conv(3, multiplier=0),
        "depthwise_conv: `multiplier` must be at least 1, got 0",
    ),
    (lambda: separable_conv(4, 3, stride=0), "separable_conv: `stride` must be at least 1, got 0"),
    (
        lambda: conv(4, 3, groups=2).init(random.key(0), (1, 3, 5, 5)),
        "conv: `x` must have a multiple of 2 channels, got shape (1, 3, 5, 5)",
    ),
    (
        lambda: conv1d(4, 3, groups=2).init(random.key(0), (1, 5, 3)),
        "conv1d: `x` must have a multiple of 2 features, got shape (1, 5, 3)",
    ),
    (
        lambda: conv(4, 3, dilation=2).init(random.key(0), (1, 3, 4, 9)),
        "conv: `x` must not be smaller than the kernel (5, 5), got shape (1, 3, 4, 9)",
    ),
    (
        lambda: conv3d(4, 3).init(random.key(0), (1, 3, 5, 5)),
        "conv3d: `shape` must have 5 axes (N, C, D, H, W), got (1, 3, 5, 5)",
    ),
    (
        lambda: conv(4, 3).init(0, (1, 3, 5, 5)),  # type: ignore[arg-type]
        "conv: `key` must be a funcnn Key, got 0: write funcnn.random.key(0)",
    ),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_refuses(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value) == message


def test_params_of_another_layer_are_refused() -> None:
    _, params = conv(4, 3).init(random.key(0), (1, 3, 5, 5))
    x: Any = np.zeros((1, 3, 5, 5), np.float32)
    with pytest.raises(ValueError, match="must have shape") as caught:
        conv(5, 3).apply(params, x)
    text = "`params['weight']` must have shape {}, got (4, 3, 3, 3)"
    assert str(caught.value) == "conv: " + text.format((5, 3, 3, 3))
    with pytest.raises(ValueError, match="must have shape") as caught:
        depthwise_conv(3).apply(params, x)
    assert str(caught.value) == "depthwise_conv: " + text.format((4, 1, 3, 3))
    _, params = conv_transpose(4, 3).init(random.key(0), (1, 3, 5, 5))
    with pytest.raises(ValueError, match="must have shape"):
        conv_transpose(4, 3, groups=2).apply(params, x)
    params["weight"] = params["weight"][:, :2]
    with pytest.raises(ValueError, match="must have a multiple") as caught:
        conv_transpose(4, 3, groups=2).apply(params, x)
    wanted = "conv_transpose: `x` must have a multiple of 2 channels, got shape (1, 3, 5, 5)"
    assert str(caught.value) == wanted


_BORDERED: list[tuple[Layer[Any, Any], tuple[int, ...]]] = [
    (conv(3, 3, padding=1), (2, 6, 5)),
    (conv(4, 3, padding=2, dilation=2, groups=2), (2, 6, 7)),
    (conv(3, (2, 4), stride=2, padding=1), (2, 5, 8)),
    (conv1d(3, 3, padding="causal"), (7, 2)),
    (conv3d(2, 2, padding=1), (2, 2, 3, 4)),
    (depthwise_conv(3, padding=1), (3, 5, 6)),
    (conv_transpose(3, 3, stride=2, padding=1), (2, 4, 5)),
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("batch", [1, 2, 17, 32])
@pytest.mark.parametrize("mode", ["fast", "portable"])
@pytest.mark.parametrize(("layer", "sizes"), _BORDERED, ids=repr)
def test_infinity_beside_padding(
    layer: Layer[Any, Any], sizes: tuple[int, ...], mode: Any, batch: int
) -> None:
    """Where it meets a number it shows; where it meets padding alone it adds nothing, or NaN."""
    x = _normal("x", batch, *sizes).astype(np.float32)
    params = layer.init(random.key(0), x.shape)[1]
    weight = params["weight"]

    out = layer.apply(params, x)[0]
    slope = _normal("d", *out.shape).astype(np.float32)

    def passes(weight: Array) -> list[Array]:
        out, cache = layer.apply({**params, "weight": weight}, x)
        return [out, layer.vjp(cache, slope)[1]]

    def dweight(slope: Array) -> list[Array]:
        return [layer.vjp(layer.apply(params, x)[1], slope)[0]["weight"]]

    def spoilt(array: Array, place: int) -> list[Array]:
        several = [array.copy() for _ in range(3)]
        for one, value in zip(several, (np.inf, 0, 1e8), strict=True):
            one.reshape(-1)[place] = value
        return several

    def agrees(found: Array, rest: Array, moved: Array) -> None:
        met = np.abs(moved - rest) > 1e3
        assert met.any()
        assert np.isinf(found[met]).all()
        nothing = np.isclose(found, rest, rtol=1e-4, atol=1e-4) | np.isnan(found)
        assert nothing[~met].all()

    with numerics.use(mode):
        given = [(passes, spoilt(weight, tap)) for tap in (0, weight[0, 0].size - 1)]
        for function, arrays in (*given, (dweight, spoilt(np.ascontiguousarray(slope), -1))):
            for found, rest, moved in zip(*map(function, arrays), strict=True):
                agrees(found, rest, moved)
