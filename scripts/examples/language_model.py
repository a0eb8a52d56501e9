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
    generate,
    gru,
    random,
    serial,
    softmax_cross_entropy,
    time_distributed,
)
from funcnn.metrics import perplexity
from funcnn.types import Key

text = " ".join("\n".join(topics[name] for name in sorted(topics)).split())
letters = data.character_tokenizer(text)
codes = letters.encode(text)
model = serial(embedding(len(letters), 48), gru(160), time_distributed(dense(len(letters))))
STEPS = 64  # characters that are read at a time


def windows(key: Key, count: int) -> data.Dataset:
    """Pieces of the text, and the same pieces one character later."""
    starts = random.randint(key, (count, 1), 0, len(codes) - STEPS)
    return data.Dataset(codes[starts + np.arange(STEPS)], codes[starts + 1 + np.arange(STEPS)])


def main(short: bool) -> float:
    train, test = windows(random.key(0), 64 if short else 6000), windows(random.key(1), 64)
    result = fit(model, softmax_cross_entropy(), adam(0.003), train, key=random.key(2), progress=True,
                 epochs=1 if short else 4, validation=test, metrics={"perplexity": perplexity})
    count = 20 if short else 300
    written = generate(model, result.params, letters.encode("The class "), random.key(3), count=count)
    print(letters.decode(written))
    return float(result.history["validation_perplexity"][-1])


if __name__ == "__main__":
    main(short="--short" in sys.argv)
