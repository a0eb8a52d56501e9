"""Short trainings whose final bits, in portable mode, are the same on every machine."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from funcnn import (
    Layer,
    Optimizer,
    adam,
    apply_updates,
    batch_norm,
    conv,
    dense,
    dropout,
    embedding,
    flatten,
    gru,
    layer_norm,
    max_pool,
    multi_head_attention,
    optimizers,
    random,
    relu,
    residual,
    serial,
    softmax_cross_entropy,
    tanh,
    time_distributed,
    tree,
    value_and_grad,
)

WORKERS = int(os.environ.get("PORTABLE_RUN_WORKERS", "0")) or None
ORDER = os.environ.get("PORTABLE_RUN_ORDER", "C")


def ordered(x: Any) -> Any:
    """The same numbers in the memory order that the environment asks for."""
    if ORDER == "F":
        return np.asfortranarray(x)
    if ORDER == "batch-last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    return x


def train(net: Layer[Any, Any], optimizer: Optimizer, x: Any, y: Any, steps: int) -> Any:
    """Parameters and losses after some steps; then a pass outside of training, in whole batches.

    Training itself uses one BLAS thread for each shard: it is in this pass that BLAS may use more.
    """
    key = random.key(7)
    _, params = net.init(random.fold_in(key, "init"), x.shape)
    step = value_and_grad(net, softmax_cross_entropy(), statistics=True, workers=WORKERS)
    state, losses = optimizer.init(params), []
    for i in range(steps):
        loss, grads, statistics = step(params, ordered(x), y, random.fold_in(key, i))
        updates, state = optimizer.update(grads, state, params)
        params = tree.replace(apply_updates(params, updates), statistics)
        losses.append(float(loss))
    out, cache = net.apply(params, ordered(x))
    _, slopes = net.vjp(cache, out)
    return {"params": params, "losses": losses, "out": out, "slopes": slopes}


def lenet() -> Any:
    net = serial(
        conv(6, 5), relu(), max_pool(2), conv(16, 5), relu(), max_pool(2),
        flatten(), dense(120), relu(), dense(10),
    )  # fmt: skip
    x = random.normal(random.key(1), (128, 3, 28, 28))
    y = random.randint(random.key(2), (128,), 0, 10)
    return train(net, optimizers.momentum(0.01), x, y, 5)


def recurrent() -> Any:
    net = serial(embedding(11, 8), gru(12), time_distributed(dense(11)))
    x = random.randint(random.key(3), (20, 9), 0, 11)
    return train(net, adam(0.01), x, (x * 3 + 1) % 11, 8)


def transformer() -> Any:
    block = serial(
        residual(layer_norm(), multi_head_attention(2, causal=True)),
        residual(layer_norm(), time_distributed(serial(dense(32), tanh(), dense(16)))),
    )
    net = serial(embedding(11, 16), block, layer_norm(), time_distributed(dense(11)))
    x = random.randint(random.key(4), (18, 10), 0, 11)
    return train(net, adam(0.01), x, np.roll(x, -1, 1), 8)


def mlp() -> Any:
    net = serial(
        dense(128), batch_norm(), relu(), dropout(0.3), dense(32), batch_norm(), tanh(), dense(5)
    )
    x = random.normal(random.key(5), (96, 600))  # large enough for two BLAS threads to show
    return train(net, adam(0.01), x, random.randint(random.key(6), (96,), 0, 5), 8)


RUNS = {"lenet": lenet, "recurrent": recurrent, "transformer": transformer, "mlp": mlp}


def everything() -> Any:
    """All four, as one tree."""
    return {name: run() for name, run in RUNS.items()}
