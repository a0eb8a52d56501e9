"""Agreement with PyTorch's functions of several inputs: outputs and all gradients, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import random, tree
from funcnn.types import Array, Layer
from tests.reference.agreement import torch

call: Any = torch.func.functional_call


def mapped(fn: Callable[[Any], Any], value: Any) -> Any:
    """A tree of dicts and tuples with ``fn(leaf)`` at the leaves."""
    if isinstance(value, dict):
        return {name: mapped(fn, part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(mapped(fn, part) for part in value)
    return fn(value)


def leaves(value: Any) -> list[Any]:
    found: list[Any] = []
    mapped(found.append, value)
    return found


def tensor(array: Array) -> Any:
    return torch.tensor(array, requires_grad=array.dtype.kind == "f")


def normal(*shape: int) -> Array:
    return random.normal(random.fold_in(random.key(5), repr(shape)), shape, dtype=np.float64)


def agrees(layer: Layer[Any, Any], x: Any, reference: Callable[[Any, Any], Any]) -> None:
    """Compare with ``reference(params, x)`` of tensors: outputs and all gradients, in float64."""
    key = random.key(3)
    out_shape, start = layer.init(key, mapped(np.shape, x))
    params = tree.map(lambda leaf: random.normal(key, leaf.shape, dtype=np.float64), start)
    out, cache = layer.apply(params, x)
    dout = mapped(lambda leaf: normal(*leaf.shape), out)
    dparams, dx = layer.vjp(cache, dout)
    assert mapped(np.shape, out) == out_shape

    known, given = mapped(tensor, params), mapped(tensor, x)
    wanted = reference(known, given)
    floats = [leaf for leaf in leaves((known, given)) if leaf.requires_grad]
    slopes = torch.autograd.grad(leaves(wanted), floats, mapped(torch.tensor, tuple(leaves(dout))))
    expected, found = [*leaves(wanted), *slopes], leaves(out)
    for leaf, slope in zip(leaves((params, x)), leaves((dparams, dx)), strict=True):
        if leaf.dtype.kind == "f":
            found.append(slope)
        else:
            assert slope.shape == leaf.shape
            assert not slope.any()
    for theirs, mine in zip(expected, found, strict=True):
        assert mine.dtype == np.float64
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=0, atol=1e-9, strict=True)


def torch_names(params: Any, layers: int, both: bool) -> dict[str, Any]:
    """PyTorch's flat names of the parameters of a stack of recurrent layers."""
    found = {}
    for k in range(layers):
        level = params[f"layer{k + 1}"] if layers > 1 else params
        for name, suffix in (("forward", ""), ("backward", "_reverse"))[: 1 + both]:
            own = level[name] if both else level
            found.update({f"{leaf}_l{k}{suffix}": own[leaf] for leaf in own})
    return found
