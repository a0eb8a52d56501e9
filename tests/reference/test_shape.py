"""Layers that move numbers, against PyTorch's functions of the same names."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from funcnn import (
    channel_shuffle,
    concatenate,
    crop,
    flatten,
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
from tests.reference.agreement import agrees, torch

F: Any = torch.nn.functional
SHAPES: tuple[Any, ...] = ((2, 3, 5, 6), (1, 2, 6, 7))


def test_other_layouts() -> None:
    for shape in SHAPES:
        agrees(flatten(), shape, lambda x: x.flatten(1))
        agrees(reshape(2, -1), shape, lambda x: x.reshape(x.shape[0], 2, -1))
        agrees(transpose(2, 3, 1), shape, lambda x: x.permute(0, 2, 3, 1))
    agrees(transpose(2, 1), (2, 3, 4), lambda x: x.transpose(1, 2))


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("widths", [0, 1, 3, (2, 1), ((1, 3), (0, 2)), ((0, 0), (3, 0))])
def test_pad(widths: Any, mode: str) -> None:
    (top, bottom), (left, right) = _pairs(widths)
    sides = (left, right, top, bottom)
    for shape in SHAPES:
        agrees(pad(widths, mode=mode), shape, lambda x: F.pad(x, sides, mode=mode))
        if mode == "constant":
            agrees(pad(widths, value=1.5), shape, lambda x: F.pad(x, sides, value=1.5))
    sequence: Layer[Any, Any] = pad(((left, right),), mode=mode)
    agrees(
        sequence,
        (2, 4, 3),
        lambda x: F.pad(x.transpose(1, 2), (left, right), mode=mode).transpose(1, 2),
    )
    volume: Layer[Any, Any] = pad(((top, bottom), (left, right), (1, 0)), mode=mode)
    agrees(volume, (1, 2, 4, 5, 4), lambda x: F.pad(x, (1, 0, *sides), mode=mode))


@pytest.mark.parametrize("widths", [0, 1, (2, 1), ((1, 2), (0, 3))])
def test_crop(widths: Any) -> None:
    """PyTorch crops by padding with negative widths."""
    (top, bottom), (left, right) = _pairs(widths)
    for shape in SHAPES:
        agrees(crop(widths), shape, lambda x: F.pad(x, (-left, -right, -top, -bottom)))


def _pairs(widths: Any) -> Any:
    axes = (widths, widths) if isinstance(widths, int) else widths
    return tuple((axis, axis) if isinstance(axis, int) else axis for axis in axes)


@pytest.mark.parametrize("scale", [1, 2, 3, (2, 1), (1, 4), 5])
def test_upsample(scale: Any) -> None:
    for shape in (*SHAPES, (2, 1, 1, 3), (1, 1, 1, 1)):
        agrees(upsample(scale), shape, lambda x: F.interpolate(x, scale_factor=scale))
        for align in (True, False):
            agrees(
                upsample(scale, mode="bilinear", align_corners=align),
                shape,
                lambda x, a=align: F.interpolate(
                    x, scale_factor=scale, mode="bilinear", align_corners=a
                ),
            )


_RESIZED = [  # a mode, its axes, and whether it has corners
    (("nearest", "nearest-exact", "linear"), (2, 5, 3)),
    (("nearest", "nearest-exact", "bilinear", "bicubic"), (2, 2, 4, 6)),
    (("nearest", "nearest-exact", "trilinear"), (1, 1, 4, 5, 6)),
]


@pytest.mark.parametrize("to", [1, 3, 7, 12, 0.5, 1.0, 1.3, 2.75, 4.0], ids=str)
@pytest.mark.parametrize(("mode", "shape"), [(m, shape) for ms, shape in _RESIZED for m in ms], ids=str)
def test_resizing(mode: str, shape: Any, to: Any) -> None:
    """By sizes (ints) and by factors, larger and smaller, in one, two and three dimensions."""
    options = {"size": to} if isinstance(to, int) else {"scale": to}
    if isinstance(to, float):
        their: dict[str, Any] = {"scale_factor": to}
    else:
        their = {"size": to}
    turned = len(shape) == 3
    for align in (False,) if mode.startswith("nearest") else (False, True):
        corners = {} if mode.startswith("nearest") else {"align_corners": align}

        def reference(x: Any, corners: Any = corners) -> Any:
            x = x.transpose(1, 2) if turned else x
            out = F.interpolate(x, mode=mode, **their, **corners)
            return out.transpose(1, 2) if turned else out

        agrees(upsample(**options, mode=mode, align_corners=align), shape, reference)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
def test_resizing_each_axis_on_its_own(mode: str) -> None:
    for mine, theirs in (
        ({"size": (7, 3)}, {"size": (7, 3)}),
        ({"scale": (1.5, 0.75)}, {"scale_factor": (1.5, 0.75)}),
        ({"scale": (2, 3)}, {"scale_factor": (2.0, 3.0)}),
    ):
        layer = upsample(mode=mode, **mine)
        agrees(layer, SHAPES[0], lambda x, o=theirs: F.interpolate(x, mode=mode, **o))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle(factor: int) -> None:
    for channels, size in product((1, 2), (1, 3)):
        small = (2, channels * factor * factor, size, size + 1)
        large = (2, channels, size * factor, 2 * factor)
        agrees(pixel_shuffle(factor), small, lambda x: F.pixel_shuffle(x, factor))
        agrees(pixel_unshuffle(factor), large, lambda x: F.pixel_unshuffle(x, factor))


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 12])
def test_channel_shuffle(groups: int) -> None:
    for shape in ((2, 12, 2, 3), (1, 12, 2, 1, 3)):
        agrees(channel_shuffle(groups), shape, lambda x: F.channel_shuffle(x, groups))
    over_time: Layer[Any, Any] = channel_shuffle(groups)
    agrees(
        over_time, (2, 4, 12), lambda x: F.channel_shuffle(x.transpose(1, 2), groups).transpose(1, 2)
    )


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("sections", [2, (1, 3), (4,)])
def test_split_and_concatenate(sections: Any, axis: int) -> None:
    x = random.normal(random.key(0), (2, 4, 4, 4), dtype=np.float64)
    apart: Layer[Array, tuple[Array, ...]] = split(sections, axis=axis)
    together: Layer[tuple[Array, ...], Array] = concatenate(axis)
    parts, cache = apart.apply({}, x)
    sizes = [2, 2] if sections == 2 else list(sections)
    theirs = torch.split(torch.tensor(x), sizes, axis)
    for mine, wanted in zip(parts, theirs, strict=True):
        np.testing.assert_array_equal(mine, wanted.numpy())
    whole, joined = together.apply({}, parts)
    np.testing.assert_array_equal(whole, torch.cat(theirs, axis).numpy())
    _, dparts = together.vjp(joined, x)
    for mine, wanted in zip(dparts, theirs, strict=True):
        np.testing.assert_array_equal(mine, wanted.numpy())
    np.testing.assert_array_equal(apart.vjp(cache, dparts)[1], x)
