"""Losses: how far a prediction is from its target, and the slope of that distance.

A loss is a pair of pure functions, ``apply(prediction, target) -> (value, cache)`` and
``vjp(cache) -> dprediction``. The names and options are PyTorch's, in whole words.

Examples
--------
>>> import numpy as np
>>> from funcnn import losses
>>> loss = losses.softmax_cross_entropy(label_smoothing=0.1)
>>> value, cache = loss.apply(np.zeros((2, 4)), np.array([0, 3]))
>>> round(float(value), 4), loss.vjp(cache).shape
(1.3863, (2, 4))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from funcnn._lazy import lazily

if TYPE_CHECKING:
    from funcnn.losses.alignment import ctc
    from funcnn.losses.classification import (
        binary_cross_entropy_with_logits,
        focal,
        hinge,
        multi_margin,
        nll,
        softmax_cross_entropy,
    )
    from funcnn.losses.core import one_hot
    from funcnn.losses.distributions import gaussian_nll, kl_divergence, poisson_nll
    from funcnn.losses.embeddings import contrastive, cosine_embedding, triplet
    from funcnn.losses.regression import huber, l1, log_cosh, mean_squared_error, smooth_l1

__all__ = [
    "binary_cross_entropy_with_logits",
    "contrastive",
    "cosine_embedding",
    "ctc",
    "focal",
    "gaussian_nll",
    "hinge",
    "huber",
    "kl_divergence",
    "l1",
    "log_cosh",
    "mean_squared_error",
    "multi_margin",
    "nll",
    "one_hot",
    "poisson_nll",
    "smooth_l1",
    "softmax_cross_entropy",
    "triplet",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "alignment": "ctc",
        "classification": (
            "binary_cross_entropy_with_logits focal hinge multi_margin nll softmax_cross_entropy"
        ),
        "core": "one_hot",
        "distributions": "gaussian_nll kl_divergence poisson_nll",
        "embeddings": "contrastive cosine_embedding triplet",
        "regression": "huber l1 log_cosh mean_squared_error smooth_l1",
    },
)
