"""What a convolution makes of a digit, and which places speak for its class (Grad-CAM)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from funcnn import (
    adam,
    conv,
    data,
    dense,
    fit,
    flatten,
    one_hot,
    plots,
    predict,
    random,
    relu,
    serial,
    softmax_cross_entropy,
    tree,
)

net = serial(conv(8, 3, padding=1), relu(), conv(8, 3, padding=1), relu(), flatten(), dense(10))
body, head = net[:4], net[4:]
OUT = Path("out")


def main(short: bool) -> float:
    OUT.mkdir(exist_ok=True)
    digits = data.digits(8)
    params = fit(net, softmax_cross_entropy(), adam(0.003), digits, key=random.key(0),
                 epochs=1 if short else 10, progress=False).params  # fmt: skip
    maps = predict(body, tree.select(params, body), digits.x[:1])
    scores, cache = head.apply(tree.select(params, head), maps)
    _, slopes = head.vjp(cache, one_hot(digits.y[:1], 10))
    cam = np.maximum((slopes.mean((2, 3), keepdims=True) * maps).sum(1), 0)
    figure = plots.new_figure(10, 1.2)
    for column, picture in enumerate([digits.x[0, 0], *maps[0], cam[0]]):
        axes = figure.add_subplot(1, 10, column + 1)
        axes.imshow(picture, cmap="gray_r")
        axes.set_axis_off()
    figure.savefig(OUT / "grad_cam.png")
    return float(scores.argmax() == digits.y[0])


if __name__ == "__main__":
    print(f"right: {main(short='--short' in sys.argv):.0f}; pictures: {OUT / 'grad_cam.png'}")
