"""Training: the gradient of a loss through a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcnn.types import Key, Layer, Loss, Params, X, Y

__all__ = ["value_and_grad"]


def value_and_grad(
    net: Layer[X, Y], loss: Loss
) -> Callable[..., tuple[Any, Params]]:
    def step(params: Params, x: X, y: Any, key: Key | None = None) -> tuple[Any, Params]:
        prediction, cache = net.apply(params, x, key=key)
        value, loss_cache = loss.apply(prediction, y)
        dprediction = loss.vjp(loss_cache)
        if net.params_vjp is None:
            return value, net.vjp(cache, dprediction)[0]
        return value, net.params_vjp(cache, dprediction)

    return step
