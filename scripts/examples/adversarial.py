"""Two networks against each other: one forges points on a circle, one tells them from true ones."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from funcnn import (
    Layer,
    adam,
    binary_cross_entropy_with_logits,
    data,
    dense,
    freeze,
    leaky_relu,
    named,
    predict,
    random,
    serial,
    train_state,
    train_step,
)

SIZE = 128
forger: Layer[Any, Any] = serial(dense(64), leaky_relu(0.2), dense(64), leaky_relu(0.2), dense(2))
judge: Layer[Any, Any] = serial(dense(64), leaky_relu(0.2), dense(64), leaky_relu(0.2), dense(1))
both = serial(named("forger", forger), named("judge", freeze(judge)))
loss, optimizer = binary_cross_entropy_with_logits(), adam(0.001, beta1=0.5)


def main(short: bool) -> float:
    forging = train_state(both, optimizer, random.key(0), (SIZE, 4))
    judging = train_state(judge, optimizer, random.key(1), (SIZE, 2))
    forge, learn = train_step(both, loss, optimizer), train_step(judge, loss, optimizer)
    true, false = np.ones((SIZE, 1), np.float32), np.zeros((SIZE, 1), np.float32)
    for key in random.split(random.key(2), 20 if short else 3000):
        angle = random.uniform(random.fold_in(key, "angle"), (SIZE, 1), 0, 2 * np.pi)
        real = np.hstack([np.cos(angle), np.sin(angle)])
        noise = random.normal(random.fold_in(key, "noise"), (SIZE, 4))
        forged = predict(forger, forging.params["forger"], noise)
        judging, _ = learn(judging, data.Dataset(np.vstack([real, forged]), np.vstack([true, false])))
        forging = forging._replace(params={**forging.params, "judge": judging.params})
        forging, _ = forge(forging, data.Dataset(noise, true))
    points = predict(forger, forging.params["forger"], random.normal(random.key(3), (500, 4)))
    return float(np.abs(np.linalg.norm(points, axis=1) - 1).mean())


if __name__ == "__main__":
    print(f"mean distance from the circle: {main(short='--short' in sys.argv):.3f}")
