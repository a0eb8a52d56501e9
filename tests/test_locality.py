"""What an output does not see changes no bit of it, where kernels have ways for large inputs."""

from __future__ import annotations

import itertools
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from funcnn import (
    adaptive_avg_pool,
    adaptive_max_pool,
    attention,
    avg_pool,
    batch_norm,
    conv,
    conv1d,
    conv3d,
    conv_transpose,
    dense,
    depthwise_conv,
    group_norm,
    gru,
    instance_norm,
    layer_norm,
    local_response_norm,
    log_softmax,
    lp_pool,
    max_pool,
    numerics,
    random,
    rms_norm,
    rnn,
    tree,
    upsample,
)
from funcnn.testing import Subject
from funcnn.testing._locality import locality, neighbours
from funcnn.types import Array, Layer, Shape
from tests import registry
from tests.registry import Case

LARGE: list[tuple[Layer[Any, Any], Shape]] = [
    (conv1d(16, 3, padding="causal"), (64, 100, 16)),
    (conv1d(16, 3, padding="causal", dilation=4), (8, 40, 16)),
    (conv1d(8, 4, stride=2, groups=2), (16, 40, 8)),
    (conv(16, 3, padding=1), (8, 16, 20, 20)),
    (conv(16, 5), (4, 16, 16, 18)),
    (conv(6, 5), (2, 3, 12, 12)),  # one product of long rows
    (conv(6, 5), (32, 3, 12, 12)),
    (conv(32, 3, padding="same", dilation=2), (16, 16, 12, 12)),
    (conv(32, 3, stride=2, padding=1), (16, 16, 16, 16)),
    (conv(32, 3, padding=1, groups=4), (16, 16, 12, 12)),
    (conv(64, 1), (16, 32, 8, 8)),
    (depthwise_conv(3, padding=1, multiplier=2), (16, 16, 12, 12)),
    (depthwise_conv(3, padding=1, stride=2), (16, 16, 12, 12)),
    (conv_transpose(16, 4, stride=2, padding=1), (8, 16, 8, 8)),
    (conv3d(16, 3, padding=1), (4, 16, 6, 6, 6)),
    (max_pool(2), (32, 8, 24, 24)),
    (max_pool(3, stride=2, padding=1), (32, 2, 20, 20)),
    (avg_pool(3, stride=2, padding=1), (32, 8, 24, 24)),
    (lp_pool(2, norm_type=3), (32, 4, 13, 13)),
    (adaptive_avg_pool(7), (16, 8, 20, 20)),
    (adaptive_max_pool(7), (16, 2, 18, 18)),
    (upsample(2, mode="bilinear"), (16, 8, 10, 10)),
    (layer_norm(), (64, 300)),
    (layer_norm((1, 2, 3)), (16, 8, 12, 12)),
    (rms_norm(), (16, 20, 64)),
    (group_norm(4), (16, 8, 12, 12)),
    (instance_norm(), (16, 8, 12, 12)),
    (batch_norm(), (16, 8, 12, 12)),
    (local_response_norm(3, alpha=1.0), (16, 8, 12, 12)),
    (dense(64), (200, 100)),
    (rnn(16), (32, 12, 16)),
    (gru(16), (32, 12, 16)),
]
# whose portable arithmetic works on whole arrays
_ROOMS = (["convolution"], ["pooling"], ["normalization"])


@pytest.mark.parametrize(("layer", "shape"), [pytest.param(*e, id=f"{e[0]} {e[1]}") for e in LARGE])
def test_large_inputs(layer: Layer[Any, Any], shape: Shape) -> None:
    locality(Subject(layer, shape))


def _of_rooms(*rooms: list[str]) -> list[Any]:
    """The layers of some rooms."""
    return [
        pytest.param(case, id=case.id)
        for case in registry.layers()
        if case.layer.spec.build.__module__.split(".")[2:3] in rooms
    ]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", _of_rooms(*_ROOMS))
def test_portable_mode(case: Case) -> None:
    with numerics.portable():
        locality(registry.subject(case))


@pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")
@pytest.mark.parametrize("case", _of_rooms(["normalization"]))
def test_norms_beside_nan(case: Case) -> None:
    with numerics.compiled("require"):
        neighbours(registry.subject(case))


# --- by name --------------------------------------------------------------------------------------


@pytest.mark.parametrize("far", [0.0, 1e4, 1e8, np.inf, np.nan])
@pytest.mark.parametrize("mode", ["fast", "portable"])
def test_causal_means_causal(mode: numerics.Mode, far: float) -> None:
    layer = conv1d(16, 3, padding="causal")
    x = random.normal(random.key(0), (64, 100, 16))
    params = layer.init(random.key(1), x.shape)[1]
    later = x.copy()
    later[:, 61:] = far
    with numerics.use(mode), np.errstate(all="ignore"):
        out, other = (layer.apply(params, each)[0] for each in (x, later))
    np.testing.assert_array_equal(_bits(out[:, :61]), _bits(other[:, :61]))


