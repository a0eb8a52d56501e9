"""A transformer reads the manual that Python ships with, letter by letter, and then writes."""

from __future__ import annotations

import sys
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

STEPS = 32  # letters that are read at a time
text = " ".join("".join(topics[name] for name in ("assignment", "class", "for", "function")).split())
letters = sorted(set(text))
codes = torch.tensor([letters.index(letter) for letter in text])


class Model(nn.Module):
    def __init__(self, size: int, features: int, heads: int, depth: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size, features)
        self.places = nn.Embedding(STEPS, features)
        block = nn.TransformerEncoderLayer(features, heads, 4 * features, 0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, depth)
        self.head = nn.Linear(features, size)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(steps)
        h = self.tokens(x) + self.places(torch.arange(steps))
        return self.head(self.blocks(h, mask, is_causal=True))


@torch.no_grad()
def generate(net: nn.Module, prompt: str, temperature: float, count: int) -> str:
    written = torch.tensor([[letters.index(letter) for letter in prompt]])
    for _ in range(count):
        logits = net(written[:, -STEPS:])[:, -1] / temperature
        written = torch.cat([written, torch.multinomial(logits.softmax(1), 1)], 1)
    return "".join(letters[code] for code in written[0])


def main(short: bool) -> float:
    torch.manual_seed(0)
    starts = torch.randint(0, len(codes) - STEPS, (64 if short else 1600, 1))
    windows = codes[starts + torch.arange(STEPS + 1)]
    net = Model(len(letters), features=48, heads=4, depth=2)
    optimizer = torch.optim.AdamW(net.parameters(), 0.003)
    loader = DataLoader(TensorDataset(windows[:, :-1], windows[:, 1:]), 32, shuffle=True)
    for _ in range(1 if short else 10):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x).flatten(0, 1), y.flatten())
            loss.backward()
            optimizer.step()
    print(generate(net.eval(), "The class ", 0.5, 20 if short else 300))
    return loss.item()


if __name__ == "__main__":
    print(f"loss {main(short='--short' in sys.argv):.3f}")
