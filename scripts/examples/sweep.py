"""A sweep over learning rates and widths, on two processes."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product

from funcnn import adam, data, dense, fit, random, relu, serial, softmax_cross_entropy

Setting = tuple[float, int]


def train(epochs: int, setting: Setting) -> float:
    """The loss at the end."""
    rate, width = setting
    net = serial(dense(width), relu(), dense(width), relu(), dense(2))
    result = fit(net, softmax_cross_entropy(), adam(rate), data.spirals(random.key(0), 400),
                 key=random.key(1), epochs=epochs, progress=False, workers=1)  # fmt: skip
    return float(result.history["loss"][-1])


def main(short: bool) -> float:
    settings: list[Setting] = list(product([0.001, 0.003, 0.01], [16, 64]))
    with ProcessPoolExecutor(2) as pool:
        losses = list(pool.map(partial(train, 1 if short else 60), settings))
    for (rate, width), loss in zip(settings, losses, strict=True):
        print(f"rate {rate:<6} width {width:<3} loss {loss:.4f}")
    return min(losses)


if __name__ == "__main__":
    print(f"the best loss: {main(short='--short' in sys.argv):.4f}")
