"""Cases of the regularisations."""

from __future__ import annotations

import numpy as np

from funcnn import (
    alpha_dropout,
    drop_path,
    dropout,
    gaussian_noise,
    residual,
    serial,
    spatial_dropout,
    tanh,
)
from tests.registry import Case

LAYERS = [
    Case(dropout(0.5), (4, 3)),
    Case(dropout(0.0), (4, 3)),
    Case(dropout(0.9), (2, 3, 4, 5)),
    Case(
        spatial_dropout(0.5),
        (2, 3, 2, 2),
        refused=(
            (
                np.zeros((2, 3), np.float32),
                "spatial_dropout: `x` must have at least 3 axes, got shape (2, 3)",
            ),
        ),
    ),
    Case(spatial_dropout(0.3), (2, 4, 3), note="sequences"),
    Case(alpha_dropout(0.3), (4, 3)),
    Case(alpha_dropout(0.3, channels=True), (4, 3, 2, 2)),
    Case(drop_path(0.5), (6, 3)),
    Case(drop_path(0.2), (4, 2, 3, 3)),
    Case(drop_path(0.2), (4,)),
    Case(gaussian_noise(0.1), (4, 3)),
    Case(gaussian_noise(0.0), (4, 3)),
    Case(serial(dropout(0.5), dropout(0.5), residual(tanh(), drop_path(0.5))), (5, 4), note="several"),
]
