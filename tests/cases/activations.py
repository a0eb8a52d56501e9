"""Cases of the activations, which `core` has begun."""

from __future__ import annotations

import numpy as np

from funcnn import (
    celu,
    elu,
    gelu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    maxout,
    mish,
    prelu,
    relu6,
    rrelu,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmin,
    softplus,
    softsign,
    swiglu,
    tanh,
    tanh_shrink,
    threshold,
)
from funcnn.types import Array, Layer
from tests.registry import Case

_PLAIN: tuple[Layer[Array, Array], ...] = (
    celu(),
    elu(),
    gelu(),
    hard_shrink(),
    hard_sigmoid(),
    hard_swish(),
    hard_tanh(),
    leaky_relu(),
    log_sigmoid(),
    mish(),
    prelu(),
    relu6(),
    rrelu(),
    selu(),
    sigmoid(),
    silu(),
    soft_shrink(),
    softplus(),
    softsign(),
    tanh(),
    tanh_shrink(),
    threshold(0.1, -2.0),
)

_OPTIONS: tuple[Layer[Array, Array], ...] = (
    celu(0.5),
    elu(2.0),
    elu(-0.5),
    gelu("tanh"),
    hard_shrink(0.0),
    hard_tanh(-0.25, 1.5),
    leaky_relu(-0.3),
    rrelu(0.2, 0.6),
    prelu(initial_slope=-0.5),
    prelu(per_channel=True),
    soft_shrink(0.1),
    softplus(3.0),
)

LAYERS = [
    *(Case(layer, (4, 5)) for layer in _PLAIN),
    *(Case(layer, (2, 3, 2, 2)) for layer in _OPTIONS),
    Case(silu(), (3,)),
    Case(prelu(), (3,)),
    Case(
        prelu(per_channel=True),
        (3, 4),
        refused=(
            (
                np.zeros(4, np.float32),
                "prelu: `x` must have at least 2 axes, got shape (4,)",
            ),
            (
                np.zeros((3, 1), np.float32),
                "prelu: `x` must have 4 channels, got shape (3, 1)",
            ),
        ),
    ),
    Case(prelu(per_channel=True), (2, 3, 4), note="sequences"),
    Case(softmin(), (3, 4)),
    Case(softmin(axis=1), (2, 3, 4)),
    Case(
        glu(),
        (3, 4),
        refused=(
            (
                np.zeros((3, 5), np.float32),
                "glu: `x` must have a multiple of 2 along axis -1, got shape (3, 5)",
            ),
        ),
    ),
    Case(glu(axis=1), (2, 4, 2, 3)),
    Case(swiglu(), (3, 4)),
    Case(swiglu(axis=-2), (2, 4, 3)),
    Case(maxout(1), (3, 4)),
    Case(maxout(2), (3, 4)),
    Case(maxout(3, axis=1), (2, 6, 2, 2)),
]
