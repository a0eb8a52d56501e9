"""An image and a vector go in; a class and a number come out, each with its loss."""

from __future__ import annotations

import sys

from funcnn import (
    adam,
    branch,
    conv,
    data,
    dense,
    each,
    fit,
    flatten,
    mean_squared_error,
    merge,
    metrics,
    predict,
    random,
    relu,
    serial,
    softmax_cross_entropy,
    sum_losses,
)

image = serial(conv(8, 3, padding=1), relu(), flatten(), dense(32))
net = serial(each(image, dense(32)), merge("concatenate"), relu(), branch(dense(10), dense(1)))
loss = sum_losses((softmax_cross_entropy(), mean_squared_error()), weights=(1.0, 10.0))


def main(short: bool) -> float:
    digits = data.digits(8)
    left, rows = digits.x[..., :4], digits.x[..., 4:].sum((1, 3))  # rows of what is not seen
    examples = data.Dataset((left, rows), (digits.y, digits.x.mean((2, 3))))
    train, test = data.split(random.key(0), examples, 0.2)
    result = fit(net, loss, adam(0.003), train, key=random.key(1), epochs=1 if short else 20,
                 progress=False)  # fmt: skip
    digit, ink = predict(net, result.params, test.x)
    print(f"mean error of the ink: {metrics.mae(ink, test.y[1]):.4f}")
    return metrics.accuracy(digit, test.y[0])


if __name__ == "__main__":
    print(f"test accuracy {main(short='--short' in sys.argv):.2%}")
