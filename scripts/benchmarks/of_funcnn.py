"""funcnn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funcnn
from benchmarks.cases import Case, arrays
from funcnn import numerics

NAME = "funcnn"


def variants() -> list[str]:
    return ["fast"]


def version() -> str:
    return funcnn.__version__


def network(case: Case) -> funcnn.Layer[Any, Any]:
    made: list[funcnn.Layer[Any, Any]] = []
    for kind, *options in case.layers:
        if kind == "conv":
            made.append(funcnn.conv(options[0], options[1], padding=options[2]))
        else:
            made.append(getattr(funcnn, kind)(*options))
    net: funcnn.Layer[Any, Any] = getattr(funcnn, "serial")(*made)  # noqa: B009 - any length
    return net


def build(case: Case, variant: str) -> Callable[[], object]:
    net = network(case)
    x, labels = arrays(case)
    _, params = net.init(funcnn.random.key(0), case.shape)
    if case.work == "inference":
        return lambda: net.apply(params, x)
    if case.work == "gradients":
        out, _ = net.apply(params, x)

        def both_ways() -> object:
            _, cache = net.apply(params, x)
            return net.vjp(cache, out)

        return both_ways
    gradients = funcnn.value_and_grad(net, funcnn.softmax_cross_entropy())
    held = [params]

    def step() -> object:
        with numerics.use("portable" if variant == "portable" else "fast"):
            loss, grads = gradients(held[0], x, labels)
            held[0] = funcnn.sgd_update(held[0], grads, lr=0.01)
        return loss

    return step
