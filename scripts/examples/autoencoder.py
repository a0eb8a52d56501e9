"""An autoencoder of digits: 64 pixels through 6 numbers and back, with pictures of what is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from funcnn import (
    adam,
    data,
    dense,
    fit,
    mean_squared_error,
    named,
    plots,
    predict,
    random,
    relu,
    serial,
    sigmoid,
)
from funcnn.types import Array, Layer, Vector

encoder: Layer[Vector, Vector] = serial(dense(64), relu(), dense(6))
decoder: Layer[Vector, Vector] = serial(dense(64), relu(), dense(64), sigmoid())
autoencoder = serial(named("encoder", encoder), named("decoder", decoder))

OUT = Path("out")


def draw(pictures: list[tuple[str, Array]], file: Path) -> None:
    """One row for each kind of picture."""
    figure = plots.new_figure(8, 0.9 * len(pictures) + 0.4)
    for row, (name, images) in enumerate(pictures):
        for column, image in enumerate(images):
            axes = figure.add_subplot(len(pictures), len(images), row * len(images) + column + 1)
            axes.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[], ylabel="" if column else name)
    figure.savefig(file)


def main(short: bool) -> float:
    OUT.mkdir(exist_ok=True)
    images = data.digits(8).x.reshape(-1, 64)
    train, test = data.split(random.key(0), data.Dataset(images, images), 0.2)
    result = fit(autoencoder, mean_squared_error(), adam(0.002), train, key=random.key(1),
                 epochs=2 if short else 60, validation=test, progress=True)  # fmt: skip
    back = predict(autoencoder, result.params, test.x[:10])
    ends = predict(encoder, result.params["encoder"], test.x[:2])  # from one digit to another
    between = ends[0] + np.linspace(0, 1, 10, dtype=np.float32)[:, None] * (ends[1] - ends[0])
    walk = predict(decoder, result.params["decoder"], between)
    draw([("digits", test.x[:10]), ("6 numbers", back), ("between", walk)], OUT / "autoencoder.png")
    return float(result.history["validation_loss"][-1] / test.x.var())


if __name__ == "__main__":
    print(f"part of the variance that is lost: {main(short='--short' in sys.argv):.1%}")
