"""Networks that people train, in our words and in PyTorch's; each is trained with Adam.

The expressions are those of `catalogue`: ours with the names of `funcnn` and `funcnn.models`,
PyTorch's with those of `torch_layers`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Model(NamedTuple):
    """A network in both words, and the shape of its input; `classes` is 0 where it draws its input."""

    name: str
    ours: str
    theirs: str
    shape: tuple[int, ...]
    classes: int = 10


_SEQUENCES = (32, 64, 64)
_IMAGES = (32, 3, 32, 32)


def _walk(kind: str) -> Model:
    return Model(
        f"{kind}, 64 steps, 128 features, batch 32, Adam",
        f"serial({kind.lower()}(128), time_distributed(dense(10)))",
        f"nn.Sequential(First(nn.{kind}(64, 128, batch_first=True)), nn.Linear(128, 10))",
        _SEQUENCES,
    )


def _transformer(features: int, blocks: int) -> Model:
    ours = f"transformer_encoder_block({features}, 4, {4 * features}), " * blocks
    theirs = f"Encoder({features}, 4, {4 * features}), " * blocks
    return Model(
        f"transformer, {blocks} blocks of {features} features, 64 steps, batch 32, Adam",
        f"serial({ours}time_distributed(dense(10)))",
        f"nn.Sequential({theirs}nn.Linear({features}, 10))",
        (32, 64, features),
    )


MODELS = (
    _walk("LSTM"),
    _walk("GRU"),
    _transformer(64, 2),
    _transformer(128, 4),
    Model("ResNet-8, batch 32, Adam", "resnet_small(depth=8)", "resnet8()", _IMAGES),
    Model(
        "separable convolutions, batch 32, Adam",
        "serial(conv(32, 3, padding=1), relu(), separable_conv(64, 3, padding=1), relu(), "
        "max_pool(2), separable_conv(64, 3, padding=1), relu(), separable_conv(128, 3, padding=1), "
        "relu(), global_avg_pool(), dense(10))",
        "nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), *separable(32, 64), nn.ReLU(), "
        "nn.MaxPool2d(2), *separable(64, 64), nn.ReLU(), *separable(64, 128), "
        "nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))",
        _IMAGES,
    ),
    Model(
        "MLP with batch norm and dropout, batch 128, Adam",
        "serial(dense(512), batch_norm(), relu(), dropout(0.2), dense(512), batch_norm(), relu(), "
        "dropout(0.2), dense(10))",
        "nn.Sequential(nn.Linear(784, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(0.2), "
        "nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 10))",
        (128, 784),
    ),
    Model(
        "autoencoder, batch 32, Adam",
        "autoencoder((1, 28, 28), 16)",
        "nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), "
        "nn.Flatten(), nn.Linear(1568, 16), nn.Linear(16, 1568), nn.ReLU(), "
        "nn.Unflatten(1, (32, 7, 7)), nn.Upsample(scale_factor=2), nn.Conv2d(32, 16, 3, 1, 1), "
        "nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(16, 1, 3, 1, 1), nn.Sigmoid())",
        (32, 1, 28, 28),
        classes=0,
    ),
)  # fmt: skip


def find(name: str) -> Model:
    return next(model for model in MODELS if model.name == name)


def data(model: Model) -> tuple[Any, Any]:
    """The same input and target for every framework."""
    draw = np.random.default_rng(0)
    if not model.classes:
        x = draw.random(model.shape, np.float32)
        return x, x
    places = model.shape[: 2 if len(model.shape) == 3 else 1]
    return draw.standard_normal(model.shape, np.float32), draw.integers(0, model.classes, places)
