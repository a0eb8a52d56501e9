"""What is measured, as data that every framework builds from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.models import MODELS


class Case(NamedTuple):
    """One piece of work.

    ``layers`` are tuples such as ``("conv", out_channels, kernel, padding)``, ``("relu",)``,
    ``("max_pool", kernel)``, ``("avg_pool", kernel)``, ``("flatten",)``, ``("dense", features)``;
    ``work`` is ``"step"`` (forward, backward, update), ``"gradients"`` (without a loss),
    ``"inference"``, or ``"layer"`` and ``"model"`` of what `catalogue` and `models` name.
    """

    name: str
    work: str
    shape: tuple[int, ...]
    layers: tuple[tuple[Any, ...], ...]
    classes: int = 10
    most: float | None = None  # the ratio to the fastest PyTorch that we promise


def lenet(channels: tuple[int, int]) -> tuple[tuple[Any, ...], ...]:
    return (
        ("conv", channels[0], 5, 0), ("relu",), ("max_pool", 2),
        ("conv", channels[1], 5, 0), ("relu",), ("max_pool", 2),
        ("flatten",), ("dense", 120), ("relu",), ("dense", 10),
    )  # fmt: skip


def stack(channels: tuple[int, ...]) -> tuple[tuple[Any, ...], ...]:
    layers: list[tuple[Any, ...]] = []
    for count in channels:
        layers += [("conv", count, 3, 1), ("relu",)]
    return (*layers, ("avg_pool", 8), ("flatten",), ("dense", 10))


MLP = (("dense", 512), ("relu",), ("dense", 512), ("relu",), ("dense", 10))

NETWORKS = (
    Case("LeNet, batch 1, step", "step", (1, 3, 28, 28), lenet((6, 16)), most=0.5),
    Case("LeNet, batch 1, inference", "inference", (1, 3, 28, 28), lenet((6, 16)), most=0.5),
    Case("LeNet, batch 32, step", "step", (32, 3, 28, 28), lenet((6, 16)), most=0.75),
    Case("LeNet, batch 32, inference", "inference", (32, 3, 28, 28), lenet((6, 16))),
    Case("LeNet, batch 256, step", "step", (256, 3, 28, 28), lenet((6, 16)), most=0.95),
    Case("wide LeNet, batch 64, step", "step", (64, 3, 28, 28), lenet((32, 64)), most=1.0),
    Case("3x3 stack, 16x16, batch 32, step", "step", (32, 32, 16, 16),
         stack((32, 32, 64, 64)), most=1.2),
    Case("3x3 stack, 32x32, batch 32, step", "step", (32, 32, 32, 32),
         stack((32, 32, 64, 64)), most=1.2),
    Case("MLP 784-512-512-10, batch 128, step", "step", (128, 784), MLP, most=1.0),
    *(Case(model.name, "model", (), (), most=1.5) for model in MODELS),
)  # fmt: skip


def operations() -> tuple[Case, ...]:
    """Single layers, forward and backward, over a grid of sizes."""
    grid: list[Case] = []
    for n, c, size, out, kernel in (
        (1, 3, 28, 6, 5), (32, 3, 28, 6, 5), (32, 6, 12, 16, 5), (256, 3, 28, 6, 5),
        (32, 32, 16, 32, 3), (32, 64, 16, 64, 3), (8, 64, 32, 64, 3), (32, 64, 16, 64, 1),
    ):  # fmt: skip
        name = f"conv {out} of {kernel}x{kernel} on {n}x{c}x{size}x{size}"
        grid.append(Case(name, "gradients", (n, c, size, size), (("conv", out, kernel, 0),)))
    for n, c, size, window in ((32, 6, 24, 2), (256, 16, 8, 2), (32, 64, 16, 2), (32, 32, 15, 3)):
        for kind in ("max_pool", "avg_pool"):
            name = f"{kind} {window} on {n}x{c}x{size}x{size}"
            grid.append(Case(name, "gradients", (n, c, size, size), ((kind, window),)))
    for n, features, out in ((1, 256, 120), (32, 256, 120), (128, 784, 512), (512, 512, 512)):
        name = f"dense {out} on {n}x{features}"
        grid.append(Case(name, "gradients", (n, features), (("dense", out),)))
    return tuple(grid)


def scaling() -> dict[str, list[tuple[int, Case]]]:
    """Training steps that grow along one axis, with their sizes."""
    batch = [
        (n, Case(f"LeNet, batch {n}", "step", (n, 3, 28, 28), lenet((6, 16))))
        for n in (16, 32, 64, 128, 256, 512)
    ]
    width = [
        (w, Case(f"LeNet, {w}/{2 * w} channels", "step", (32, 3, 28, 28), lenet((w, 2 * w))))
        for w in (8, 16, 32, 64)
    ]
    depth = [
        (d, Case(f"{d} convolutions", "step", (16, 32, 16, 16), stack((32,) * d)))
        for d in (2, 4, 8, 16)
    ]
    return {"batch": batch, "width": width, "depth": depth}


def arrays(case: Case) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The same input and labels for every framework."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal(case.shape, np.float32)
    return x, draw.integers(0, case.classes, case.shape[0])
