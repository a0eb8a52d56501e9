"""A study: which optimizer unwinds two spirals, and how fast; mean and range over several seeds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from funcnn import data, dense, fit, optimizers, plots, random, relu, serial, softmax_cross_entropy
from funcnn.types import Array

net = serial(dense(64), relu(), dense(64), relu(), dense(2))
studied = {
    "SGD": optimizers.sgd(0.3),
    "momentum": optimizers.momentum(0.1),
    "Adam": optimizers.adam(0.01),
    "AdamW, norm clipped to 1": optimizers.chain(
        optimizers.clip_by_global_norm(1.0), optimizers.adamw(0.01, weight_decay=0.01)
    ),
}  # fmt: skip
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]  # told apart by everybody

OUT = Path("out")


def losses(optimizer: optimizers.Optimizer, seed: int, epochs: int) -> Array:
    """The loss of each epoch."""
    train = data.spirals(random.fold_in(random.key(seed), "data"), 400, noise=0.02)
    result = fit(net, softmax_cross_entropy(), optimizer, train, key=random.key(seed), epochs=epochs,
                 progress=False)  # fmt: skip
    return result.history["loss"]


def main(short: bool) -> dict[str, float]:
    OUT.mkdir(exist_ok=True)
    seeds, epochs = (2, 3) if short else (5, 100)
    figure = plots.new_figure(7, 4.5)
    axes = figure.add_subplot()
    last: dict[str, float] = {}
    for (name, optimizer), colour in zip(studied.items(), COLOURS, strict=True):
        runs = np.stack([losses(optimizer, seed, epochs) for seed in range(seeds)])
        mean, steps = np.exp(np.log(runs).mean(0)), np.arange(1, epochs + 1)
        axes.fill_between(steps, runs.min(0), runs.max(0), color=colour, alpha=0.2, linewidth=0)
        axes.plot(steps, mean, color=colour, label=name)
        last[name] = float(mean[-1])
        print(f"{name:<26} loss {last[name]:.4f} after {epochs} epochs", flush=True)
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"loss: geometric mean and range of {seeds} seeds")
    axes.legend(frameon=False)
    figure.savefig(OUT / "optimizers.png")
    return last


if __name__ == "__main__":
    main(short="--short" in sys.argv)
