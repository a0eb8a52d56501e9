"""Cases of the combinators, nested too; those of the foundation are among the core cases."""

from __future__ import annotations

import numpy as np

from funcnn import (
    batch_norm,
    branch,
    concatenate,
    conv,
    dense,
    dense_connect,
    dropout,
    each,
    embedding,
    flatten,
    freeze,
    graph,
    identity,
    inference_mode,
    max_pool,
    merge,
    named,
    parallel,
    relu,
    remat,
    repeat,
    residual,
    serial,
    share,
    split,
    stop_gradient,
    tanh,
    tied,
    time_distributed,
)
from funcnn.types import Array
from tests.registry import Case


def _zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


_BESIDE = [
    Case(
        parallel(dense(3), serial(dense(3), relu()), identity(), merge="product"),
        (4, 3),
        refused=((_zeros(4, 2), "dense1: `x` must have 3 features, got shape (4, 2)"),),
    ),
    Case(parallel(identity(), merge="product"), (3, 2)),
    Case(parallel(identity(), identity(), merge="product"), (3, 2), note="a square"),
    Case(parallel(dense(2), serial(dense(2), dropout(0.5)), batch_norm(), merge="product"), (4, 2)),
    Case(branch(dense(2), identity(), serial(relu(), dense(3, bias=False))), (3, 4)),
    Case(branch(relu()), (3, 4)),
    Case(serial(branch(dense(4), identity()), merge("product")), (3, 4), note="gate"),
    Case(serial(branch(dense(4), identity()), concatenate(), dense(2)), (3, 4)),
    Case(serial(split(2), merge("mean"), dense(2)), (3, 4)),
    Case(
        each(dense(2), serial(relu(), dense(3, bias=False))),
        ((3, 4), (3, 2)),
        refused=(
            (_zeros(3, 4), "each: `x` must be a tuple, got ndarray"),
            ((_zeros(3, 4),), "each: `x` must be a tuple of 2, got one of 1"),
            (
                (_zeros(3, 4), _zeros(3, 3)),
                "serial1/dense1: `x` must have 2 features, got shape (3, 3)",
            ),
        ),
    ),
    Case(each(tanh()), ((3, 4),)),
    Case(
        serial(each(conv(2, 3), dense(4)), each(flatten(), identity()), concatenate(), dense(2)),
        ((3, 2, 4, 4), (3, 5)),
        note="image and numbers",
    ),
    Case(each(batch_norm(), serial(dropout(0.5), dense(2))), ((4, 3), (4, 3))),
    Case(serial(branch(dense(4), identity()), each(relu(), dense(4)), merge("sum")), (3, 4)),
    Case(
        merge(),
        ((3, 2), (3, 2), (3, 2)),
        refused=(
            (_zeros(3, 2), "merge: `x` must be a tuple, got ndarray"),
            ((), "merge: `x` must be a tuple of at least one, got an empty one"),
            (
                (_zeros(3, 2), _zeros(3, 1)),
                "merge: `x` must have one shape, got [(3, 2), (3, 1)]",
            ),
            (
                (_zeros(3, 2), np.zeros((3, 2))),
                "merge: `x` must have one dtype, got float32 and float64",
            ),
            (
                (np.zeros((3, 2), int),),
                "merge: `x` must be float32 or float64, got int64: write x.astype(np.float32)",
            ),
        ),
    ),
    Case(merge("mean"), ((3, 2, 2), (3, 2, 2))),
    Case(merge("product"), ((3, 2),) * 4),
    Case(merge("product"), ((3, 2),)),
    Case(
        merge("concatenate"),
        ((3, 2), (3, 1), (3, 3)),
        refused=(
            (
                (_zeros(3, 2), _zeros(2, 2)),
                "merge: `x` must differ in axis 1 alone, got [(3, 2), (2, 2)]",
            ),
            ((_zeros(3),), "merge: `axis` must name one of the axes 1..0, got 1"),
        ),
    ),
    Case(merge("concatenate", axis=-1), ((2, 3, 2), (2, 3, 1))),
    Case(dense_connect(dense(2), relu(), dense(1, bias=False)), (3, 4)),
    Case(
        dense_connect(
            serial(batch_norm(), relu(), conv(2, 3, padding=1)),
            serial(relu(), conv(1, 3, padding=1), dropout(0.5)),
        ),
        (2, 2, 3, 3),
        refused=(
            (
                _zeros(2, 3, 3, 3),
                "serial1/batch_norm1: `x` must have 2 channels, got shape (2, 3, 3, 3)",
            ),
        ),
    ),
    Case(dense_connect(time_distributed(dense(2)), axis=-1), (2, 3, 2)),
]

