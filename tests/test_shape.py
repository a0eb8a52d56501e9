"""What the names of the shape layers promise, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn import (
    branch,
    concatenate,
    conv,
    crop,
    flatten,
    identity,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
    random,
    reshape,
    split,
    transpose,
    upsample,
)
from funcnn.types import Array, Layer

_IMAGE: Any = random.normal(random.key(0), (2, 8, 4, 6), dtype=np.float64)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (flatten(), reshape(8, 4, 6)),
        (transpose(3, 1, 2), transpose(2, 3, 1)),
        (pad(((1, 2), (0, 3))), crop(((1, 2), (0, 3)))),
        (pixel_shuffle(2), pixel_unshuffle(2)),
        (pixel_unshuffle(2), pixel_shuffle(2)),
        (split((3, 5)), concatenate()),
        (split(2, axis=3), concatenate(axis=3)),
    ],
)
def test_there_and_back(there: Layer[Any, Any], back: Layer[Any, Any]) -> None:
    between, _ = there.apply({}, _IMAGE)
    np.testing.assert_array_equal(back.apply({}, between)[0], _IMAGE)


def test_views_where_nothing_moves() -> None:
    """After a convolution, too, whose memory runs batch-last."""
    layer = conv(8, 1)
    convolved, _ = layer.apply(layer.init(random.key(0), (4, 3, 4, 6))[1], _as_float32(4, 3, 4, 6))
    layers: tuple[Layer[Any, Any], ...] = (flatten(), reshape(4, -1), crop(1), transpose(2, 1, 3))
    for moving in layers:
        for x in (_IMAGE, convolved):
            out, _ = moving.apply({}, x)
            assert np.shares_memory(out, x), moving


def _as_float32(*shape: int) -> Any:
    return random.normal(random.key(1), shape)


def test_upsampling_keeps_the_mean_and_the_range() -> None:
    for mode in ("nearest", "bilinear"):
        out, _ = upsample(3, mode=mode).apply({}, _IMAGE)
        assert out.max() <= _IMAGE.max()
        assert out.min() >= _IMAGE.min()
        flat, _ = upsample(3, mode=mode).apply({}, np.full_like(_IMAGE, 0.25))
        np.testing.assert_allclose(flat, 0.25, rtol=0, atol=1e-15)
    corners, _ = upsample(3, mode="bilinear", align_corners=True).apply({}, _IMAGE)
    ends: Array = _IMAGE[:, :, [0, -1]][..., [0, -1]]
    np.testing.assert_allclose(corners[:, :, [0, -1]][..., [0, -1]], ends, rtol=0, atol=1e-14)


MESSAGES: list[tuple[Any, str]] = [
    (lambda: reshape(-2), "reshape: `shape` must be at least -1, got -2"),
    (
        lambda: reshape(-1, -1),
        "reshape: `shape` must have positive sizes and at most one -1, got (-1, -1)",
    ),
    (
        lambda: reshape(4, 0),
        "reshape: `shape` must have positive sizes and at most one -1, got (4, 0)",
    ),
    (lambda: transpose(0, 1), "transpose: `axes` must be all of 1..2, got (0, 1)"),
    (lambda: transpose(1, 1), "transpose: `axes` must be all of 1..2, got (1, 1)"),
    (lambda: pad(-1), "pad: `widths` must be at least 0, got -1"),
    (lambda: pad(()), "pad: `widths` must hold at least one value, got ()"),
    (
        lambda: pad(((1, 2, 3),)),  # type: ignore[arg-type]
        "pad: `widths` must be an int or 2 of them, got (1, 2, 3)",
    ),
    (
        lambda: pad(1, mode="mirror"),
        "pad: `mode` must be one of 'constant', 'reflect', 'replicate', 'circular', got 'mirror'",
    ),
    (lambda: pad(1, value=np.nan), "pad: `value` must be finite, got nan"),
    (lambda: crop(1.0), "crop: `widths` must be an int, got 1.0"),  # type: ignore[arg-type]
    (lambda: upsample(0), "upsample: `scale` must be at least 1, got 0"),
    (lambda: upsample(0.0), "upsample: `scale` must be above 0, got 0.0"),
    (lambda: upsample(), "upsample: `scale` or `size` must be given, and not both, got None and None"),
    (
        lambda: upsample(2, size=3),
        "upsample: `scale` or `size` must be given, and not both, got 2 and 3",
    ),
    (
        lambda: upsample((2, 3)).init(random.key(0), (2, 3, 4)),
        "upsample: `x` must have 4 axes, got shape (2, 3, 4)",
    ),
    (
        lambda: upsample(0.3).init(random.key(0), (2, 1, 3, 4)),
        "upsample: `x` must be larger for the scale 0.3, got shape (2, 1, 3, 4)",
    ),
    (
        lambda: upsample(2, mode="cubic"),
        "upsample: `mode` must be one of 'nearest', 'nearest-exact', 'linear', 'bilinear', "
        "'trilinear', 'bicubic', got 'cubic'",
    ),
    (
        lambda: upsample(2, align_corners=True),
        "upsample: `align_corners` must be False for mode 'nearest', got True",
    ),
    (lambda: pixel_shuffle(0), "pixel_shuffle: `factor` must be at least 1, got 0"),
    (lambda: split(0), "split: `sections` must be at least 1, got 0"),
    (lambda: split(()), "split: `sections` must hold at least one value, got ()"),
    (
        lambda: concatenate(0).init(random.key(0), ((2, 3), (2, 3))),
        "concatenate: `axis` must name one of the axes 1..1, got 0",
    ),
    (
        lambda: concatenate().init(random.key(0), ()),
        "concatenate: `x` must be a tuple of arrays, got ()",
    ),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_refuses(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value) == message


def test_split_refuses_gradients_of_other_parts() -> None:
    layer: Layer[Array, tuple[Array, ...]] = split((3, 5))
    parts, cache = layer.apply({}, _IMAGE)
    with pytest.raises(ValueError, match=r"^split: `dout` must have 2 parts, got 1$"):
        layer.vjp(cache, parts[:1])
    with pytest.raises(ValueError, match=r"^split: `dout` must have the output's shape \(2, 3, 4, 6\)"):
        layer.vjp(cache, parts[::-1])
    with pytest.raises(TypeError, match=r"^split: `dout` must be a tuple of arrays, got ndarray$"):
        layer.vjp(cache, _IMAGE)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_identity_takes_what_is_no_float(dtype: Any) -> None:
    tokens = np.array([[1, 0, 1]]).astype(dtype)
    net: Any = branch(identity(), identity())
    out, cache = net.apply({}, tokens)
    assert out[0] is tokens
    _, dx = net.vjp(cache, (np.ones((1, 3), np.float32),) * 2)
    assert dx.tolist() == [[0, 0, 0]]
    for bad in (tokens.astype(complex), tokens.astype(np.float16), tokens.tolist()):
        with pytest.raises(TypeError, match=r"^identity: `x` must be"):
            identity().apply({}, bad)
