"""Cases of layers whose weight is computed."""

from __future__ import annotations

import numpy as np

from funcnn import conv, conv_transpose, dense, relu, serial, spectral_norm, weight_norm
from tests.registry import Case

LAYERS = [
    Case(
        weight_norm(dense(3)),
        (4, 5),
        refused=((np.zeros((4, 6), np.float32), "dense: `x` must have 5 features, got shape (4, 6)"),),
    ),
    Case(weight_norm(dense(3, bias=False)), (4, 5)),
    Case(weight_norm(dense(3), axis=1), (4, 5)),
    Case(weight_norm(conv(2, 3)), (2, 3, 4, 5)),
    Case(weight_norm(conv_transpose(2, 3), axis=1), (2, 3, 3, 4)),
    Case(spectral_norm(dense(3)), (4, 5)),
    Case(spectral_norm(dense(3, bias=False), iterations=3, epsilon=1e-6), (4, 2)),
    Case(spectral_norm(conv(2, 3)), (2, 3, 4, 5)),
    Case(spectral_norm(conv_transpose(2, 3), axis=1), (2, 3, 3, 4)),
    Case(serial(weight_norm(dense(4)), relu(), spectral_norm(dense(2))), (3, 4), note="several"),
]
