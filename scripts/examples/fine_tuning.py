"""Fine-tuning: a network learns five digits; its body, kept still, then serves for five others."""

from __future__ import annotations

import sys

from funcnn import (
    adam,
    batch_norm,
    conv,
    data,
    dense,
    fit,
    flatten,
    freeze,
    inference_mode,
    max_pool,
    metrics,
    named,
    random,
    relu,
    serial,
    softmax_cross_entropy,
)

body = serial(conv(16, 3, padding=1), batch_norm(), relu(), max_pool(2), flatten())
first = serial(named("body", body), named("head", dense(5)))
second = serial(named("body", freeze(inference_mode(body))), named("head", dense(5)))


def main(short: bool) -> float:
    digits, loss = data.digits(8), softmax_cross_entropy()
    low, high = digits[digits.y < 5], digits[digits.y >= 5]
    known = fit(first, loss, adam(0.003), low, key=random.key(0), epochs=1 if short else 5,
                progress=False)  # fmt: skip
    train, test = data.split(random.key(1), data.Dataset(high.x, high.y - 5), 0.8)
    result = fit(second, loss, adam(0.01), train, key=random.key(2), epochs=2 if short else 30,
                 params=known.params, validation=test, metrics={"accuracy": metrics.accuracy},
                 progress=False)  # fmt: skip
    return float(result.history["validation_accuracy"][-1])


if __name__ == "__main__":
    print(f"accuracy on the other digits {main(short='--short' in sys.argv):.2%}")
