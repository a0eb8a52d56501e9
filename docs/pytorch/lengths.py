"""A bidirectional LSTM on sequences of different lengths: which of two letters is there more often?"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.data import DataLoader, TensorDataset, random_split

LONGEST = 20


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2, 16)
        self.lstm = nn.LSTM(16, 16, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        h = self.embedding(x)
        h = pack_padded_sequence(h, lengths, batch_first=True, enforce_sorted=False)
        h, _ = pad_packed_sequence(self.lstm(h)[0], batch_first=True)
        return self.head(h.sum(1) / lengths[:, None])  # what is padded is 0


def main(short: bool) -> float:
    torch.manual_seed(0)
    letters = torch.randint(0, 2, (1000, LONGEST))
    lengths = torch.randint(5, LONGEST + 1, (1000,))
    count = torch.where(torch.arange(LONGEST) < lengths[:, None], letters, 0).sum(1)
    examples = TensorDataset(letters, lengths, (2 * count > lengths).long())
    train, test = random_split(examples, [0.8, 0.2])
    net = Model()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    loader = DataLoader(train, 32, shuffle=True)
    for _ in range(1 if short else 10):
        for x, n, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x, n), y).backward()
            optimizer.step()
    x, n, y = test[:]
    with torch.no_grad():
        return (net(x, n).argmax(1) == y).float().mean().item()


if __name__ == "__main__":
    print(f"test accuracy {main(short='--short' in sys.argv):.2%}")
