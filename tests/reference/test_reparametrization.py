"""Weight and spectral normalisation against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn import conv, conv_transpose, dense, random, spectral_norm, tree, weight_norm
from funcnn.types import Array
from tests.reference.agreement import agrees, short, torch

F: Any = torch.nn.functional


def _beside(magnitude: Any, direction: Any, axis: int) -> Any:
    return magnitude.reshape([-1 if place == axis else 1 for place in range(direction.ndim)])


@pytest.mark.parametrize(
    ("layer", "operation", "shape"),
    [
        (dense(3), F.linear, (4, 5)),
        (dense(3, bias=False), F.linear, (4, 5)),
        (conv(4, 3), F.conv2d, (2, 3, 5, 6)),
        (conv_transpose(4, 3), F.conv_transpose2d, (2, 3, 4, 4)),
    ],
    ids=short,
)
@pytest.mark.parametrize("axis", [0, 1])
def test_weight_norm(layer: Any, operation: Any, shape: Any, axis: int) -> None:
    def reference(x: Any, direction: Any, magnitude: Any, *bias: Any) -> Any:
        weight = torch._weight_norm(direction, _beside(magnitude, direction, axis), axis)
        return operation(x, weight, *bias)

    agrees(weight_norm(layer, axis=axis), shape, reference)


def _torch(x: Any) -> Any:
    return torch.tensor(x, dtype=torch.float64)


@pytest.mark.parametrize(
    ("layer", "module", "axis", "shape"),
    [
        (dense(3), lambda: torch.nn.Linear(5, 3, dtype=torch.float64), 0, (4, 5)),
        (conv(4, 3), lambda: torch.nn.Conv2d(3, 4, 3, dtype=torch.float64), 0, (2, 3, 5, 6)),
        (
            conv_transpose(4, 3),
            lambda: torch.nn.ConvTranspose2d(3, 4, 3, dtype=torch.float64),
            1,
            (2, 3, 4, 4),
        ),
    ],
    ids=short,
)
@pytest.mark.parametrize("iterations", [1, 3])
def test_spectral_norm(layer: Any, module: Any, axis: int, shape: Any, iterations: int) -> None:
    """The same vectors, weights and gradients; PyTorch iterates before the pass, we after it."""
    ours = spectral_norm(layer, axis=axis, iterations=iterations)
    params = tree.map(lambda leaf: leaf.astype(np.float64), ours.init(random.key(0), shape)[1])
    plain = module()
    plain.weight.data = _torch(params["weight"]["original"])
    plain.bias.data = _torch(params["bias"])
    theirs = torch.nn.utils.parametrizations.spectral_norm(plain, n_power_iterations=iterations)
    vectors = theirs.parametrizations.weight[0]
    start = random.normal(random.key(5), params["weight"]["running_u"].shape, dtype=np.float64)
    params["weight"]["running_u"] = start / np.sqrt((start * start).sum())
    vectors._u = _torch(params["weight"]["running_u"])
    rows = vectors._reshape_weight_to_matrix(theirs.parametrizations.weight.original)
    vectors._v = F.normalize(rows.T @ vectors._u, dim=0).detach()  # PyTorch keeps both

    for step in range(3):
        x: Array = random.normal(random.fold_in(random.key(1), step), shape, dtype=np.float64)
        _, cache = ours.apply(params, x, key=random.key(step))
        params = tree.replace(params, ours.statistics(cache))
        tensor = torch.tensor(x, requires_grad=True)
        wanted = theirs.train()(tensor)
        _near(params["weight"]["running_u"], vectors._u)

        out, cache = ours.apply(params, x, key=random.key(step) if step else None)
        dout = random.normal(random.key(2), out.shape, dtype=np.float64)
        dparams, dx = ours.vjp(cache, dout)
        leaves = [tensor, theirs.parametrizations.weight.original, theirs.bias]
        slopes = torch.autograd.grad(wanted, leaves, torch.tensor(dout))
        for mine, slope in zip(
            (out, dx, dparams["weight"]["original"], dparams["bias"]), (wanted, *slopes), strict=True
        ):
            _near(mine, slope)


def _near(mine: Array, theirs: Any) -> None:
    np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=0, atol=1e-11)
