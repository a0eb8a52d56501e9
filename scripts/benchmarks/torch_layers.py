"""What the catalogue's PyTorch column may say beside ``nn``, ``F`` and ``torch``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Module: Any = nn.Module


class Call(Module):  # type: ignore[misc]
    """A function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: Any) -> Any:
        return self.function(*x)


class First(Module):  # type: ignore[misc]
    """The first of a module's outputs."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, *x: Any) -> Any:
        return self.module(*x)[0]


class SwiGLU(Module):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        a, b = x.chunk(2, -1)
        return F.silu(a) * b


class Maxout(Module):  # type: ignore[misc]
    def __init__(self, pieces: int, axis: int = -1) -> None:
        super().__init__()
        self.pieces, self.axis = pieces, axis

    def forward(self, x: Any) -> Any:
        axis = self.axis % x.ndim
        return x.unflatten(axis, (-1, self.pieces)).max(axis + 1)[0]


class DropPath(Module):  # type: ignore[misc]
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Any) -> Any:
        keep = torch.empty((len(x),) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * (keep / (1 - self.rate))


class Noise(Module):  # type: ignore[misc]
    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Any) -> Any:
        return x + self.std * torch.randn_like(x)


class Sinusoids(Module):  # type: ignore[misc]
    def __init__(self, steps: int, features: int) -> None:
        super().__init__()
        angles = torch.arange(steps)[:, None] / 10000 ** (torch.arange(0, features, 2) / features)
        self.table = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)

    def forward(self, x: Any) -> Any:
        return x + self.table[: x.shape[1]]


class Positions(Module):  # type: ignore[misc]
    def __init__(self, steps: int, features: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(steps, features))

    def forward(self, x: Any) -> Any:
        return x + self.table[: x.shape[1]]


class Rotary(Module):  # type: ignore[misc]
    def __init__(self, steps: int, features: int, interleaved: bool = True) -> None:
        super().__init__()
        angles = torch.arange(steps)[:, None] / 10000 ** (torch.arange(0, features, 2) / features)
        self.cos, self.sin, self.interleaved = angles.cos(), angles.sin(), interleaved

    def forward(self, x: Any) -> Any:
        if self.interleaved:
            a, b = x[..., 0::2], x[..., 1::2]
        else:
            a, b = x.chunk(2, -1)
        turned = a * self.cos - b * self.sin, b * self.cos + a * self.sin
        return torch.stack(turned, -1).flatten(-2) if self.interleaved else torch.cat(turned, -1)


class Biases(Module):  # type: ignore[misc]
    """Of attention: by distance, or with a weight for each bucket of distances."""

    def __init__(self, heads: int, steps: int, buckets: int = 0) -> None:
        super().__init__()
        at = torch.arange(steps)
        self.distance = (at[:, None] - at).abs()
        self.slopes = 2.0 ** -torch.arange(1, heads + 1)[:, None, None]
        self.weight = nn.Parameter(torch.randn(buckets, heads)) if buckets else None

    def forward(self, x: Any) -> Any:
        if self.weight is None:
            bias = self.distance * self.slopes + 0 * x[0, 0, 0]
        else:
            bucket = self.distance.clamp(max=len(self.weight) - 1)
            bias = F.embedding(bucket, self.weight).permute(2, 0, 1)
        return x * 1, bias.expand(len(x), *bias.shape)


class MaskedPool(Module):  # type: ignore[misc]
    """Of the time steps that count."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    def forward(self, x: Any, lengths: Any) -> Any:
        counts = (torch.arange(x.shape[1]) < lengths[:, None])[:, :, None]
        if self.word == "max":
            return x.masked_fill(~counts, -math.inf).amax(1)
        return x.masked_fill(~counts, 0).sum(1) / lengths[:, None]


class CausalConv1d(Module):  # type: ignore[misc]
    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)
        self.before = (kernel - 1) * dilation

    def forward(self, x: Any) -> Any:
        return self.conv(F.pad(x, (self.before, 0)))


def _causal(steps: int) -> Any:
    return nn.Transformer.generate_square_subsequent_mask(steps)


class SelfAttention(Module):  # type: ignore[misc]
    def __init__(self, features: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(features, heads, batch_first=True)
        self.causal = causal

    def forward(self, x: Any) -> Any:
        mask = _causal(x.shape[1]) if self.causal else None
        found = self.attend(x, x, x, need_weights=False, attn_mask=mask, is_causal=self.causal)
        return found[0]


class CrossAttention(Module):  # type: ignore[misc]
    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(features, heads, batch_first=True)

    def forward(self, x: Any, memory: Any) -> Any:
        return self.attend(x, memory, memory, need_weights=False)[0]


class Encoder(Module):  # type: ignore[misc]
    def __init__(self, features: int, heads: int, hidden: int, causal: bool = False) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(
            features, heads, hidden, 0.0, batch_first=True, norm_first=True
        )
        self.causal = causal

    def forward(self, x: Any) -> Any:
        mask = _causal(x.shape[1]) if self.causal else None
        return self.block(x, mask, is_causal=self.causal)


class Decoder(Module):  # type: ignore[misc]
    def __init__(self, features: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.block = nn.TransformerDecoderLayer(
            features, heads, hidden, 0.0, batch_first=True, norm_first=True
        )

    def forward(self, x: Any, memory: Any) -> Any:
        return self.block(x, memory, _causal(x.shape[1]), tgt_is_causal=True)


def separable(inputs: int, outputs: int) -> list[Any]:
    first = nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False)
    return [first, nn.Conv2d(inputs, outputs, 1)]


class Block(Module):  # type: ignore[misc]
    """Two convolutions around which the input goes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *normalized(inputs, outputs, stride), nn.ReLU(), *normalized(outputs, outputs, 1)
        )
        self.past = nn.Sequential(*normalized(inputs, outputs, stride, 1) if stride > 1 else [])

    def forward(self, x: Any) -> Any:
        return F.relu(self.past(x) + self.body(x))


def normalized(inputs: int, outputs: int, stride: int, kernel: int = 3) -> list[Any]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def resnet8() -> Any:
    return nn.Sequential(
        *normalized(3, 16, 1), nn.ReLU(), Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
