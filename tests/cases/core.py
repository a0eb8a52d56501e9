"""Cases of the foundation: linear, convolution, pooling, shape, combinators, first losses."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from funcnn import (
    avg_pool,
    conv,
    dense,
    flatten,
    identity,
    initializers as start,
    log_softmax,
    max_pool,
    mean_squared_error,
    named,
    one_hot,
    parallel,
    random,
    relu,
    residual,
    serial,
    softmax,
    softmax_cross_entropy,
)
from funcnn.types import Array, Layer
from tests.registry import Case, InitializerCase, LossCase


def _normal(*shape: int) -> Array:
    return random.normal(random.key(7), shape, dtype=np.float64)


def _zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


# --- layers ---------------------------------------------------------------------------------------

_LINEAR = [
    Case(
        dense(3),
        (4, 5),
        refused=(
            (_zeros(5), "dense: `x` must have 2 axes (N, F), got shape (5,)"),
            (_zeros(4, 6), "dense: `x` must have 5 features, got shape (4, 6)"),
            (
                _zeros(4, 5, dtype=np.float64),
                "dense: `x` must be float32 as the parameters are, got float64: "
                "write x.astype(np.float32)",
            ),
            (
                _zeros(4, 5, dtype=np.uint8),
                "dense: `x` must be float32 or float64, got uint8: write x.astype(np.float32)",
            ),
            ([[0.0] * 5], "dense: `x` must be a NumPy array, got list"),
        ),
    ),
    Case(dense(3, bias=False), (4, 5)),
    Case(dense(1), (2, 1)),
    Case(
        dense(2, weight_init=start.glorot_uniform(), bias_init=start.normal(0.5)),
        (3, 4),
    ),
    Case(dense(2, weight_init=start.orthogonal(), bias_init=start.ones()), (3, 4)),
]

_PADDINGS: tuple[int | tuple[int, int] | str, ...] = (1, (2, 0), "same", "valid")

_CONVOLUTION = [
    Case(
        conv(2, 3),
        (2, 3, 5, 6),
        refused=(
            (
                _zeros(2, 1, 5, 6),
                "conv: `x` must have 3 channels, got shape (2, 1, 5, 6)",
            ),
            (_zeros(3, 5, 6), "conv: `x` must have 4 axes (N, C, H, W), got shape (3, 5, 6)"),
            (
                _zeros(2, 3, 2, 6),
                "conv: `x` must not be smaller than the kernel (3, 3), got shape (2, 3, 2, 6)",
            ),
            (
                _zeros(2, 3, 5, 6, dtype=np.uint8),
                "conv: `x` must be float32 or float64, got uint8: write x.astype(np.float32)",
            ),
        ),
    ),
    *(
        Case(conv(2, kernel, stride=stride, padding=padding), (2, 2, 5, 6))
        for kernel, stride in product((2, 3), (1, 2))
        for padding in _PADDINGS
    ),
    Case(conv(3, 1), (2, 2, 3, 4)),
    Case(conv(2, (2, 3)), (2, 2, 4, 5)),
    Case(conv(2, (1, 4), stride=(2, 1), padding=(0, 2)), (3, 1, 5, 4)),
    Case(conv(2, 4, stride=3, padding="same"), (2, 2, 7, 5)),
    Case(conv(2, 2, stride=3), (2, 1, 6, 7)),
    Case(conv(2, 3, dilation=2), (2, 2, 6, 7)),
    Case(conv(2, (2, 3), dilation=(3, 1), padding="same"), (2, 1, 5, 5)),
    Case(conv(2, 3, dilation=(1, 2), stride=2, padding=2), (2, 2, 6, 6)),
    Case(conv(4, 3, groups=2), (2, 4, 4, 5)),
    Case(conv(6, 2, groups=3, stride=2, padding=1, dilation=2), (2, 3, 5, 6)),
    Case(conv(4, 3, groups=4, padding=1), (2, 4, 3, 3), note="depthwise"),
    Case(conv(2, 3, bias=False), (2, 2, 4, 4)),
    Case(
        conv(2, 2, weight_init=start.lecun_normal(), bias_init=start.constant(0.25)),
        (2, 2, 3, 3),
    ),
    Case(conv(2, 5), (2, 1, 5, 5), note="one place"),
    Case(conv(6, 5), (2, 3, 9, 9), note="as in LeNet"),
]

Sizes = int | tuple[int, int]

_WINDOWS: tuple[tuple[Sizes, Sizes | None, Sizes], ...] = (
    (2, None, 0),
    (3, None, 0),
    (3, 2, 1),
    (2, 1, 0),
    (1, 2, 0),
    ((2, 3), (1, 2), (1, 0)),
    (4, (3, 1), 2),
)

_POOLING = [
    Case(pooled, (2, 2, 5, 6))
    for kernel, stride, padding in _WINDOWS
    for pooled in (
        max_pool(kernel, stride=stride, padding=padding),
        avg_pool(kernel, stride=stride, padding=padding),
    )
]
_POOLING += [
    Case(
        max_pool(2),
        (2, 1, 2, 2),
        refused=(
            (
                _zeros(2, 1, 1, 2),
                "max_pool: `x` must not be smaller than the kernel (2, 2), got shape (2, 1, 1, 2)",
            ),
            (
                _zeros(2, 4),
                "max_pool: `x` must have 4 axes (N, C, H, W), got shape (2, 4)",
            ),
        ),
    ),
    Case(avg_pool(2), (2, 1, 2, 2)),
]

_ELEMENTWISE = [
    Case(
        relu(),
        (4, 3),
        refused=(
            (
                np.zeros((4, 3), int),
                "relu: `x` must be float32 or float64, got int64: write x.astype(np.float32)",
            ),
        ),
    ),
    Case(relu(), (3,)),
    Case(relu(), (2, 3, 4, 5)),
    Case(
        softmax(),
        (3, 4),
        refused=((_zeros(3), "softmax: `axis` must name one of the axes 1..0, got -1"),),
    ),
    Case(softmax(axis=1), (2, 3, 4)),
    Case(softmax(axis=-2), (2, 3, 2, 2)),
    Case(softmax(), (2, 1), stopped=("x",)),
    Case(log_softmax(), (3, 4)),
    Case(log_softmax(axis=1), (2, 3, 4)),
    Case(log_softmax(axis=-2), (2, 3, 2, 2)),
    Case(
        flatten(),
        (2, 3, 4, 2),
        refused=((_zeros(3), "flatten: `x` must have at least 2 axes, got shape (3,)"),),
    ),
    Case(flatten(), (3, 4)),
    Case(identity(), (3, 4)),
    Case(identity(), (2, 3, 2, 2)),
]

# --- combinators ----------------------------------------------------------------------------------

_LENET = serial(
    conv(2, 3), relu(), max_pool(2), conv(3, 2), relu(), max_pool(2), flatten(), dense(4), relu(),
    dense(3),
)  # fmt: skip

_COMBINED = [
    Case(serial(relu()), (3, 2)),
    Case(serial(dense(3)), (3, 2)),
    Case(serial(dense(4), relu(), dense(3), log_softmax()), (3, 5)),
    Case(
        _LENET,
        (2, 1, 9, 9),
        note="LeNet in small",
        refused=(
            (
                _zeros(2, 2, 9, 9),
                "conv1: `x` must have 1 channels, got shape (2, 2, 9, 9)",
            ),
        ),
    ),
    Case(serial(relu(), max_pool(2), relu(), relu(), max_pool(2, stride=1)), (2, 1, 6, 6)),
    Case(
        named("body", serial(dense(3), named("out", dense(2)))),
        (3, 4),
        refused=((_zeros(3, 5), "body/dense1: `x` must have 4 features, got shape (3, 5)"),),
    ),
    Case(named("act", relu()), (3, 4)),
    Case(residual(dense(4)), (3, 4)),
    Case(residual(relu()), (3, 4)),
    Case(residual(conv(2, 3, padding=1), relu(), conv(2, 3, padding="same")), (2, 2, 4, 4)),
    *(
        Case(parallel(dense(3), serial(relu(), dense(3)), merge=merge), (4, 5))
        for merge in ("sum", "mean", "concatenate")
    ),
    Case(parallel(dense(2), identity(), dense(1), merge="concatenate"), (3, 2)),
    Case(parallel(conv(1, 1), max_pool(3, stride=1, padding=1), merge="concatenate"), (2, 2, 4, 4)),
    Case(parallel(identity(), identity(), merge="concatenate", axis=-1), (2, 2, 3)),
    Case(parallel(relu(), identity()), (3, 2)),
    Case(parallel(dense(2)), (3, 2)),
    Case(
        serial(
            named("stem", conv(2, 3, padding=1)),
            residual(serial(relu(), conv(2, 1)), parallel(identity(), relu(), merge="mean")),
            parallel(
                avg_pool(2), serial(conv(1, 2, stride=2), named("act", relu())), merge="concatenate"
            ),
            flatten(),
            dense(2, bias=False),
            softmax(),
        ),
        (2, 1, 4, 4),
        note="nested",
    ),
]

LAYERS = [*_LINEAR, *_CONVOLUTION, *_POOLING, *_ELEMENTWISE, *_COMBINED]

# --- losses ---------------------------------------------------------------------------------------

_CLASSES = np.array([2, 0, 1, 1])
_SOFTMAX: Layer[Array, Array] = softmax()
_SOFT = _SOFTMAX.apply({}, _normal(4, 3))[0]

LOSSES = [
    LossCase(
        softmax_cross_entropy(),
        _normal(4, 3),
        _CLASSES,
        note="labels",
        refused=(
            (
                _zeros(4, 3),
                np.array([0, 1, 2, 3]),
                "softmax_cross_entropy: `target` must lie in 0..2, got 3",
            ),
            (
                _zeros(4, 3),
                np.array([0, -1, 2, 3]),
                "softmax_cross_entropy: `target` must lie in 0..2, got -1",
            ),
            (
                _zeros(4, 3),
                np.array([0, 1]),
                "softmax_cross_entropy: `target` must have the shape (4,), got (2,)",
            ),
        ),
    ),
    LossCase(softmax_cross_entropy(), _normal(4, 3), _CLASSES.astype(np.uint8), note="bytes"),
    LossCase(softmax_cross_entropy(), _normal(4, 3), one_hot(_CLASSES, 3), note="one-hot"),
    LossCase(softmax_cross_entropy(), _normal(4, 3), _SOFT, note="soft targets"),
    LossCase(softmax_cross_entropy(), _normal(4, 3), 2 * _SOFT, note="weighted soft targets"),
    LossCase(softmax_cross_entropy(), 1e4 * _normal(4, 3), _CLASSES, note="large logits"),
    LossCase(
        softmax_cross_entropy(),
        _normal(2, 4, 3),
        np.array([[2, 0, 1, 1], [0, 0, 2, 1]]),
        note="sequences",
    ),
    *(
        LossCase(softmax_cross_entropy(reduction=reduction), _normal(4, 3), target, note=note)
        for reduction in ("sum", "none")
        for target, note in ((_CLASSES, "labels"), (_SOFT, "soft targets"))
    ),
    *(
        LossCase(mean_squared_error(reduction=reduction), prediction, target, note=note)
        for reduction in ("mean", "sum", "none")
        for prediction, target, note in (
            (_normal(4, 3), _SOFT, "vectors"),
            (_normal(4), np.zeros(4), "numbers"),
            (_normal(2, 1, 3, 3), np.ones((2, 1, 3, 3)), "images"),
        )
    ),
]

# --- initializers ---------------------------------------------------------------------------------

_RANDOM = (
    start.he_normal(),
    start.he_uniform(),
    start.glorot_normal(),
    start.glorot_uniform(),
    start.lecun_normal(),
    start.lecun_uniform(),
    start.normal(0.1),
    start.truncated_normal(0.1),
    start.uniform(0.1),
    *(
        start.variance_scaling(2.0, mode, distribution)
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("normal", "uniform", "truncated_normal")
    ),
    start.orthogonal(),
    start.orthogonal(0.5),
)

INITIALIZERS = [
    *(InitializerCase(each, shape) for each in _RANDOM for shape in ((6, 4), (3, 2, 3, 3))),
    *(
        InitializerCase(each, (6,), random=False)
        for each in (start.zeros(), start.ones(), start.constant(0.5))
    ),
    InitializerCase(start.sparse(0.5), (6, 4)),
    InitializerCase(start.eye(), (6, 4), random=False),
    InitializerCase(start.dirac(), (3, 2, 3, 3), random=False),
]
