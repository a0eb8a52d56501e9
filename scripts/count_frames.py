"""Count the Python frames that a training step of LeNet enters in files of funcnn.

    python scripts/count_frames.py                  # totals, and the functions entered most often

At batch 1 arithmetic takes a small part of a step: what is left is Python, and frames measure it
without a clock. A step is the loss, the gradients and the update.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from train_lenet import lenet

import funcnn
from funcnn import data, optimizers, random, softmax_cross_entropy, train_step, value_and_grad
from funcnn.training import train_state

ROOT = str(Path(funcnn.__file__).parent)


def steps(batch: int) -> dict[str, Callable[[], object]]:
    """Steps of this batch size, by what takes them."""
    x, labels = np.ones((batch, 3, 28, 28), np.float32), np.arange(batch) % 10
    _, params = lenet.init(random.key(0), x.shape)
    loss, examples = softmax_cross_entropy(), data.Dataset(x, labels)
    gradients = value_and_grad(lenet, loss)

    def by_hand(optimizer: optimizers.Optimizer) -> Callable[[], object]:
        state = optimizer.init(params)

        def step() -> object:
            _, grads = gradients(params, x, labels)
            updates, new = optimizer.update(grads, state, params)
            return optimizers.apply_updates(params, updates), new

        return step

    def with_optimizer(optimizer: optimizers.Optimizer) -> Callable[[], object]:
        step = train_step(lenet, loss, optimizer)
        state = train_state(lenet, optimizer, random.key(0), x.shape)
        return lambda: step(state, examples)

    return {
        "sgd_update": lambda: optimizers.sgd_update(params, gradients(params, x, labels)[1], 0.1),
        "sgd": by_hand(optimizers.sgd(0.1)),
        "adam": by_hand(optimizers.adam(0.001)),
        "train_step with sgd": with_optimizer(optimizers.sgd(0.1)),
        "train_step with adam": with_optimizer(optimizers.adam(0.001)),
    }


def count(step: Callable[[], object]) -> Counter[str]:
    """Frames of a step that has warmed up, by function: the least of ten.

    Memory may be tidied meanwhile, or a helping thread be asked again until it has come.
    """
    step(), step()
    return min((_counted(step) for _ in range(10)), key=Counter.total)


def _counted(step: Callable[[], object]) -> Counter[str]:
    seen: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ROOT):
            seen[f"{code.co_filename.removeprefix(ROOT)}: {code.co_qualname}"] += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        step()
    finally:
        sys.setprofile(before)
    return seen


def main() -> None:
    for batch in (1, 32):
        for name, step in steps(batch).items():
            seen = count(step)
            print(f"batch {batch}, {name}: {seen.total()} frames")
    for name, times in seen.most_common(25):
        print(f"{times:>5} {name}")


if __name__ == "__main__":
    main()
