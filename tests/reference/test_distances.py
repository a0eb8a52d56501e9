"""Distances and likenesses of two inputs, against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn import cosine_similarity, pairwise_distance
from tests.reference.agreement import torch
from tests.reference.several import agrees, normal

F: Any = torch.nn.functional


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("norm", "epsilon"), [(2.0, 1e-6), (1.0, 0.1), (3.0, 0.0), (1.5, 1e-6)])
def test_pairwise_distance(norm: float, epsilon: float, keepdims: bool) -> None:
    for shape in ((5, 3), (2, 3, 4), (2, 3, 2, 2)):
        layer = pairwise_distance(norm_type=norm, epsilon=epsilon, keepdims=keepdims)
        pair = normal(*shape), normal(*shape[::-1]).transpose()
        agrees(layer, pair, lambda _, x: F.pairwise_distance(*x, norm, epsilon, keepdims))


@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 3), 1), ((2, 3, 4), 1), ((2, 3, 4), -1), ((2, 3, 2), 2)]
)
def test_cosine_similarity(shape: Any, axis: int) -> None:
    pair = normal(*shape), normal(*shape[::-1]).transpose()
    agrees(cosine_similarity(axis=axis), pair, lambda _, x: F.cosine_similarity(*x, axis))
    # Of lengths below epsilon, PyTorch's slope is not that of its value.
    out, _ = cosine_similarity(axis=axis, epsilon=2.0).apply({}, pair)
    wanted = F.cosine_similarity(*map(torch.tensor, pair), axis, 2.0).numpy()
    np.testing.assert_allclose(out, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1.0, 1e20, 3e38])
def test_numbers_of_every_size(size: float) -> None:
    """A cosine knows no size, and a distance is as large as its numbers."""
    a, b = (np.array([[x, 0.5]], np.float32) * np.float32(size) for x in (0.5, 1.0))
    cosine, cache = cosine_similarity(epsilon=0.0).apply({}, (a, b))
    np.testing.assert_allclose(cosine, 0.75 / np.sqrt(0.5 * 1.25), rtol=1e-6)
    da, _ = cosine_similarity(epsilon=0.0).vjp(cache, np.ones(1, np.float32))[1]
    assert np.isfinite(da).all()
    distance, cache = pairwise_distance(epsilon=0.0).apply({}, (a, b))
    np.testing.assert_allclose(distance, 0.5 * size, rtol=1e-6)
    da, db = pairwise_distance(epsilon=0.0).vjp(cache, np.ones(1, np.float32))[1]
    np.testing.assert_allclose((da, db), ([[-1, 0]], [[1, 0]]), atol=1e-6)
