"""Losses: how far a prediction is from its target, and the slope of that distance.

A loss is a pair of pure functions, ``apply(prediction, target) -> (value, cache)`` and
``vjp(cache) -> dprediction``. The names and options are PyTorch's, in whole words. In float32,
value and gradient are those of float64, rounded, whatever the size of numbers and options; an option
whose answer float32 cannot hold is refused.

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

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
