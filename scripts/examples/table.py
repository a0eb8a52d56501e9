"""A table with words and gaps, from a CSV file: how much is a flat?"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from funcnn import adam, data, dense, fit, huber, metrics, one_hot, predict, random, relu, serial

net = serial(dense(32), relu(), dense(32), relu(), dense(1))
OUT = Path("out")


def write(path: Path) -> None:
    """Flats of which one in twenty does not say how large it is."""
    keys = random.split(random.key(0), 3)
    size, quarter = random.uniform(keys[0], (600,), 25, 120), random.randint(keys[1], (600,), 0, 3)
    rent = 8 * size + np.array([0, 250, 600])[quarter] + 40 * random.normal(keys[2], (600,))
    names = np.array(["north", "harbour", "centre"])[quarter]
    rows = [f"{size[i]:.1f},{names[i]},{rent[i]:.0f}" for i in range(600)]
    rows[::20] = ["," + row.partition(",")[2] for row in rows[::20]]
    path.write_text("\n".join(["size,quarter,rent", *rows]))


def main(short: bool) -> float:
    OUT.mkdir(exist_ok=True)
    write(OUT / "flats.csv")
    table = data.read_csv(OUT / "flats.csv", "rent", kind="number", words=["quarter"], missing="mean")
    quarters = one_hot(table.x[:, 1].astype(int), len(table.words["quarter"]))
    examples = data.Dataset(np.hstack([table.x[:, :1], quarters]), table.y / 1000)
    train, test = data.normalize(*data.split(random.key(1), examples, 0.25))
    result = fit(net, huber(), adam(0.003), train, key=random.key(2), epochs=1 if short else 60,
                 progress=False)  # fmt: skip
    return metrics.r2(predict(net, result.params, test.x), test.y)


if __name__ == "__main__":
    print(f"part of the variance that is explained: {main(short='--short' in sys.argv):.1%}")
