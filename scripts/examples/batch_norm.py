"""A convolutional network with batch normalisation, stopped half-way and resumed: the same bits."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from funcnn import (
    adam,
    batch_norm,
    conv,
    data,
    dense,
    fit,
    flatten,
    max_pool,
    metrics,
    random,
    relu,
    serial,
    softmax_cross_entropy,
)

net = serial(conv(16, 3, padding=1), batch_norm(), relu(), max_pool(2), flatten(), dense(10))
train, test = data.split(random.key(0), data.digits(8), 0.2)
training = partial(fit, net, softmax_cross_entropy(), adam(0.003), train, key=random.key(1),
                   validation=test, metrics={"accuracy": metrics.accuracy}, progress=False)  # fmt: skip
OUT = Path("out")


def main(short: bool) -> float:
    OUT.mkdir(exist_ok=True)
    epochs = 2 if short else 12
    training(epochs=epochs // 2, checkpoint=OUT / "run.npz")  # the machine stops here
    result = training(epochs=epochs, resume=OUT / "run.npz")
    return float(result.history["validation_accuracy"][-1])


if __name__ == "__main__":
    print(f"test accuracy {main(short='--short' in sys.argv):.2%}")
