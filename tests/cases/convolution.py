"""Cases of the convolutions beyond the plain one over images."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from funcnn import (
    conv,
    conv1d,
    conv3d,
    conv_transpose,
    conv_transpose1d,
    conv_transpose3d,
    depthwise_conv,
    initializers,
    separable_conv,
)
from funcnn.types import Array
from tests.registry import Case


def _zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


_OTHER: dict[str, Any] = {
    "weight_init": initializers.lecun_normal(),
    "bias_init": initializers.constant(0.25),
}
_PADDINGS: tuple[int | str, ...] = (0, 2, "same", "valid", "causal")

_TIME = [
    Case(
        conv1d(2, 3),
        (2, 5, 3),
        refused=(
            (_zeros(2, 5, 1), "conv1d: `x` must have 3 features, got shape (2, 5, 1)"),
            (_zeros(2, 3), "conv1d: `x` must have 3 axes (N, T, F), got shape (2, 3)"),
            (
                _zeros(2, 2, 3),
                "conv1d: `x` must not be smaller than the kernel (3,), got shape (2, 2, 3)",
            ),
            (
                _zeros(2, 5, 3, dtype=np.int16),
                "conv1d: `x` must be float32 or float64, got int16: write x.astype(np.float32)",
            ),
        ),
    ),
    *(
        Case(conv1d(2, kernel, stride=stride, padding=padding), (2, 6, 2))
        for kernel, stride, padding in product((1, 2, 3), (1, 2), _PADDINGS)
    ),
    Case(conv1d(2, 3, dilation=2, padding="causal"), (2, 4, 1)),
    Case(conv1d(4, 2, groups=2, bias=False), (3, 3, 4)),
    Case(conv1d(3, 2, groups=3, padding=1), (2, 3, 3), note="depthwise"),
    Case(conv1d(2, 2, **_OTHER), (2, 3, 2)),
    Case(conv1d(2, 3, padding=((2, 1),), padding_mode="circular"), (2, 3, 2)),
    Case(
        conv_transpose1d(2, 3),
        (2, 4, 3),
        refused=(
            (_zeros(2, 4, 2), "conv_transpose1d: `x` must have 3 features, got shape (2, 4, 2)"),
            (_zeros(2, 3), "conv_transpose1d: `x` must have 3 axes (N, T, F), got shape (2, 3)"),
        ),
    ),
    Case(conv_transpose1d(2, 2, stride=2), (2, 3, 2)),
    Case(conv_transpose1d(2, 3, stride=3, padding=1, output_padding=2), (2, 3, 2)),
    Case(conv_transpose1d(4, 2, groups=2, dilation=2, bias=False), (2, 3, 2)),
    Case(conv_transpose1d(2, 2, **_OTHER), (2, 3, 2)),
]

_VOLUMES = [
    Case(
        conv3d(2, 2),
        (2, 2, 3, 3, 4),
        refused=(
            (
                _zeros(2, 2, 3, 3),
                "conv3d: `x` must have 5 axes (N, C, D, H, W), got shape (2, 2, 3, 3)",
            ),
            (
                _zeros(2, 1, 3, 3, 4),
                "conv3d: `x` must have 2 channels, got shape (2, 1, 3, 3, 4)",
            ),
        ),
    ),
    Case(conv3d(2, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1)), (2, 1, 3, 3, 4)),
    Case(conv3d(2, 2, dilation=(2, 1, 1), groups=2, padding="same", bias=False), (2, 2, 3, 3, 3)),
    Case(conv3d(2, 2, **_OTHER), (2, 2, 2, 2, 2)),
    Case(conv3d(1, 2, padding=((0, 1), 0, 1), padding_mode="reflect"), (2, 1, 2, 3, 2)),
    Case(
        conv_transpose3d(4, (2, 1, 2), stride=(1, 2, 1), padding=(0, 0, 1), groups=2, **_OTHER),
        (2, 2, 2, 3, 2),
    ),
    Case(
        conv_transpose3d(2, 2, dilation=(1, 3, 1), output_padding=(0, 2, 0), bias=False),
        (2, 2, 2, 2, 2),
        refused=(
            (
                _zeros(2, 3, 2, 2, 2),
                "conv_transpose3d: `x` must have 2 channels, got shape (2, 3, 2, 2, 2)",
            ),
        ),
    ),
]

_TRANSPOSED = [
    Case(
        conv_transpose(2, 3),
        (2, 3, 3, 4),
        refused=(
            (
                _zeros(2, 2, 3, 4),
                "conv_transpose: `x` must have 3 channels, got shape (2, 2, 3, 4)",
            ),
            (
                _zeros(3, 3, 4),
                "conv_transpose: `x` must have 4 axes (N, C, H, W), got shape (3, 3, 4)",
            ),
        ),
    ),
    *(
        Case(conv_transpose(2, kernel, stride=2, padding=padding, output_padding=extra), (2, 2, 3, 4))
        for kernel, padding, extra in product((1, 3, 4), (0, 1), (0, 1))
    ),
    Case(
        conv_transpose(1, 2, padding=1),
        (2, 1, 2, 2),
        refused=(
            (
                _zeros(2, 1, 1, 2),
                "conv_transpose: `x` must reach beyond the padding (1, 1), got shape (2, 1, 1, 2)",
            ),
        ),
    ),
    Case(conv_transpose(4, (2, 3), stride=(3, 1), groups=2, output_padding=(2, 0)), (2, 2, 2, 3)),
    Case(conv_transpose(2, 2, dilation=(1, 2), bias=False), (2, 2, 3, 3)),
    Case(conv_transpose(2, 1, stride=3), (2, 2, 2, 2), note="gaps"),
    Case(conv_transpose(2, 2, **_OTHER), (2, 2, 2, 2)),
    Case(conv_transpose(2, 2, dilation=(3, 1), padding=(1, 0), output_padding=(2, 0)), (2, 2, 3, 2)),
]

_DEPTHWISE = [
    Case(
        depthwise_conv(2, multiplier=2),
        (2, 3, 3, 4),
        refused=(
            (
                _zeros(2, 6, 3, 4),
                "depthwise_conv: `x` must have 3 channels, got shape (2, 6, 3, 4)",
            ),
        ),
    ),
    Case(depthwise_conv((3, 2), stride=2, padding=(1, 0)), (2, 2, 4, 5)),
    Case(depthwise_conv(3, dilation=2, padding="same", bias=False), (2, 2, 4, 5)),
    Case(depthwise_conv(2, **_OTHER), (2, 2, 2, 2)),
    Case(depthwise_conv(2, padding=((1, 0), (0, 2)), padding_mode="replicate"), (2, 2, 2, 3)),
    Case(
        separable_conv(3, 2),
        (2, 2, 3, 4),
        refused=(
            (
                _zeros(2, 3, 3, 4),
                "separable_conv: `x` must have 2 channels, got shape (2, 3, 3, 4)",
            ),
        ),
    ),
    Case(separable_conv(2, 3, multiplier=2, stride=2, padding="same", bias=False), (2, 2, 4, 5)),
    Case(separable_conv(2, 2, dilation=2, padding=1), (2, 1, 3, 3)),
    Case(separable_conv(2, 2, **_OTHER), (2, 2, 2, 2)),
    Case(separable_conv(2, 2, padding=1, padding_mode="reflect"), (2, 1, 2, 3)),
]

_GROUPED = [
    Case(conv(4, 2, groups=2, padding="same", dilation=2), (2, 4, 3, 3)),
    Case(
        conv(2, 3, padding="same", stride=2, padding_mode="circular"),
        (2, 2, 4, 3),
    ),
    Case(
        conv(2, 3, padding=1, padding_mode="reflect"),
        (2, 2, 2, 3),
        refused=(
            (
                _zeros(2, 2, 1, 3),
                "conv: `x` must not be smaller than its border ((1, 1), (1, 1)), "
                "got shape (2, 2, 1, 3)",
            ),
        ),
    ),
]

LAYERS = [*_TIME, *_VOLUMES, *_TRANSPOSED, *_DEPTHWISE, *_GROUPED]
