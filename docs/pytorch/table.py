"""A table with words and gaps, from a CSV file: how much is a flat?"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

OUT = Path("out")


def write(path: Path) -> None:
    """Flats of which one in twenty does not say how large it is."""
    rng = np.random.default_rng(0)
    size, quarter = rng.uniform(25, 120, 600), rng.integers(0, 3, 600)
    rent = 8 * size + np.array([0, 250, 600])[quarter] + 40 * rng.normal(size=600)
    names = np.array(["north", "harbour", "centre"])[quarter]
    rows = [f"{size[i]:.1f},{names[i]},{rent[i]:.0f}" for i in range(600)]
    rows[::20] = ["," + row.partition(",")[2] for row in rows[::20]]
    path.write_text("\n".join(["size,quarter,rent", *rows]))


def main(short: bool) -> float:
    torch.manual_seed(0)
    OUT.mkdir(exist_ok=True)
    write(OUT / "flats.csv")
    table = pd.get_dummies(pd.read_csv(OUT / "flats.csv"), columns=["quarter"], dtype=float)
    table["size"] = table["size"].fillna(table["size"].mean())
    x = torch.tensor(table.drop(columns="rent").to_numpy(), dtype=torch.float32)
    y = torch.tensor(table[["rent"]].to_numpy(), dtype=torch.float32) / 1000
    train, test = torch.randperm(len(x)).split([450, 150])
    x = (x - x[train].mean(0)) / x[train].std(0)
    net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), 0.003)
    loader = DataLoader(TensorDataset(x[train], y[train]), 32, shuffle=True)
    for _ in range(1 if short else 60):
        for some, targets in loader:
            optimizer.zero_grad()
            nn.functional.huber_loss(net(some), targets).backward()
            optimizer.step()
    with torch.no_grad():
        return 1 - ((net(x[test]) - y[test]).var() / y[test].var()).item()


if __name__ == "__main__":
    print(f"part of the variance that is explained: {main(short='--short' in sys.argv):.1%}")
