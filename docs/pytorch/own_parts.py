"""A layer and a loss of one's own: a learned bend, and the loss that makes a network give quantiles."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Bend(nn.Module):
    """Pass positive numbers on; multiply negative ones by a slope that is learned."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((features,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.slope * x)


def quantile(prediction: Tensor, target: Tensor, q: float) -> Tensor:
    """Of the targets, the part `q` is to lie below the prediction."""
    d = target - prediction
    return torch.maximum(q * d, (q - 1) * d).mean()


def main(short: bool) -> float:
    torch.manual_seed(0)
    x = 6 * torch.rand(600, 1)
    y = x.sin() + torch.randn_like(x) * x / 12
    net = nn.Sequential(nn.Linear(1, 32), Bend(32), nn.Linear(32, 32), Bend(32), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), 0.003)
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    for _ in range(1 if short else 100):
        for some, targets in loader:
            optimizer.zero_grad()
            quantile(net(some), targets, 0.9).backward()
            optimizer.step()
    with torch.no_grad():
        return (y < net(x)).float().mean().item()


if __name__ == "__main__":
    print(f"below the line for 90 %: {main(short='--short' in sys.argv):.1%}")
