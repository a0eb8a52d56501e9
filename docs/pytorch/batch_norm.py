"""A convolutional network with batch normalisation, stopped half-way and resumed."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from funcnn import data, random

OUT = Path("out")


def train(examples: TensorDataset, epochs: int, resume: Path | None = None) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Flatten(), nn.Linear(256, 10))  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 0.003)
    first = 0
    if resume:
        state = torch.load(resume)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"]
    for epoch in range(first, epochs):
        for x, y in DataLoader(examples, 32, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
        torch.save(state, OUT / "run.pt")
    return net.eval()


def main(short: bool) -> float:
    OUT.mkdir(exist_ok=True)
    train_data, test = data.split(random.key(0), data.digits(8), 0.2)
    examples = TensorDataset(torch.from_numpy(train_data.x), torch.from_numpy(train_data.y))
    epochs = 2 if short else 12
    train(examples, epochs // 2)  # the machine stops here
    net = train(examples, epochs, OUT / "run.pt")
    with torch.no_grad():
        found = net(torch.from_numpy(test.x)).argmax(1)
    return float((found.numpy() == test.y).mean())


if __name__ == "__main__":
    print(f"test accuracy {main(short='--short' in sys.argv):.2%}")
