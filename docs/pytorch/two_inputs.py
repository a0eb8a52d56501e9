"""An image and a vector go in; a class and a number come out, each with its loss."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, relu
from torch.utils.data import DataLoader, TensorDataset, random_split

from funcnn import data


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(),
                                   nn.Linear(256, 32))  # fmt: skip
        self.vector = nn.Linear(8, 32)
        self.digit = nn.Linear(64, 10)
        self.ink = nn.Linear(64, 1)

    def forward(self, image: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        h = relu(torch.cat([self.image(image), self.vector(vector)], 1))
        return self.digit(h), self.ink(h)


def main(short: bool) -> float:
    torch.manual_seed(0)
    digits = data.digits(8)
    x, y = torch.from_numpy(digits.x), torch.from_numpy(digits.y)
    left, rows = x[..., :4], x[..., 4:].sum((1, 3))  # rows of what is not seen
    train, test = random_split(TensorDataset(left, rows, y, x.mean((2, 3))), [0.8, 0.2])
    net = Model()
    optimizer = torch.optim.Adam(net.parameters(), 0.003)
    loader = DataLoader(train, 32, shuffle=True)
    for _ in range(1 if short else 20):
        for left, rows, y, ink in loader:
            digit, guess = net(left, rows)
            optimizer.zero_grad()
            (cross_entropy(digit, y) + 10 * mse_loss(guess, ink)).backward()
            optimizer.step()
    left, rows, y, ink = test[:]
    with torch.no_grad():
        digit, guess = net(left, rows)
    print(f"mean error of the ink: {(guess - ink).abs().mean():.4f}")
    return (digit.argmax(1) == y).float().mean().item()


if __name__ == "__main__":
    print(f"test accuracy {main(short='--short' in sys.argv):.2%}")
