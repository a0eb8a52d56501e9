"""A variational autoencoder of digits."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from funcnn import data


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.mean = nn.Linear(64, 4)
        self.log_variance = nn.Linear(64, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean
        if self.training:
            z = mean + torch.randn_like(mean) * torch.exp(log_variance / 2)
        return self.decoder(z), mean, log_variance


def main(short: bool) -> float:
    torch.manual_seed(0)
    images = torch.from_numpy(data.digits(8).x.reshape(-1, 64))
    net = Model()
    optimizer = torch.optim.Adam(net.parameters(), 0.002)
    loader = DataLoader(images, 32, shuffle=True)
    for _ in range(1 if short else 40):
        for x in loader:
            back, mean, log_variance = net(x)
            divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum() / (2 * len(x))
            loss = 64 * nn.functional.mse_loss(back, x) + 0.2 * divergence
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        new = net.decoder(torch.randn(3, 4))
        back, _, _ = net(images)
    for row in torch.hstack(list(new.reshape(3, 8, 8))):
        print("".join(" .:*#"[int(4.99 * pixel)] for pixel in row))
    return (((back - images) ** 2).mean() / images.var()).item()


if __name__ == "__main__":
    print(f"part of the variance that is lost: {main(short='--short' in sys.argv):.1%}")
