"""Cases of the poolings beyond the plain ones over images."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from funcnn import (
    adaptive_avg_pool,
    adaptive_avg_pool1d,
    adaptive_avg_pool3d,
    adaptive_max_pool,
    adaptive_max_pool1d,
    adaptive_max_pool3d,
    avg_pool,
    avg_pool1d,
    avg_pool3d,
    conv,
    dense,
    global_avg_pool,
    global_max_pool,
    lp_pool,
    lp_pool1d,
    lp_pool3d,
    max_pool,
    max_pool1d,
    max_pool3d,
    max_unpool,
    max_unpool1d,
    max_unpool3d,
    random,
    relu,
    serial,
)
from funcnn.types import Array
from tests.registry import Case


def _zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


_CEILED: tuple[Any, ...] = ((2, None, 0), (3, 2, 1), ((2, 3), (3, 2), (1, 0)), (2, 3, 1))

_IMAGES = [
    *(
        Case(max_pool(kernel, stride=stride, padding=padding, ceil_mode=True), (2, 1, 5, 6))
        for kernel, stride, padding in _CEILED
    ),
    *(
        Case(
            avg_pool(
                kernel, stride=stride, padding=padding, ceil_mode=True, count_include_pad=everything
            ),
            (2, 1, 5, 6),
        )
        for (kernel, stride, padding), everything in product(_CEILED, (True, False))
    ),
    Case(avg_pool(3, stride=1, padding=1, count_include_pad=False), (2, 2, 3, 4)),
    Case(max_pool(2, dilation=2, stride=1), (2, 2, 4, 5)),
    Case(max_pool((1, 3), dilation=(1, 2), stride=2, padding=(0, 2)), (2, 1, 4, 5)),
    *(
        Case(lp_pool(2, norm_type=power, stride=stride, ceil_mode=ceil), (2, 2, 4, 5))
        for power, stride, ceil in ((2.0, None, False), (1, 1, True), (3, 3, True), (1.5, 2, False))
    ),
    Case(
        lp_pool((2, 1)),
        (2, 1, 2, 2),
        refused=(
            (
                _zeros(2, 1, 1, 2),
                "lp_pool: `x` must not be smaller than the kernel (2, 1), got shape (2, 1, 1, 2)",
            ),
        ),
    ),
]

_TIME = [
    Case(
        max_pool1d(2),
        (2, 5, 3),
        refused=(
            (
                _zeros(2, 1, 3),
                "max_pool1d: `x` must not be smaller than the kernel (2,), got shape (2, 1, 3)",
            ),
            (_zeros(2, 3), "max_pool1d: `x` must have 3 axes (N, T, F), got shape (2, 3)"),
            (
                _zeros(2, 5, 3, dtype=np.uint8),
                "max_pool1d: `x` must be float32 or float64, got uint8: write x.astype(np.float32)",
            ),
        ),
    ),
    Case(max_pool1d(3, stride=2, padding=1, dilation=2, ceil_mode=True), (2, 6, 2)),
    Case(max_pool1d(3, stride=2, padding=((2, 0),), return_indices=True), (2, 4, 2)),
    Case(avg_pool1d(2, padding=((0, 1),), dilation=2, ceil_mode=True), (2, 5, 2)),
    Case(avg_pool1d(2), (2, 5, 3)),
    Case(avg_pool1d(3, stride=2, padding=1, count_include_pad=False), (2, 6, 2)),
    Case(avg_pool1d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False), (2, 6, 2)),
    Case(lp_pool1d(2), (2, 5, 3)),
    Case(lp_pool1d(3, norm_type=4, stride=2, ceil_mode=True), (2, 6, 2)),
]

_PLACES = np.array([3, 0, 5, 9, 1, 2, 11, 7])

_WINNERS = [
    Case(max_pool(2, padding="same", stride=(1, 2), return_indices=True), (2, 1, 3, 3)),
    Case(max_pool3d((1, 2, 2), return_indices=True), (2, 1, 2, 3, 4)),
    Case(avg_pool((2, 3), stride=1, dilation=(2, 1), padding="same"), (2, 1, 4, 3)),
    Case(avg_pool3d((1, 2, 2), dilation=(1, 1, 2), padding=(0, (1, 0), 0)), (2, 1, 1, 3, 4)),
    Case(
        max_unpool((1, 3), stride=(1, 3), padding=(0, 1), output_size=(2, 4)),
        ((2, 1, 2, 2), (2, 1, 2, 2)),
        x=(random.normal(random.key(3), (2, 1, 2, 2)), _PLACES.reshape(2, 1, 2, 2) // 2),
        refused=(
            (
                (_zeros(2, 1, 2, 2), np.full((2, 1, 2, 2), 8)),
                "max_unpool: `indices` must lie in 0..7, got 8",
            ),
            (
                (_zeros(2, 1, 2, 2), np.zeros((2, 1, 2, 1), int)),
                "max_unpool: `indices` must have shape (2, 1, 2, 2), got (2, 1, 2, 1)",
            ),
        ),
    ),
    Case(
        max_unpool1d(3, stride=3, padding=1, output_size=6),
        ((2, 2, 2), (2, 2, 2)),
        x=(random.normal(random.key(3), (2, 2, 2)), _PLACES.reshape(2, 2, 2) // 2),
        refused=(
            (
                (_zeros(2, 4, 2), np.zeros((2, 4, 2), int)),
                "max_unpool1d: `output_size` must be less than the stride (3,) away from (10,), "
                "got (6,)",
            ),
        ),
    ),
    Case(
        max_unpool1d(3, stride=3, padding=1),
        ((2, 2, 2), (2, 2, 2)),
        x=(
            random.normal(random.key(3), (2, 2, 2)),
            np.array([[[0, 3], [1, 2]], [[2, 0], [3, 1]]]),
        ),
    ),
    Case(
        max_unpool3d((1, 2, 2), stride=(1, 2, 2), padding=(0, 1, 0), output_size=(1, 3, 4)),
        ((2, 1, 1, 2, 2), (2, 1, 1, 2, 2)),
        x=(random.normal(random.key(3), (2, 1, 1, 2, 2)), _PLACES.reshape(2, 1, 1, 2, 2)),
    ),
]

_VOLUMES = [
    Case(
        max_pool3d(2),
        (2, 2, 2, 3, 4),
        refused=(
            (
                _zeros(2, 2, 3, 4),
                "max_pool3d: `x` must have 5 axes (N, C, D, H, W), got shape (2, 2, 3, 4)",
            ),
        ),
    ),
    Case(
        max_pool3d((1, 2, 3), stride=1, padding=(0, 1, 1), dilation=(2, 1, 1), ceil_mode=True),
        (2, 1, 2, 2, 3),
    ),
    Case(avg_pool3d(2), (2, 2, 2, 3, 4)),
    Case(avg_pool3d(3, stride=2, padding=1, count_include_pad=False), (2, 1, 4, 4, 4)),
    Case(
        avg_pool3d((1, 2, 3), stride=2, padding=(0, 1, 1), ceil_mode=True, count_include_pad=False),
        (2, 1, 2, 2, 3),
    ),
    Case(lp_pool3d(2), (2, 2, 2, 3, 4)),
    Case(lp_pool3d((1, 2, 2), norm_type=3, stride=1, ceil_mode=True), (2, 1, 2, 2, 3)),
]

_GLOBAL = [
    *(
        Case(pool(), shape)
        for pool, shape in product(
            (global_avg_pool, global_max_pool), ((2, 3, 2), (2, 3, 2, 4), (2, 2, 2, 3, 2), (3, 2, 1, 1))
        )
    ),
    Case(
        global_max_pool(),
        (2, 2, 3, 3),
        refused=(
            (_zeros(2, 3), "global_max_pool: `x` must have at least 3 axes, got shape (2, 3)"),
            (
                _zeros(2, 3, 0, 2),
                "global_max_pool: `x` must not be empty beyond the batch, got shape (2, 3, 0, 2)",
            ),
            (
                _zeros(2, 3, 2, 2, dtype=np.int64),
                "global_max_pool: `x` must be float32 or float64, got int64: "
                "write x.astype(np.float32)",
            ),
        ),
    ),
    Case(serial(conv(3, 2), relu(), global_max_pool(), dense(2)), (2, 1, 4, 4)),
    Case(serial(conv(3, 2), global_avg_pool(), dense(2)), (2, 1, 4, 4)),
]

_ADAPTIVE = [
    *(
        Case(pool(size), (2, 2, 5, 6))
        for pool, size in product(
            (adaptive_avg_pool, adaptive_max_pool), (1, 2, (5, 3), (5, 2), (4, 5), (1, 6), (7, 2))
        )
    ),
    *(
        Case(pool(size), (2, 6, 3))
        for pool, size in product((adaptive_avg_pool1d, adaptive_max_pool1d), (1, 2, 4, 7))
    ),
    *(
        Case(pool(size), (2, 2, 3, 4, 2))
        for pool, size in product((adaptive_avg_pool3d, adaptive_max_pool3d), (1, 2, (2, 3, 4)))
    ),
    Case(
        adaptive_avg_pool1d(3),
        (2, 6, 2),
        note="refusals",
        refused=(
            (
                _zeros(2, 6),
                "adaptive_avg_pool1d: `x` must have 3 axes (N, T, F), got shape (2, 6)",
            ),
            (
                _zeros(2, 0, 2),
                "adaptive_avg_pool1d: `x` must not be empty beyond the batch, got shape (2, 0, 2)",
            ),
        ),
    ),
    Case(adaptive_max_pool((2, 3)), (2, 1, 4, 6), note="equal bins"),
    Case(adaptive_avg_pool((2, 3)), (2, 1, 4, 6), note="equal bins"),
    Case(adaptive_avg_pool((4, 3)), (2, 1, 8, 3), note="more bins than taps"),
    Case(
        adaptive_max_pool((4, 3)),
        (2, 1, 8, 3),
        note="more bins than taps",
        refused=(
            (
                _zeros(2, 8, 3),
                "adaptive_max_pool: `x` must have 4 axes (N, C, H, W), got shape (2, 8, 3)",
            ),
        ),
    ),
]

LAYERS = [*_WINNERS, *_IMAGES, *_TIME, *_VOLUMES, *_GLOBAL, *_ADAPTIVE]
