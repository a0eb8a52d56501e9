"""A network and its parameters in one file; loaded again, it answers one request after the other."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from funcnn import data

OUT = Path("out")


def main(short: bool) -> float:
    torch.manual_seed(0)
    OUT.mkdir(exist_ok=True)
    digits = data.digits(8)
    x, y = torch.from_numpy(digits.x), torch.from_numpy(digits.y)
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                        nn.Linear(256, 10))  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 0.003)
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    for _ in range(1 if short else 5):
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    torch.save(net.eval(), OUT / "digits.pt")  # a pickle: whoever loads it trusts it
    served = torch.load(OUT / "digits.pt", weights_only=False)
    seconds = []
    with torch.inference_mode():
        for image in x[:100]:
            begin = perf_counter()
            served(image[None])
            seconds.append(perf_counter() - begin)
        print(f"{1e6 * np.median(seconds):.0f} microseconds for one image")
        return (served(x).argmax(1) == y).float().mean().item()


if __name__ == "__main__":
    print(f"accuracy of what was loaded {main(short='--short' in sys.argv):.2%}")
