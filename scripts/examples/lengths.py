"""A bidirectional LSTM on sequences of different lengths: which of two letters is there more often?"""

from __future__ import annotations

import sys

import numpy as np

from funcnn import (
    adam,
    data,
    dense,
    embedding,
    fit,
    keep_context,
    lstm,
    masked_mean_pool,
    metrics,
    random,
    serial,
    softmax_cross_entropy,
    with_context,
)

LONGEST = 20
net = serial(
    keep_context(embedding(2, 16), "lengths"),
    with_context(lstm(16, lengths=True, bidirectional=True)),
    masked_mean_pool(),
    dense(2),
)


def main(short: bool) -> float:
    letters = random.randint(random.key(0), (1000, LONGEST), 0, 2)
    lengths = random.randint(random.key(1), (1000,), 5, LONGEST + 1)
    count = np.where(np.arange(LONGEST) < lengths[:, None], letters, 0).sum(1)
    examples = data.Dataset((letters, lengths), (2 * count > lengths).astype(np.int64))
    train, test = data.split(random.key(2), examples, 0.2)
    result = fit(net, softmax_cross_entropy(), adam(0.01), train, key=random.key(3), validation=test,
                 epochs=1 if short else 10, metrics={"accuracy": metrics.accuracy},
                 progress=False)  # fmt: skip
    return float(result.history["validation_accuracy"][-1])


if __name__ == "__main__":
    print(f"test accuracy {main(short='--short' in sys.argv):.2%}")
