"""A transformer reads the manual that Python ships with, letter by letter, and then writes."""

from __future__ import annotations

import sys
from pydoc_data.topics import topics

import numpy as np

from funcnn import adamw, data, fit, generate, models, random, softmax_cross_entropy

STEPS = 32  # letters that are read at a time
text = " ".join("".join(topics[name] for name in ("assignment", "class", "for", "function")).split())
letters = data.character_tokenizer(text)
codes = letters.encode(text)
net = models.transformer_lm(len(letters), STEPS, features=48, heads=4, depth=2)


def main(short: bool) -> float:
    starts = random.randint(random.key(0), (64 if short else 1600, 1), 0, len(codes) - STEPS)
    windows = codes[starts + np.arange(STEPS + 1)]
    train = data.Dataset(windows[:, :-1], windows[:, 1:])
    result = fit(net, softmax_cross_entropy(), adamw(0.003), train, key=random.key(1),
                 epochs=1 if short else 10, progress=False)  # fmt: skip
    written = generate(net, result.params, letters.encode("The class "), random.key(2), 0.5,
                       count=20 if short else 300, window=STEPS)  # fmt: skip
    print(letters.decode(written))
    return float(result.history["loss"][-1])


if __name__ == "__main__":
    print(f"loss {main(short='--short' in sys.argv):.3f}")
