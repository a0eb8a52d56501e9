"""A sweep over learning rates and widths, on two processes."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from funcnn import data, random

Setting = tuple[float, int]


def train(epochs: int, setting: Setting) -> float:
    """The loss at the end."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rate, width = setting
    spirals = data.spirals(random.key(0), 400)
    examples = TensorDataset(torch.from_numpy(spirals.x), torch.from_numpy(spirals.y))
    net = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                        nn.Linear(width, 2))  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), rate)
    loader = DataLoader(examples, 32, shuffle=True)
    for _ in range(epochs):
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
    return total / len(examples)


def main(short: bool) -> float:
    settings: list[Setting] = list(product([0.001, 0.003, 0.01], [16, 64]))
    with ProcessPoolExecutor(2) as pool:
        losses = list(pool.map(partial(train, 1 if short else 60), settings))
    for (rate, width), loss in zip(settings, losses, strict=True):
        print(f"rate {rate:<6} width {width:<3} loss {loss:.4f}")
    return min(losses)


if __name__ == "__main__":
    print(f"the best loss: {main(short='--short' in sys.argv):.4f}")
