"""A variational autoencoder of digits, with its own layer that draws and its own divergence."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from funcnn import (
    Key,
    Layer,
    Loss,
    Params,
    adam,
    branch,
    data,
    dense,
    fit,
    graph,
    mean_squared_error,
    named,
    predict,
    random,
    relu,
    serial,
    sigmoid,
    sum_losses,
)


def draw() -> Layer[Any, Any]:
    """A number around the mean that is drawn in training, and the mean itself afterwards."""

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Any]:
        mean, log_variance = x
        noise = 0 * mean if key is None else random.normal(key, mean.shape) * np.exp(log_variance / 2)
        return mean + noise, noise

    return Layer(lambda key, shape: (shape[0], {}), apply, lambda noise, dz: ({}, (dz, dz * noise / 2)))


def divergence() -> Loss:
    """How far the normal distribution of (mean, log_variance) is from that of (0, 0)."""

    def apply(prediction: Any, target: Any) -> tuple[Any, Any]:
        mean, log_variance = prediction
        value = (mean**2 + np.exp(log_variance) - 1 - log_variance).sum() / (2 * len(mean))
        return value, (mean / len(mean), (np.exp(log_variance) - 1) / (2 * len(mean)))

    return Loss(apply, lambda slopes: slopes)


encoder: Layer[Any, Any] = serial(dense(64), relu(), branch(dense(4), dense(4)))
decoder: Layer[Any, Any] = serial(dense(64), relu(), dense(64), sigmoid())
net = graph(named("encoder", encoder), draw(), named("decoder", decoder), output=("decoder", "encoder"))
loss = sum_losses((mean_squared_error(), divergence()), weights=(64.0, 0.2))


def main(short: bool) -> float:
    images = data.digits(8).x.reshape(-1, 64)
    result = fit(net, loss, adam(0.002), data.Dataset(images, (images, images)), key=random.key(0),
                 epochs=1 if short else 40, progress=False)  # fmt: skip
    new = predict(decoder, result.params["decoder"], random.normal(random.key(1), (3, 4)))
    for row in np.hstack(list(new.reshape(3, 8, 8))):
        print("".join(" .:*#"[int(4.99 * pixel)] for pixel in row))
    back, _ = predict(net, result.params, images)
    return float(((back - images) ** 2).mean() / images.var())


if __name__ == "__main__":
    print(f"part of the variance that is lost: {main(short='--short' in sys.argv):.1%}")
