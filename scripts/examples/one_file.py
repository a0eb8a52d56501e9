"""A network and its parameters in one file; loaded again, it answers one request after the other."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from funcnn import (
    adam,
    conv,
    data,
    dense,
    fit,
    flatten,
    load,
    max_pool,
    predict,
    random,
    relu,
    save,
    serial,
    softmax_cross_entropy,
)

net = serial(conv(16, 3, padding=1), relu(), max_pool(2), flatten(), dense(10))
OUT = Path("out")


def main(short: bool) -> float:
    OUT.mkdir(exist_ok=True)
    digits = data.digits(8)
    result = fit(net, softmax_cross_entropy(), adam(0.003), digits, key=random.key(0),
                 epochs=1 if short else 5, progress=False)  # fmt: skip
    save(OUT / "digits.npz", net, result.params)
    served, params = load(OUT / "digits.npz")
    seconds = []
    for image in digits.x[:100]:
        begin = perf_counter()
        predict(served, params, image[None])
        seconds.append(perf_counter() - begin)
    print(f"{1e6 * np.median(seconds):.0f} microseconds for one image")
    return float((predict(served, params, digits.x).argmax(1) == digits.y).mean())


if __name__ == "__main__":
    print(f"accuracy of what was loaded {main(short='--short' in sys.argv):.2%}")
