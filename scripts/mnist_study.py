"""How well LeNet learns MNIST's 10,000 test images: 8,000 to train, 2,000 to test, several seeds.

    scripts/mnist_study.py --data-dir DIR              # as it comes, and with augmentation
    scripts/mnist_study.py --data-dir DIR --torch      # PyTorch with the same hyperparameters, too

The first 8,000 images train, the last 2,000 test. The plain runs have Adam at 0.001, batches of 64 and
10 epochs; the others shift, turn and slant the images, and lower the learning rate along a cosine.
Initial parameters, order of the batches and augmentation are functions of the seed alone; PyTorch sees
the same batches.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from funcnn import (
    conv,
    data,
    dense,
    evaluate,
    fit,
    flatten,
    max_pool,
    metrics,
    optimizers,
    random,
    relu,
    schedules,
    serial,
    softmax_cross_entropy,
)

LENET = serial(conv(6, 5), relu(), max_pool(2), conv(16, 5), relu(), max_pool(2),
               flatten(), dense(120), relu(), dense(10))  # fmt: skip
BATCH_SIZE, RATE = 64, 0.001
AUGMENTATION = data.random_affine(rotation=10.0, scale=0.1, shear=0.15, shift=1.5)


def parts(directory: Path) -> tuple[data.Dataset, data.Dataset]:
    """8,000 images to train on, and 2,000 to test on."""
    everything = data.mnist(directory, "test")
    return everything.take(slice(8000)), everything.take(slice(8000, None))


def plain(directory: Path, seed: int, epochs: int, workers: int | None) -> float:
    """The test accuracy of a network as it comes."""
    train, test = parts(directory)
    loss = softmax_cross_entropy()
    result = fit(LENET, loss, optimizers.adam(RATE), train, key=random.key(seed), epochs=epochs,
                 batch_size=BATCH_SIZE, progress=False, workers=workers)  # fmt: skip
    return evaluate(LENET, result.params, test, loss, {"accuracy": metrics.accuracy})["accuracy"]


def augmented(directory: Path, seed: int, epochs: int, workers: int | None) -> float:
    """The test accuracy with augmentation and a schedule."""
    train, test = parts(directory)
    loss = softmax_cross_entropy()
    steps = epochs * data.Batches(train, BATCH_SIZE).steps
    result = fit(LENET, loss, optimizers.adam(schedules.cosine(3 * RATE, steps)), train,
                 key=random.key(seed), epochs=epochs, batch_size=BATCH_SIZE, augment=AUGMENTATION,
                 progress=False, workers=workers)  # fmt: skip
    return evaluate(LENET, result.params, test, loss, {"accuracy": metrics.accuracy})["accuracy"]


def pytorch(directory: Path, seed: int, epochs: int, workers: int | None) -> float:
    """PyTorch's test accuracy with the hyperparameters of the plain runs, on the same batches."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    if workers:
        torch.set_num_threads(workers)
    train, test = parts(directory)
    net: Any = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    batches = data.Batches(train, BATCH_SIZE)
    for step in range(epochs * batches.steps):
        x, y = batches.batch(random.key(seed), *divmod(step, batches.steps))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    with torch.no_grad():
        logits: Any = net(torch.from_numpy(test.x)).numpy()
    return metrics.accuracy(logits, test.y)


def main() -> None:
    parser = argparse.ArgumentParser(description="LeNet on 8,000 images of MNIST.")
    parser.add_argument("--data-dir", type=Path, required=True, help="where t10k-* lie")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10, help="of the plain runs")
    parser.add_argument("--long-epochs", type=int, default=40, help="of those with augmentation")
    parser.add_argument("--workers", type=int, help="threads; the bits do not depend on it")
    parser.add_argument("--torch", action="store_true", help="compare with PyTorch")
    options = parser.parse_args()
    studies: list[tuple[str, Callable[..., float], int]] = [("funcnn", plain, options.epochs)]
    if options.torch:
        studies.append(("PyTorch", pytorch, options.epochs))
    studies.append(("funcnn, augmented", augmented, options.long_epochs))
    print(f"{'':<20}{'epochs':>6}  {'mean':>7}  {'deviation':>9}  {'s/run':>6}   each seed")
    for name, study, epochs in studies:
        began = time.perf_counter()
        found = 100 * np.array(
            [study(options.data_dir, seed, epochs, options.workers) for seed in range(options.seeds)]
        )
        seconds = (time.perf_counter() - began) / options.seeds
        each = "  ".join(f"{accuracy:.2f}" for accuracy in found)
        deviation = found.std(ddof=1) if len(found) > 1 else 0.0
        row = f"{name:<20}{epochs:>6}  {found.mean():>6.2f}%  {deviation:>9.2f}  {seconds:>6.1f}"
        print(f"{row}   {each}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as problem:
        print(f"mnist_study: {problem}", file=sys.stderr)
        sys.exit(2)
