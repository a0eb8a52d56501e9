"""One comparison for every layer: outputs and gradients against PyTorch's, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from funcnn import random, tree
from funcnn.types import Array, Layer, Shape

torch: Any = pytest.importorskip("torch")
torch.set_num_threads(1)


def agrees(
    layer: Layer[Any, Any],
    shape: Shape,
    reference: Callable[..., Any],
    tolerance: float = 1e-10,
    x: Array | None = None,
) -> None:
    """Compare with ``reference(x, leaf, ...)`` of tensors, the leaves in the order of `init`.

    The output, its shape as predicted, and the gradients of all leaves and of `x` must be equal up to
    the tolerance, relative to the largest number.
    """
    key = random.key(3)
    out_shape, start = layer.init(random.fold_in(key, "init"), shape)
    params = tree.map(lambda leaf: random.normal(key, leaf.shape, dtype=np.float64), start)
    if x is None:
        x = random.normal(random.fold_in(key, "x"), shape, dtype=np.float64)
    out, cache = layer.apply(params, x)
    dout = random.normal(random.fold_in(key, "dout"), out.shape, dtype=np.float64)
    dparams, dx = layer.vjp(cache, dout)

    leaves = [torch.tensor(leaf, requires_grad=True) for leaf in (x, *_arrays(params))]
    wanted = reference(*leaves)
    slopes = torch.autograd.grad(wanted, leaves, torch.tensor(dout))
    assert out.shape == out_shape == tuple(wanted.shape)
    _near(out, wanted, tolerance)
    for mine, theirs in zip((dx, *_arrays(dparams)), slopes, strict=True):
        _near(mine, theirs, tolerance)


def _arrays(params: Any) -> list[Array]:
    if isinstance(params, dict):
        return [leaf for child in params.values() for leaf in _arrays(child)]
    return [params]


def _near(mine: Array, theirs: Any, tolerance: float) -> None:
    expected = theirs.detach().numpy()
    assert mine.dtype == expected.dtype
    assert mine.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(mine, expected, rtol=0, atol=tolerance * scale)


def short(part: object) -> str | None:
    """The id of a layer in a list of parameters; never one with an address in memory."""
    return repr(part)[:30] if isinstance(part, Layer) else None