@pytest.mark.parametrize("far", [0.0, 1e6, 1e8, np.inf, np.nan])
@pytest.mark.parametrize("mode", ["fast", "portable"])
def test_a_pixel_reaches_its_neighbours_alone(mode: numerics.Mode, far: float) -> None:
    layer = conv(16, 3, padding=1)
    x = random.normal(random.key(0), (8, 16, 20, 20))
    params = layer.init(random.key(1), x.shape)[1]
    bright = x.copy()
    bright[3, 5, 10, 11] = far
    with numerics.use(mode), np.errstate(all="ignore"):
        (out, cache), (other, _) = (layer.apply(params, each) for each in (x, bright))
        near = np.zeros(out.shape, np.bool_)
        near[3, :, 9:12, 10:13] = True
        np.testing.assert_array_equal(_bits(out)[~near], _bits(other)[~near])
        dx, dother = (layer.vjp(cache, each)[1] for each in (x, bright))
        np.testing.assert_array_equal(_bits(dx)[~near], _bits(dother)[~near])


def _bits(x: Array) -> Array:
    return np.ascontiguousarray(x).view(np.uint32)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (conv(3, 3), (2, 2, 6, 6)),
        (conv(4, (2, 3)), (1, 2, 5, 7)),
        (conv(3, 3, padding=1), (2, 2, 6, 6)),
        (conv(2, 3, dilation=2), (2, 2, 8, 8)),
        (conv(8, 3, stride=2), (4, 3, 9, 9)),
        (conv(4, 3, groups=2), (2, 4, 6, 6)),
        (conv1d(3, 3), (2, 9, 2)),
    ],
    ids=repr,
)
def test_a_tap_that_never_sees_a_pixel_keeps_its_gradient(net: Any, shape: tuple[int, ...]) -> None:
    _, params = net.init(random.key(0), shape)
    x = random.normal(random.key(1), shape)
    dout = random.normal(random.key(2), net.apply(params, x)[0].shape)

    def dweight(x: Any, dtype: Any = np.float32) -> Any:
        cache = net.apply(tree.cast(params, dtype), x.astype(dtype))[1]
        return net.vjp(cache, dout.astype(dtype))[0]["weight"]

    unseen = 0
    for place in itertools.islice(np.ndindex(*shape), 0, None, 7):
        moved = x.copy()
        moved[place] += 1
        sees = dweight(x, np.float64) != dweight(moved, np.float64)
        for value in (1e8, np.inf, np.nan):
            moved[place] = value
            changed = dweight(moved).view(np.uint32) != dweight(x).view(np.uint32)
            assert not (changed & ~sees).any(), f"{value} at {place}"
        unseen += int((~sees).sum())
    assert unseen


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("line", [[1.0, 1.0], [np.inf, np.inf], [np.nan, np.inf]])
@pytest.mark.parametrize("other", [[np.nan, 1.0], [-np.inf, -np.inf], [np.inf, np.inf], [2.0, 2.0]])
def test_log_softmax_of_ties_knows_nothing_of_other_lines(
    line: list[float], other: list[float], portable: bool
) -> None:
    layer, x = log_softmax(), np.array([line, other], np.float32)
    with numerics.portable() if portable else numerics.fast():
        beside, alone = layer.apply({}, x)[0][:1], layer.apply({}, x[:1])[0]
    np.testing.assert_array_equal(beside, alone)


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("gap", ["none", "behind", "between", "backwards"])
def test_hidden_keys_leave_no_trace_however_they_lie(gap: str, steps: int) -> None:
    q, k, v = (
        random.normal(random.key(i), shape)
        for i, shape in enumerate([(3, steps, 40), (3, 65, 40), (3, 65, 1)])
    )
    layer: Layer[Any, Any] = attention(masked=True)
    seen = np.arange(65) < np.array([[5], [40], [65]])

    def laid(x: Array) -> Array:
        if gap == "behind":
            return np.concatenate([x, x], 2)[..., : x.shape[2]]
        if gap == "between":
            return np.repeat(x, 2, 2)[..., ::2]
        return x[:, ::-1].copy()[:, ::-1] if gap == "backwards" else x

    def both_ways(hidden: float) -> list[Any]:
        pair = (laid(np.where(seen[..., None], x, np.float32(hidden))) for x in (k, v))
        out, cache = layer.apply({}, (laid(q), *pair, seen))
        return [out, *layer.vjp(cache, laid(np.ones_like(out)))[1][:3]]

    with numerics.compiled("off"):
        for one, other in zip(both_ways(1.0), both_ways(np.nan), strict=True):
            np.testing.assert_array_equal(one, other)
