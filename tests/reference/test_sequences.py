"""Sequences against PyTorch's: recurrent layers, attention, embeddings, blocks of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from funcnn import gru, lstm, random, rnn, tree
from funcnn.types import Array, Layer
from tests.reference.agreement import torch

_call: Any = torch.func.functional_call


def _mapped(fn: Callable[[Any], Any], value: Any) -> Any:
    """A tree of dicts and tuples with ``fn(leaf)`` at the leaves."""
    if isinstance(value, dict):
        return {name: _mapped(fn, part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_mapped(fn, part) for part in value)
    return fn(value)


def _leaves(value: Any) -> list[Any]:
    found: list[Any] = []
    _mapped(found.append, value)
    return found


def _tensor(array: Array) -> Any:
    return torch.tensor(array, requires_grad=array.dtype.kind == "f")


def _normal(*shape: int) -> Array:
    return random.normal(random.fold_in(random.key(5), repr(shape)), shape, dtype=np.float64)


def _agrees(layer: Layer[Any, Any], x: Any, reference: Callable[[Any, Any], Any]) -> None:
    """Compare with ``reference(params, x)`` of tensors: outputs and all gradients, in float64."""
    key = random.key(3)
    out_shape, start = layer.init(key, _mapped(np.shape, x))
    params = tree.map(lambda leaf: random.normal(key, leaf.shape, dtype=np.float64), start)
    out, cache = layer.apply(params, x)
    dout = _mapped(lambda leaf: _normal(*leaf.shape), out)
    dparams, dx = layer.vjp(cache, dout)
    assert _mapped(np.shape, out) == out_shape

    known, given = _mapped(_tensor, params), _mapped(_tensor, x)
    wanted = reference(known, given)
    floats = [leaf for leaf in _leaves((known, given)) if leaf.requires_grad]
    slopes = torch.autograd.grad(_leaves(wanted), floats, _mapped(torch.tensor, tuple(_leaves(dout))))
    expected, found = [*_leaves(wanted), *slopes], _leaves(out)
    for leaf, slope in zip(_leaves((params, x)), _leaves((dparams, dx)), strict=True):
        if leaf.dtype.kind == "f":
            found.append(slope)
        else:
            assert slope.shape == leaf.shape
            assert not slope.any()
    for theirs, mine in zip(expected, found, strict=True):
        assert mine.dtype == np.float64
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=0, atol=1e-9, strict=True)


# --- recurrent layers -----------------------------------------------------------------------------

_CELLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "lstm": (lstm, torch.nn.LSTM, {}),
    "gru": (gru, torch.nn.GRU, {}),
    "rnn tanh": (rnn, torch.nn.RNN, {"nonlinearity": "tanh"}),
    "rnn relu": (rnn, torch.nn.RNN, {"nonlinearity": "relu"}),
}
_LENGTHS = np.array([7, 3, 5, 1, 6])


def _torch_names(params: Any, layers: int, both: bool) -> dict[str, Any]:
    """PyTorch's flat names of the same parameters."""
    found = {}
    for k in range(layers):
        level = params[f"layer{k + 1}"] if layers > 1 else params
        for name, suffix in (("forward", ""), ("backward", "_reverse"))[: 1 + both]:
            own = level[name] if both else level
            found.update({f"{leaf}_l{k}{suffix}": own[leaf] for leaf in own})
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", _CELLS)
def test_recurrent(name: str, layers: int, both: bool, bias: bool) -> None:
    build, module, options = _CELLS[name]
    made = {"layers": layers, "bidirectional": both, "bias": bias}
    theirs = module(3, 4, layers, bias, True, bidirectional=both, **options).double()

    def run(params: Any, x: Any, *carry: Any) -> Any:
        return _call(theirs, _torch_names(params, layers, both), (x, *carry))

    def plain(params: Any, x: Any) -> Any:
        return run(params, x)[0]

    def carried(params: Any, x: Any) -> Any:
        first = _mapped(lambda leaf: leaf.transpose(0, 1), x[1])
        out, last = run(params, x[0], first)
        return out, _mapped(lambda leaf: leaf.transpose(0, 1), last)

    def packed(params: Any, x: Any) -> Any:
        lengths, steps = x[-1], x[0].shape[1]
        first = _mapped(lambda leaf: leaf.transpose(0, 1), x[1:-1])
        pack = torch.nn.utils.rnn.pack_padded_sequence
        sequence = pack(x[0], lengths, batch_first=True, enforce_sorted=False)
        out, last = run(params, sequence, *first)
        unpack = torch.nn.utils.rnn.pad_packed_sequence
        out = unpack(out, batch_first=True, total_length=steps)[0]
        return (out, _mapped(lambda leaf: leaf.transpose(0, 1), last)) if first else out

    x, state = _normal(5, 7, 3), _normal(5, layers * (1 + both), 4)
    carry = (state, state[::-1].copy()) if name == "lstm" else state
    _agrees(build(4, **made, **options), x, plain)
    _agrees(build(4, **made, **options, carry=True), (x, carry), carried)
    _agrees(build(4, **made, **options, lengths=True), (x, _LENGTHS), packed)
    both_options = {**made, **options, "carry": True, "lengths": True}
    _agrees(build(4, **both_options), (x, carry, _LENGTHS), packed)


@pytest.mark.parametrize("name", _CELLS)
def test_recurrent_in_reverse(name: str) -> None:
    """As PyTorch on the reversed sequence, the output turned back."""
    build, module, options = _CELLS[name]
    theirs = module(3, 4, batch_first=True, **options).double()

    def reference(params: Any, x: Any) -> Any:
        return _call(theirs, _torch_names(params, 1, False), (x.flip(1),))[0].flip(1)

    _agrees(build(4, reverse=True, **options), _normal(5, 7, 3), reference)


@pytest.mark.parametrize("build", [lstm, gru, rnn])
def test_nothing_beyond_the_lengths_has_influence(build: Any) -> None:
    layer = build(4, lengths=True, bidirectional=True)
    _, params = layer.init(random.key(0), ((5, 7, 3), (5,)))
    x = _normal(5, 7, 3).astype(np.float32)
    noise = x.copy()
    for row, length in zip(noise, _LENGTHS, strict=True):
        row[length:] = np.nan
    (out, cache), (other, other_cache) = (layer.apply(params, (v, _LENGTHS)) for v in (x, noise))
    np.testing.assert_array_equal(out, other)
    grads, other_grads = layer.vjp(cache, out), layer.vjp(other_cache, out)
    for mine, theirs in zip(_leaves(grads), _leaves(other_grads), strict=True):
        np.testing.assert_array_equal(mine, theirs)
