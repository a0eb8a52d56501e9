"""Cases of the normalisations."""

from __future__ import annotations

import numpy as np

from funcnn import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
    serial,
)
from tests.registry import Case

_SINGLE = np.zeros((1, 3), np.float32)

LAYERS = [
    Case(
        batch_norm(),
        (4, 3),
        refused=(
            (_SINGLE[:, :2], "batch_norm: `x` must have 3 channels, got shape (1, 2)"),
            (_SINGLE[0], "batch_norm: `x` must have at least 2 axes, got shape (3,)"),
            (
                _SINGLE.astype(np.float64),
                "batch_norm: `x` must be float32 as the parameters are, got float64: "
                "write x.astype(np.float32)",
            ),
        ),
    ),
    Case(batch_norm(), (2, 4, 3), note="sequences"),
    Case(batch_norm(), (2, 3, 4, 5)),
    Case(batch_norm(), (2, 3, 2, 2, 2)),
    Case(batch_norm(momentum=0.3, epsilon=0.1), (3, 2, 2, 2)),
    Case(batch_norm(momentum=1.0, affine=False), (3, 2, 2, 2)),
    Case(batch_norm(track_running=False), (3, 2, 2, 2)),
    Case(batch_norm(affine=False, track_running=False), (3, 2, 3)),
    Case(serial(batch_norm(), serial(batch_norm())), (4, 3), note="nested"),
    Case(
        layer_norm(),
        (4, 3),
        refused=(
            (
                _SINGLE[:, :2],
                "layer_norm: `x` must have 3 elements along axis 1, got shape (1, 2)",
            ),
        ),
    ),
    Case(layer_norm(epsilon=0.1), (2, 3, 4)),
    Case(layer_norm(affine=False), (2, 3, 4)),
    Case(layer_norm(bias=False), (2, 3, 4)),
    Case(layer_norm((-2, -1)), (2, 3, 4)),
    Case(layer_norm((1, 2, 3)), (2, 3, 2, 2)),
    Case(layer_norm(1), (2, 3, 2, 2)),
    Case(layer_norm((3, 1)), (2, 3, 2, 4)),
    Case(rms_norm(), (4, 3)),
    Case(rms_norm((2, -2), epsilon=0.1), (2, 3, 4)),
    Case(rms_norm(affine=False), (2, 3, 4)),
    Case(
        group_norm(2),
        (3, 4, 2, 3),
        refused=(
            (
                np.zeros((3, 3, 2, 3), np.float32),
                "group_norm: `x` must have a multiple of 2 channels, got shape (3, 3, 2, 3)",
            ),
        ),
    ),
    Case(group_norm(2), (3, 4)),
    Case(group_norm(2, epsilon=0.1), (2, 3, 4), note="sequences"),
    Case(group_norm(1, affine=False), (2, 3, 2, 2)),
    Case(
        instance_norm(),
        (2, 3, 2, 3),
        refused=(
            (
                np.zeros((3, 3, 1, 1), np.float32),
                "instance_norm: `x` must have more than one value per group, got shape (3, 3, 1, 1)",
            ),
        ),
    ),
    Case(instance_norm(affine=True, epsilon=0.1), (2, 3, 2, 2, 2)),
    Case(instance_norm(affine=True), (2, 4, 3), note="sequences"),
    Case(instance_norm(affine=True, bias=False, track_running=True, momentum=0.3), (2, 3, 2, 3)),
    Case(
        instance_norm(track_running=True),
        (3, 4, 2),
        refused=(
            (
                np.zeros((2, 4, 3), np.float32),
                "instance_norm: `x` must have 2 channels, got shape (2, 4, 3)",
            ),
        ),
    ),
    Case(group_norm(2, bias=False), (2, 4, 3, 2)),
    Case(batch_norm(bias=False), (3, 2, 2, 2)),
    Case(local_response_norm(3), (2, 5, 2, 2)),
    Case(local_response_norm(4, alpha=0.5, beta=1.5, k=2.0), (2, 6, 2, 2)),
    Case(local_response_norm(2, alpha=1.0), (3, 4)),
    Case(local_response_norm(5, alpha=1.0, beta=-0.5), (2, 3, 4), note="wider than the channels"),
    Case(local_response_norm(1), (2, 3)),
]
