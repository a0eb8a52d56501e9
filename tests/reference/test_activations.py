"""Activations against PyTorch's, at random places, at every kink, and far out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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
    log_softmax,
    maxout,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softmin,
    softplus,
    softsign,
    swiglu,
    tanh,
    tanh_shrink,
    threshold,
)
from funcnn.types import Array, Layer
from tests.reference.agreement import agrees, short, torch

F: Any = torch.nn.functional

_KINKS = [-6, -3, -2, -1.5, -1, -0.5, -0.25, -0.0, 0.0, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 6]
_FAR = [-1e4, -800, -100, -30, -19, 19, 30, 100, 800, 1e4]
_PLACES: Array = np.array(_KINKS + _FAR)[None]

_ELEMENTWISE: list[tuple[Layer[Array, Array], Any]] = [
    (relu(), F.relu),
    (relu6(), F.relu6),
    (hard_tanh(), F.hardtanh),
    (hard_tanh(-0.25, 1.5), lambda x: F.hardtanh(x, -0.25, 1.5)),
    (threshold(0.1, -2.0), lambda x: F.threshold(x, 0.1, -2.0)),
    (threshold(-1.0, 3.0), lambda x: F.threshold(x, -1.0, 3.0)),
    (leaky_relu(), F.leaky_relu),
    (leaky_relu(0.3), lambda x: F.leaky_relu(x, 0.3)),
    (leaky_relu(-0.3), lambda x: F.leaky_relu(x, -0.3)),
    (elu(), F.elu),
    (elu(0.5), lambda x: F.elu(x, 0.5)),
    (elu(2.0), lambda x: F.elu(x, 2.0)),
    (celu(), F.celu),
    (celu(0.5), lambda x: F.celu(x, 0.5)),
    (celu(3.0), lambda x: F.celu(x, 3.0)),
    (selu(), F.selu),
    (gelu(), F.gelu),
    (gelu("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    (silu(), F.silu),
    (mish(), F.mish),
    # the threshold beyond which PyTorch's is the identity, moved to where nothing can be seen
    (softplus(), lambda x: F.softplus(x, threshold=600)),
    (softplus(0.5), lambda x: F.softplus(x, 0.5, threshold=600)),
    (softplus(3.0), lambda x: F.softplus(x, 3.0, threshold=600)),
    (sigmoid(), torch.sigmoid),
    (log_sigmoid(), F.logsigmoid),
    # the slope of F.hardsigmoid is 1 / 6 in float32, even in float64
    (hard_sigmoid(), lambda x: F.relu6(x + 3) / 6),
    (hard_swish(), F.hardswish),
    (tanh(), torch.tanh),
    (softsign(), F.softsign),
    (soft_shrink(), F.softshrink),
    (soft_shrink(0.1), lambda x: F.softshrink(x, 0.1)),
    (hard_shrink(), F.hardshrink),
    (hard_shrink(0.25), lambda x: F.hardshrink(x, 0.25)),
    (tanh_shrink(), F.tanhshrink),
]


@pytest.mark.parametrize(("layer", "reference"), _ELEMENTWISE, ids=short)
def test_elementwise(layer: Layer[Array, Array], reference: Any) -> None:
    for shape in ((5,), (4, 50), (2, 3, 4, 5)):
        agrees(layer, shape, reference)
    agrees(layer, _PLACES.shape, reference, x=_PLACES)


def test_prelu() -> None:
    for shape in ((4, 5), (2, 3, 4, 5), (2, 3, 2, 2, 2)):
        agrees(prelu(), shape, F.prelu)
        agrees(prelu(per_channel=True), shape, F.prelu)
    agrees(prelu(), (2, 3, 4), F.prelu)
    agrees(prelu(), _PLACES.shape, F.prelu, x=_PLACES)


def test_prelu_of_sequences() -> None:
    def reference(x: Any, slope: Any) -> Any:
        return F.prelu(x.transpose(1, 2), slope).transpose(1, 2)

    agrees(prelu(per_channel=True), (2, 3, 4), reference)


@pytest.mark.parametrize(
    ("layer", "reference"),
    [(softmax, F.softmax), (log_softmax, F.log_softmax), (softmin, F.softmin)],
)
def test_softmaxes(layer: Any, reference: Any) -> None:
    for shape, axis in (((4, 5), -1), ((2, 3, 4), 1), ((2, 3, 4), -1), ((2, 3, 4, 5), -2)):
        agrees(layer(axis=axis), shape, lambda x, axis=axis: reference(x, axis))
    agrees(layer(), _PLACES.shape, lambda x: reference(x, 1), x=_PLACES)


def _swiglu(x: Any, axis: int) -> Any:
    gate, value = x.chunk(2, axis)
    return F.silu(gate) * value


@pytest.mark.parametrize(("layer", "reference"), [(glu, F.glu), (swiglu, _swiglu)])
def test_gated(layer: Any, reference: Any) -> None:
    for shape, axis in (((4, 6), -1), ((2, 4, 3), 1), ((2, 3, 4), -1), ((2, 4, 3, 5), -3)):
        agrees(layer(axis=axis), shape, lambda x, axis=axis: reference(x, axis))
    far = np.concatenate([_PLACES, _PLACES[:, ::-1]], 1)
    agrees(layer(), far.shape, lambda x: reference(x, 1), x=far)


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_maxout(pieces: int) -> None:
    for shape, axis in (((4, 6), -1), ((2, 6, 3), 1), ((2, 6, 3, 5), -3)):

        def reference(x: Any, place: int = axis % len(shape)) -> Any:
            return x.unflatten(place, (-1, pieces)).max(place + 1).values

        agrees(maxout(pieces, axis=axis), shape, reference)
