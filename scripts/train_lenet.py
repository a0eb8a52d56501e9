"""Train LeNet: on the shipped digits, on MNIST, or on random images as an experiment.

    python scripts/train_lenet.py                                   # 1,797 real digits
    python scripts/train_lenet.py --data mnist --data-dir DIR       # IDX files, gzipped or not
    python scripts/train_lenet.py --data random                     # 32 random images, 200 steps

The learning rate falls over all epochs: a run that was stopped goes on by ``--resume``, with the same
``--epochs``; one that has ended has no steps left, but ``--params`` begins a new one with its weights.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from funcnn import (
    checkpoints,
    conv,
    data,
    dense,
    evaluate,
    fit,
    flatten,
    max_pool,
    metrics,
    optimizers,
    plots,
    predict,
    random,
    relu,
    schedules,
    serial,
    softmax_cross_entropy,
)
from funcnn.training import Epoch

lenet = serial(conv(6, 5), relu(), max_pool(2), conv(16, 5), relu(), max_pool(2),
               flatten(), dense(120), relu(), dense(10))  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train LeNet.")
    parser.add_argument("--data", choices=["digits", "random", "mnist"], default="digits")
    parser.add_argument("--data-dir", type=Path, default=Path("."), help="where the IDX files lie")
    parser.add_argument("--epochs", type=int, help="default: 25; for random images, 200")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, help="default: 0.002; for random images, 0.01")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, metavar="FILE", help="write a checkpoint each epoch")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--params", type=Path, metavar="FILE", help="begin with a checkpoint's weights")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw curves and confusions")
    parser.add_argument("--log", type=Path, metavar="FILE", help="write a line of JSON an epoch")
    return parser.parse_args()


def datasets(options: argparse.Namespace) -> tuple[data.Dataset, data.Dataset]:
    """What to train on, and what to test on."""
    key = random.key(options.seed)
    if options.data == "random":
        images = random.normal(random.fold_in(key, "images"), (32, 3, 28, 28))
        # Every class three or four times: with labels drawn one by one, about one seed in a thousand
        # would start below 2.2 for no better reason than which classes came up often.
        labels = random.permutation(random.fold_in(key, "labels"), np.arange(32) % 10)
        return data.Dataset(images, labels), data.Dataset(images, labels)
    if options.data == "digits":
        return data.split(random.fold_in(key, "split"), data.digits(), 0.2)
    test = data.mnist(options.data_dir, "test")
    try:
        return data.mnist(options.data_dir, "train"), test
    except ValueError:
        if any(options.data_dir.glob("train-*")):
            raise
        print("no training images there: 8,000 of the test images train, 2,000 test")
        return data.split(random.fold_in(key, "split"), test, 0.2)


def refuse_early(options: argparse.Namespace) -> None:
    """Refuse before the training what would fail after it."""
    if options.lr is not None and not options.lr > 0:
        raise ValueError(f"--lr must be above 0, got {options.lr}")
    for file in (options.save, options.plot, options.log):
        if file is not None and (file.is_dir() or not os.access(file.absolute().parent, os.W_OK)):
            raise OSError(f"{file} must be a file in a directory that can be written to")
    if options.plot:
        known = plots.new_figure(1, 1).canvas.get_supported_filetypes()
        if options.plot.suffix[1:] not in known:
            raise ValueError(f"--plot must end in one of {', '.join(known)}, got {options.plot}")


def main() -> None:
    options = arguments()
    refuse_early(options)
    train, test = datasets(options)
    by_chance = options.data == "random"
    epochs = options.epochs if options.epochs is not None else (200 if by_chance else 25)
    rate = options.lr if options.lr is not None else (0.01 if by_chance else 0.002)
    steps = epochs * data.Batches(train, options.batch_size).steps
    optimizer = (
        optimizers.sgd(rate) if by_chance else optimizers.adam(schedules.cosine(rate, max(steps, 1)))
    )
    loss = softmax_cross_entropy()
    began = time.perf_counter()
    result = fit(
        lenet,
        loss,
        optimizer,
        train,
        key=random.key(options.seed),
        epochs=epochs,
        batch_size=options.batch_size,
        validation=None if by_chance else test,
        metrics=None if by_chance else {"accuracy": metrics.accuracy},
        params=checkpoints.load(options.params)[0].get("params", {}) if options.params else None,
        augment=None if by_chance else data.random_shift(2),
        checkpoint=options.save,
        resume=options.resume,
        log=options.log,
        progress=not by_chance,
        callbacks=(every(20, epochs),) if by_chance else (),
    )
    seconds = time.perf_counter() - began
    found = evaluate(lenet, result.params, test, loss, {"accuracy": metrics.accuracy})
    of = "training" if by_chance else "test"
    print(f"{of} loss {found['loss']:.4f}  {of} accuracy {found['accuracy']:.2%}  in {seconds:.1f} s")
    counts = metrics.confusion_matrix(predict(lenet, result.params, test.x), test.y)
    if options.plot:
        figure = plots.training_report(result.history, counts)
        figure.savefig(options.plot)
        print(f"curves and confusion matrix: {options.plot}")
    elif not by_chance:
        print(f"confusion matrix (rows: truth, columns: prediction)\n{counts}")


def every(count: int, epochs: int) -> Callable[[Epoch], None]:
    """A callback that prints the loss now and then."""

    def show(epoch: Epoch) -> None:
        number = epoch.state.epoch
        if number % count == 0 or number in (1, epochs):
            print(f"step {number:>4}/{epochs}  loss {epoch.record['loss']:.4f}", flush=True)

    return show


if __name__ == "__main__":
    try:
        main()
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as problem:
        print(f"train_lenet: {problem}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(f"train_lenet: {str(stop) or 'interrupted'}", file=sys.stderr)
        sys.exit(130)
