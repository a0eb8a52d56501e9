"""Fine-tuning: a network learns five digits; its body, kept still, then serves for five others."""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from funcnn import data


def train(net: nn.Module, rate: float, examples: Dataset, epochs: int) -> None:
    optimizer = torch.optim.Adam(net.parameters(), rate)
    loader = DataLoader(examples, 32, shuffle=True)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()


def main(short: bool) -> float:
    torch.manual_seed(0)
    digits = data.digits(8)
    x, y = torch.from_numpy(digits.x), torch.from_numpy(digits.y)
    low, high = TensorDataset(x[y < 5], y[y < 5]), TensorDataset(x[y >= 5], y[y >= 5] - 5)
    body = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten())  # fmt: skip
    train(nn.Sequential(body, nn.Linear(256, 5)), 0.003, low, 1 if short else 5)
    body.eval().requires_grad_(False)
    net = nn.Sequential(body, nn.Linear(256, 5))
    few, test = random_split(high, [0.2, 0.8])
    train(net, 0.01, few, 2 if short else 30)
    x, y = test[:]
    with torch.no_grad():
        return (net(x).argmax(1) == y).float().mean().item()


if __name__ == "__main__":
    print(f"accuracy on the other digits {main(short='--short' in sys.argv):.2%}")
