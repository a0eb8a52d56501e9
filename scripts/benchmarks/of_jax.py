"""JAX: stax, compiled by jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.example_libraries import stax

from benchmarks.cases import Case, arrays


def variants() -> list[str]:
    return ["stax, jit"]


def version() -> str:
    return str(jax.__version__)


def build(case: Case, variant: str) -> Callable[[], object]:
    if case.work == "model":
        raise NotImplementedError("written for funcnn and PyTorch alone")
    layers: list[Any] = []
    for kind, *options in case.layers:
        if kind == "conv":
            pads = [(options[2], options[2])] * 2
            dims = ("NCHW", "OIHW", "NCHW")
            layers.append(stax.GeneralConv(dims, options[0], (options[1],) * 2, padding=pads))
        elif kind == "dense":
            layers.append(stax.Dense(options[0]))
        elif kind in ("max_pool", "avg_pool"):
            pool = stax.MaxPool if kind == "max_pool" else stax.AvgPool
            window = (options[0],) * 2
            layers.append(pool(window, strides=window, spec="NCHW"))
        else:
            layers.append({"relu": stax.Relu, "flatten": stax.Flatten}[kind])
    init, apply = stax.serial(*layers)
    _, params = init(jax.random.PRNGKey(0), case.shape)
    images, targets = arrays(case)
    x, labels = jnp.asarray(images), jnp.asarray(targets)
    if case.work == "inference":
        compiled = jax.jit(apply)
        return lambda: jax.block_until_ready(compiled(params, x))
    if case.work == "gradients":
        dout = apply(params, x)

        def pull(params: Any, x: Any) -> Any:
            _, back = jax.vjp(apply, params, x)
            return back(dout)

        both_ways = jax.jit(pull)
        return lambda: jax.block_until_ready(both_ways(params, x))

    def loss(params: Any) -> Any:
        log_p = jax.nn.log_softmax(apply(params, x))
        return -jnp.mean(jnp.take_along_axis(log_p, labels[:, None], 1))

    def update(params: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params)
        return value, jax.tree_util.tree_map(lambda p, g: p - 0.01 * g, params, grads)

    held, compiled_update = [params], jax.jit(update)

    def step() -> object:
        value, held[0] = compiled_update(held[0])
        return jax.block_until_ready(value)

    return step
