"""LeNet on handwritten digits: trained on shifted images, looked at in one HTML file."""

from __future__ import annotations

import sys
from pathlib import Path

from funcnn import (
    adam,
    conv,
    data,
    dense,
    dropout,
    fit,
    flatten,
    max_pool,
    metrics,
    plots,
    predict,
    random,
    relu,
    schedules,
    serial,
    softmax_cross_entropy,
)

lenet = serial(conv(6, 5), relu(), max_pool(2), conv(16, 5), relu(), max_pool(2),
               flatten(), dense(120), relu(), dropout(0.2), dense(10))  # fmt: skip

OUT = Path("out")


def main(short: bool) -> float:
    OUT.mkdir(exist_ok=True)
    key = random.key(0)
    train, test = data.split(random.fold_in(key, "split"), data.digits(), 0.2)
    epochs, loss = (2 if short else 25), softmax_cross_entropy()
    optimizer = adam(schedules.cosine(0.002, epochs * data.Batches(train, 32).steps))
    result = fit(lenet, loss, optimizer, train, key=key, epochs=epochs, validation=test, progress=True,
                 metrics={"accuracy": metrics.accuracy}, augment=data.random_shift(2))  # fmt: skip
    logits = predict(lenet, result.params, test.x)
    plots.html_report(
        OUT / "digits.html", lenet, result.params, result.history, title="LeNet on digits",
        matrix=metrics.confusion_matrix(logits, test.y),
        figures={
            "Filters of the first layer": plots.filters(result.params),
            "What the layers make of one digit": plots.activations(lenet, result.params, test.x),
            "Gradients": plots.gradient_flow(lenet, result.params, loss, test.x, test.y),
        },
        notes={"data": f"{len(train)} digits to train, {len(test)} to test", "optimizer": optimizer},
    )  # fmt: skip
    accuracy = metrics.accuracy(logits, test.y)
    print(f"test accuracy {accuracy:.2%}; report: {OUT / 'digits.html'}")
    return accuracy


if __name__ == "__main__":
    main(short="--short" in sys.argv)