_BEHIND = [
    Case(
        residual(conv(4, 3, stride=2, padding=1), relu(), shortcut=conv(4, 1, stride=2)),
        (2, 2, 5, 5),
        refused=((_zeros(2, 3, 5, 5), "conv1: `x` must have 2 channels, got shape (2, 3, 5, 5)"),),
    ),
    Case(residual(dense(3), shortcut=serial(dense(3, bias=False), batch_norm())), (4, 2)),
    Case(residual(relu(), shortcut=max_pool(1)), (2, 2, 3, 3)),
    Case(residual(relu(), shortcut=dense(3)), (2, 3)),
    Case(residual(dense(3), shortcut=identity()), (2, 3)),
    Case(repeat(dense(4), times=3), (3, 4)),
    Case(
        repeat(named("block", serial(dense(3), relu())), times=2),
        (3, 4),
        refused=((_zeros(3, 5), "block1/dense1: `x` must have 4 features, got shape (3, 5)"),),
    ),
    Case(repeat(residual(serial(batch_norm(), dropout(0.5))), times=1), (3, 4)),
    Case(repeat(relu(), times=2), (3, 4)),
    Case(share(dense(4), times=3), (3, 4)),
    Case(share(serial(dense(4), tanh(), dropout(0.5)), times=2), (3, 4)),
    Case(share(residual(conv(2, 3, padding=1), batch_norm()), times=2), (2, 2, 3, 3)),
    Case(share(identity(), times=2), (3, 4)),
]

_SHARED = tied(
    serial(
        named("first", serial(dense(3), tanh())), dense(3), named("second", serial(dense(3), relu()))
    ),
    ties={"second": "first"},
)

_STEERED = [
    Case(
        remat(dense(3)),
        (3, 4),
        refused=((_zeros(3, 5), "dense: `x` must have 4 features, got shape (3, 5)"),),
    ),
    Case(remat(serial(conv(2, 3), batch_norm(), relu(), dropout(0.5))), (2, 2, 4, 4)),
    Case(remat(merge("product")), ((3, 2), (3, 2))),
    Case(remat(embedding(5, 3)), (2, 3), x=np.array([[0, 4, 2], [2, 2, 1]])),
    Case(stop_gradient(), (3, 4), stopped=("x",)),
    Case(
        serial(dense(3), stop_gradient(), dense(2)),
        (3, 4),
        stopped=("x", "params/dense1"),
    ),
    Case(freeze(dense(3)), (3, 4), stopped=("params",)),
    Case(
        freeze(serial(conv(2, 3), batch_norm(), relu(), dropout(0.5))),
        (2, 2, 4, 4),
        stopped=("params",),
    ),
    Case(serial(freeze(dense(3)), relu(), dense(2)), (3, 4), stopped=("params/dense1",)),
    Case(
        serial(inference_mode(serial(conv(2, 3), batch_norm(), dropout(0.5))), batch_norm()),
        (2, 2, 4, 4),
    ),
    Case(
        _SHARED,
        (2, 3),
        refused=((_zeros(2, 4), "first/dense1: `x` must have 3 features, got shape (2, 4)"),),
    ),
    Case(
        tied(
            serial(embedding(5, 3), tanh(), time_distributed(dense(5, bias=False))),
            ties={"time_distributed1/weight": "embedding1/weight"},
        ),
        (2, 3),
        x=np.array([[0, 4, 2], [2, 2, 1]]),
    ),
]

_NESTED = [
    Case(
        serial(
            remat(named("stem", conv(2, 3, padding=1))),
            repeat(
                residual(
                    dense_connect(remat(serial(batch_norm(), relu(), conv(1, 3, padding=1)))),
                    share(conv(3, 1), times=2),
                    conv(2, 1),
                ),
                times=2,
            ),
            freeze(parallel(identity(), conv(2, 1), merge="product")),
        ),
        (2, 1, 4, 4),
        stopped=("params/parallel1",),
        note="nested",
    ),
]

_WIRED = [
    Case(
        graph(
            conv(2, 3, padding=1),
            serial(batch_norm(), relu(), dropout(0.5)),
            conv(2, 1),
            merge("sum"),
            relu(),
            wires={"conv2": "x", "merge1": ("serial1", "conv2", "conv1")},
        ),
        (3, 2, 3, 3),
        refused=((_zeros(3, 1, 3, 3), "conv1: `x` must have 2 channels, got shape (3, 1, 3, 3)"),),
    ),
    Case(
        graph(
            split((1, 2, 3)),
            dense(3),
            merge("product"),
            named("last", dense(2, bias=False)),
            wires={"split1": "x/0", "dense1": "split1/1", "merge1": ("dense1", "split1/2", "x/1")},
            output=("last", "dense1"),
        ),
        ((4, 6), (4, 3)),
        refused=(
            ((_zeros(4, 6),), "graph: `x` must have the part 'x/1', got ('0',)"),
            (_zeros(4, 6), "graph: `x` must be a tuple or a dict, got ndarray"),
        ),
        note="parts that nobody takes",
    ),
]

LAYERS = [*_BESIDE, *_BEHIND, *_STEERED, *_NESTED, *_WIRED]
