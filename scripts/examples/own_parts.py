"""A layer and a loss of one's own: a learned bend, and the loss that makes a network give quantiles."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from funcnn import Key, Layer, Loss, Params, Shape, adam, data, dense, fit, predict, random, serial
from funcnn.types import Array, Vector


def bend() -> Layer[Vector, Vector]:
    """Pass positive numbers on; multiply negative ones by a slope that is learned."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return shape, {"slope": np.full(shape[1], 0.1, np.float32)}

    def apply(params: Params, x: Vector, *, key: Key | None = None) -> tuple[Vector, Any]:
        return np.where(x > 0, x, params["slope"] * x), (x, params["slope"])

    def vjp(cache: Any, dout: Vector) -> tuple[Params, Vector]:
        x, slope = cache
        return {"slope": (dout * np.minimum(x, 0)).sum(0)}, np.where(x > 0, dout, slope * dout)

    return Layer(init, apply, vjp)


def quantile(q: float) -> Loss:
    """Of the targets, the part `q` is to lie below the prediction."""

    def apply(prediction: Array, target: Array) -> tuple[Any, Any]:
        d = target - prediction
        return np.maximum(q * d, (q - 1) * d).mean(), d

    return Loss(apply, lambda d: np.where(d > 0, -q, 1 - q).astype(d.dtype) / d.size)


net = serial(dense(32), bend(), dense(32), bend(), dense(1))


def main(short: bool) -> float:
    x = random.uniform(random.key(0), (600, 1), 0, 6)
    y = np.sin(x) + random.normal(random.key(1), x.shape) * x / 12
    result = fit(net, quantile(0.9), adam(0.003), data.Dataset(x, y), key=random.key(2),
                 epochs=1 if short else 100, progress=False)  # fmt: skip
    return float((y < predict(net, result.params, x)).mean())


if __name__ == "__main__":
    print(f"below the line for 90 %: {main(short='--short' in sys.argv):.1%}")
