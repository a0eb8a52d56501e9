"""What a convolution makes of a digit, and which places speak for its class (Grad-CAM)."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib import pyplot
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from funcnn import data

OUT = Path("out")


def main(short: bool) -> float:
    torch.manual_seed(0)
    OUT.mkdir(exist_ok=True)
    digits = data.digits(8)
    x, y = torch.from_numpy(digits.x), torch.from_numpy(digits.y)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1),
                        nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 0.003)
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    for _ in range(1 if short else 10):
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    maps = net[:4](x[:1])
    scores = net[4:](maps)
    (slopes,) = torch.autograd.grad(scores[0, y[0]], maps)
    cam = (slopes.mean((2, 3), keepdim=True) * maps).sum(1).relu()
    figure, axes = pyplot.subplots(1, 10, figsize=(10, 1.2))
    for place, picture in zip(axes, [x[0, 0], *maps[0], cam[0]], strict=True):
        place.imshow(picture.detach().numpy(), cmap="gray_r")
        place.set_axis_off()
    figure.savefig(OUT / "grad_cam.png")
    return (scores.argmax() == y[0]).float().item()


if __name__ == "__main__":
    print(f"right: {main(short='--short' in sys.argv):.0f}; pictures: {OUT / 'grad_cam.png'}")
