"""A language model, character by character, of the manual that Python ships with; it then writes."""

from __future__ import annotations

import sys
from pydoc_data.topics import topics

import numpy as np

from funcnn import (
    adam,
    data,
    dense,
    embedding,
    fit,
    gru,
    predict,
    random,
    serial,
    softmax,
    softmax_cross_entropy,
    time_distributed,
)
from funcnn.metrics import perplexity
from funcnn.types import Key, Params

text = " ".join("\n".join(topics[name] for name in sorted(topics)).split())
letters = sorted(set(text))
model = serial(embedding(len(letters), 48), gru(160), time_distributed(dense(len(letters))))
STEPS = 64  # characters that are read at a time


def windows(key: Key, count: int) -> data.Dataset:
    """Pieces of the text, and the same pieces one character later."""
    codes = np.searchsorted(np.array(letters), np.array(list(text)))
    starts = random.randint(key, (count, 1), 0, len(text) - STEPS)
    return data.Dataset(codes[starts + np.arange(STEPS)], codes[starts + 1 + np.arange(STEPS)])


def write(params: Params, key: Key, beginning: str, count: int) -> str:
    """Go on with a text, each character drawn by its probability."""
    for i in range(count):
        codes = np.array([[letters.index(letter) for letter in beginning[-STEPS:]]])
        logits = predict(model, params, codes)[:, -1].astype(np.float64)
        chances = softmax().apply({}, logits)[0][0]
        beginning += letters[int(random.choice(random.fold_in(key, i), len(letters), weights=chances))]
    return beginning


def main(short: bool) -> float:
    train, test = windows(random.key(0), 64 if short else 6000), windows(random.key(1), 64)
    result = fit(model, softmax_cross_entropy(), adam(0.003), train, key=random.key(2), progress=True,
                 epochs=1 if short else 4, validation=test, metrics={"perplexity": perplexity})
    print(write(result.params, random.key(3), "The class ", 20 if short else 300))
    return float(result.history["validation_perplexity"][-1])


if __name__ == "__main__":
    main(short="--short" in sys.argv)
