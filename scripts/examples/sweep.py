"""A sweep over learning rates and widths, on two processes."""

from __future__ import annotations

import sys
from typing import Any

from funcnn import adam, data, dense, distributed, fit, random, relu, serial, softmax_cross_entropy


def train(setting: dict[str, Any]) -> float:
    """The loss at the end."""
    net = serial(dense(setting["width"]), relu(), dense(setting["width"]), relu(), dense(2))
    result = fit(net, softmax_cross_entropy(), adam(setting["rate"]), data.spirals(random.key(0), 400),
                 key=random.key(1), epochs=setting["epochs"], progress=False)  # fmt: skip
    return float(result.history["loss"][-1])


def main(short: bool) -> float:
    settings = distributed.grid(rate=[0.001, 0.003, 0.01], width=[16, 64], epochs=[1 if short else 60])
    table = distributed.map(train, settings, processes=2, progress=False)
    print(table)
    return float(min(row.result for row in table))


if __name__ == "__main__":
    print(f"the best loss: {main(short='--short' in sys.argv):.4f}")
