"""Two networks against each other: one forges points on a circle, one tells them from true ones."""

from __future__ import annotations

import sys
from math import pi

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

SIZE = 128


def network(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2),
                         nn.Linear(64, outputs))  # fmt: skip


def main(short: bool) -> float:
    torch.manual_seed(0)
    forger, judge = network(4, 2), network(2, 1)
    forging = torch.optim.Adam(forger.parameters(), 0.001, (0.5, 0.999))
    judging = torch.optim.Adam(judge.parameters(), 0.001, (0.5, 0.999))
    true, false = torch.ones(SIZE, 1), torch.zeros(SIZE, 1)
    for _ in range(20 if short else 3000):
        angle = 2 * pi * torch.rand(SIZE, 1)
        real = torch.hstack([angle.cos(), angle.sin()])
        forged = forger(torch.randn(SIZE, 4))
        points, labels = torch.vstack([real, forged.detach()]), torch.vstack([true, false])
        judging.zero_grad()
        binary_cross_entropy_with_logits(judge(points), labels).backward()
        judging.step()
        forging.zero_grad()
        binary_cross_entropy_with_logits(judge(forged), true).backward()
        forging.step()
    with torch.no_grad():
        return (forger(torch.randn(500, 4)).norm(dim=1) - 1).abs().mean().item()


if __name__ == "__main__":
    print(f"mean distance from the circle: {main(short='--short' in sys.argv):.3f}")
