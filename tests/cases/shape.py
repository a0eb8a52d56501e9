"""Cases of the layers that move numbers."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from funcnn import (
    channel_shuffle,
    concatenate,
    conv,
    crop,
    dense,
    flatten,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
    relu,
    reshape,
    serial,
    split,
    transpose,
    upsample,
)
from funcnn.types import Array
from tests.registry import Case


def _zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


_LAID_OUT = [
    Case(
        reshape(2, 3, -1),
        (2, 12),
        refused=(
            (_zeros(2, 8), "reshape: `x` must have features that fill (2, 3, -1), got shape (2, 8)"),
            (
                _zeros(2, 12, dtype=np.uint8),
                "reshape: `x` must be float32 or float64, got uint8: write x.astype(np.float32)",
            ),
        ),
    ),
    Case(reshape(4, 3), (2, 3, 2, 2)),
    Case(reshape(-1), (2, 3, 2)),
    Case(reshape(1), (3,)),
    Case(serial(conv(4, 2), relu(), reshape(2, 2, 2, -1), flatten(), dense(2)), (2, 1, 3, 3)),
    Case(
        transpose(2, 1),
        (2, 3, 4),
        refused=((_zeros(2, 3), "transpose: `x` must have 3 axes, got shape (2, 3)"),),
    ),
    Case(transpose(3, 1, 2), (2, 3, 4, 5)),
    Case(transpose(1), (2, 3)),
    Case(transpose(2, 4, 1, 3), (2, 1, 2, 3, 4)),
]

_MODES = ("constant", "reflect", "replicate", "circular")
_WIDTHS: tuple[tuple[Any, Any], ...] = (
    (1, (2, 3, 2)),
    (2, (2, 2, 3, 4)),
    ((0, 2), (2, 1, 2, 3)),
    (((2, 0), (1, 2)), (2, 2, 3, 3)),
    (((0, 1), 1, (0, 0)), (2, 1, 2, 3, 2)),
)
_SCALES: tuple[Any, ...] = (1, 2, (3, 1))

_BORDERED = [
    *(Case(pad(widths, mode=mode), shape) for mode, (widths, shape) in product(_MODES, _WIDTHS)),
    Case(pad(1, value=-2.5), (2, 1, 2, 2)),
    Case(pad(((3, 0),)), (2, 2, 3)),
    Case(pad(3, mode="circular"), (2, 1, 3, 3), note="all of it"),
    Case(pad(3, mode="replicate"), (2, 1, 1, 2), note="more than there is"),
    Case(
        pad((2, 1), mode="reflect"),
        (2, 1, 3, 2),
        refused=(
            (
                _zeros(2, 1, 2, 2),
                "pad: `x` must not be smaller than its border ((2, 2), (1, 1)), got shape (2, 1, 2, 2)",
            ),
            (
                _zeros(2, 3, 3),
                "pad: `x` must have 4 axes for the widths ((2, 2), (1, 1)), got shape (2, 3, 3)",
            ),
        ),
    ),
    Case(
        pad(1),
        (2, 1, 1),
        refused=((_zeros(2, 1), "pad: `x` must have at least 3 axes, got shape (2, 1)"),),
    ),
    Case(crop(0), (2, 2, 2)),
    Case(
        crop(1),
        (2, 2, 3, 4),
        refused=(
            (
                _zeros(2, 2, 2, 4),
                "crop: `x` must be larger than the border ((1, 1), (1, 1)), got shape (2, 2, 2, 4)",
            ),
        ),
    ),
    Case(crop((1, (0, 2))), (2, 1, 3, 4)),
    Case(crop(((2, 0),)), (2, 4, 3)),
    Case(crop(((0, 1), 0, 1)), (2, 1, 2, 2, 3)),
]

_PIXELS = [
    *(
        Case(upsample(scale, mode=mode, align_corners=align), (2, 2, 3, 2))
        for scale, (mode, align) in product(
            _SCALES, (("nearest", False), ("bilinear", False), ("bilinear", True))
        )
    ),
    Case(upsample((1, 2), mode="bilinear", align_corners=True), (2, 1, 1, 1), note="one pixel"),
    Case(upsample(size=(5, 2), mode="bicubic"), (2, 1, 3, 4)),
    Case(upsample(1.5, mode="linear"), (2, 3, 2)),
    Case(upsample(size=(3, 2, 1), mode="trilinear", align_corners=True), (2, 1, 2, 2, 3)),
    Case(upsample((2.5, 0.6), mode="nearest-exact"), (2, 1, 2, 5)),
    Case(
        upsample(2, mode="bilinear"),
        (2, 1, 1, 2),
        refused=(
            (_zeros(2, 1, 2), "upsample: `x` must have 4 axes (N, C, H, W), got shape (2, 1, 2)"),
        ),
    ),
    Case(
        pixel_shuffle(2),
        (2, 8, 2, 3),
        refused=(
            (
                _zeros(2, 6, 2, 3),
                "pixel_shuffle: `x` must have a multiple of 4 channels, got shape (2, 6, 2, 3)",
            ),
        ),
    ),
    Case(pixel_shuffle(1), (2, 2, 2, 2)),
    Case(channel_shuffle(2), (2, 6, 2, 1)),
    Case(
        channel_shuffle(3),
        (2, 2, 6),
        refused=(
            (
                _zeros(2, 2, 5),
                "channel_shuffle: `x` must have a multiple of 3 channels, got shape (2, 2, 5)",
            ),
        ),
    ),
    Case(
        pixel_unshuffle(2),
        (2, 2, 2, 4),
        refused=(
            (
                _zeros(2, 2, 2, 3),
                "pixel_unshuffle: `x` must have multiples of 2 as height and width, "
                "got shape (2, 2, 2, 3)",
            ),
        ),
    ),
    Case(serial(conv(4, 2), pixel_shuffle(2), upsample(2), pad(1), crop((2, 0))), (2, 1, 3, 3)),
]

_SEVERAL = [
    Case(
        concatenate(),
        ((2, 3, 2, 2), (2, 1, 2, 2), (2, 2, 2, 2)),
        refused=(
            (
                (_zeros(2, 3), _zeros(2, 3, 1)),
                "concatenate: `x` must differ in axis 1 alone, got shapes ((2, 3), (2, 3, 1))",
            ),
            (
                (_zeros(2, 3), _zeros(3, 3)),
                "concatenate: `x` must differ in axis 1 alone, got shapes ((2, 3), (3, 3))",
            ),
            (_zeros(2, 3), "concatenate: `x` must be a tuple of arrays, got ndarray"),
            (
                (_zeros(2, 3), _zeros(2, 3, dtype=np.float64)),
                "concatenate: `x` must have one dtype, got float32 and float64",
            ),
            ((_zeros(2), _zeros(2)), "concatenate: `axis` must name one of the axes 1..0, got 1"),
        ),
    ),
    Case(concatenate(axis=-1), ((2, 3, 1), (2, 3, 4))),
    Case(concatenate(axis=2), ((2, 3, 1), (2, 3, 1))),
    Case(concatenate(), ((2, 3),)),
    Case(
        split(2),
        (2, 4, 3),
        refused=(
            (_zeros(2, 3, 3), "split: `x` must have a multiple of 2 in axis 1, got shape (2, 3, 3)"),
            (_zeros(2), "split: `axis` must name one of the axes 1..0, got 1"),
        ),
    ),
    Case(
        split((1, 3), axis=-1),
        (2, 2, 4),
        refused=((_zeros(2, 2, 3), "split: `x` must have 4 in axis -1, got shape (2, 2, 3)"),),
    ),
    Case(split((2, 1, 1)), (2, 4)),
    Case(serial(split(2), concatenate(axis=2)), (2, 4, 3)),
]

LAYERS = [*_LAID_OUT, *_BORDERED, *_PIXELS, *_SEVERAL]
