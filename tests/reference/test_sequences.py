"""Sequences against PyTorch's: recurrent layers, attention, embeddings, blocks of transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn import (
    attention,
    bidirectional,
    bilinear,
    cross_attention,
    dense,
    drop_context,
    embedding,
    embedding_bag,
    gru,
    learned_positions,
    lstm,
    multi_head_attention,
    positional_encoding,
    random,
    rnn,
    rotary,
    serial,
    time_distributed,
    tree,
)
from funcnn._kernels.embedding import add_rows
from funcnn.models import transformer_decoder_block, transformer_encoder_block
from funcnn.types import Array
from tests.reference.agreement import torch
from tests.reference.several import agrees, call, leaves, mapped, normal, torch_names

F: Any = torch.nn.functional

# --- recurrent layers -----------------------------------------------------------------------------

_CELLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "lstm": (lstm, torch.nn.LSTM, {}),
    "gru": (gru, torch.nn.GRU, {}),
    "rnn tanh": (rnn, torch.nn.RNN, {"nonlinearity": "tanh"}),
    "rnn relu": (rnn, torch.nn.RNN, {"nonlinearity": "relu"}),
}
_LENGTHS = np.array([7, 3, 5, 1, 6])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", _CELLS)
def test_recurrent(name: str, layers: int, both: bool, bias: bool) -> None:
    build, module, options = _CELLS[name]
    made = {"layers": layers, "bidirectional": both, "bias": bias}
    shared = {"num_layers": layers, "bias": bias, "bidirectional": both}
    theirs = module(3, 4, batch_first=True, **shared, **options).double()

    def run(params: Any, x: Any, *carry: Any) -> Any:
        return call(theirs, torch_names(params, layers, both), (x, *carry))

    def plain(params: Any, x: Any) -> Any:
        return run(params, x)[0]

    def carried(params: Any, x: Any) -> Any:
        first = mapped(lambda leaf: leaf.transpose(0, 1), x[1])
        out, last = run(params, x[0], first)
        return out, mapped(lambda leaf: leaf.transpose(0, 1), last)

    def packed(params: Any, x: Any) -> Any:
        lengths, steps = x[-1], x[0].shape[1]
        first = mapped(lambda leaf: leaf.transpose(0, 1), x[1:-1])
        pack = torch.nn.utils.rnn.pack_padded_sequence
        sequence = pack(x[0], lengths, batch_first=True, enforce_sorted=False)
        out, last = run(params, sequence, *first)
        unpack = torch.nn.utils.rnn.pad_packed_sequence
        out = unpack(out, batch_first=True, total_length=steps)[0]
        return (out, mapped(lambda leaf: leaf.transpose(0, 1), last)) if first else out

    x, state = normal(5, 7, 3), normal(5, layers * (1 + both), 4)
    carry = (state, state[::-1].copy()) if name == "lstm" else state
    agrees(build(4, **made, **options), x, plain)
    agrees(build(4, **made, **options, carry=True), (x, carry), carried)
    agrees(build(4, **made, **options, lengths=True), (x, _LENGTHS), packed)
    both_options = {**made, **options, "carry": True, "lengths": True}
    agrees(build(4, **both_options), (x, carry, _LENGTHS), packed)


@pytest.mark.parametrize("name", _CELLS)
def test_recurrent_in_reverse(name: str) -> None:
    """As PyTorch on the reversed sequence, the output turned back."""
    build, module, options = _CELLS[name]
    theirs = module(3, 4, batch_first=True, **options).double()

    def reference(params: Any, x: Any) -> Any:
        return call(theirs, torch_names(params, 1, False), (x.flip(1),))[0].flip(1)

    agrees(build(4, reverse=True, **options), normal(5, 7, 3), reference)


@pytest.mark.parametrize("build", [lstm, gru, rnn])
def test_nothing_beyond_the_lengths_has_influence(build: Any) -> None:
    layer = build(4, lengths=True, bidirectional=True)
    _, params = layer.init(random.key(0), ((5, 7, 3), (5,)))
    x = normal(5, 7, 3).astype(np.float32)
    noise = x.copy()
    for row, length in zip(noise, _LENGTHS, strict=True):
        row[length:] = np.nan
    (out, cache), (other, other_cache) = (layer.apply(params, (v, _LENGTHS)) for v in (x, noise))
    np.testing.assert_array_equal(out, other)
    grads, other_grads = layer.vjp(cache, out), layer.vjp(other_cache, out)
    for mine, theirs in zip(leaves(grads), leaves(other_grads), strict=True):
        np.testing.assert_array_equal(mine, theirs)


# --- attention ------------------------------------------------------------------------------------

_SEEN = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]], np.bool_)
_PAIRS = np.stack([_SEEN, ~_SEEN, np.zeros_like(_SEEN)])[:, [0, 1, 2, 1]]


def _seen(queries: int, keys: int, causal: bool, mask: Any = None) -> Any:
    """PyTorch's mask for one axis of heads."""
    seen = torch.ones(queries, keys, dtype=torch.bool)
    seen = seen.tril() if causal else seen
    if mask is None:
        return seen
    return seen & (mask[:, None, None] if mask.ndim == 2 else mask[:, None])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, _SEEN, _PAIRS])
def test_attention(mask: Array | None, causal: bool) -> None:
    """The queries of the second example, and some others, see nothing."""

    def reference(params: Any, x: Any) -> Any:
        q, k, v, *rest = (one[:, None] if one.is_floating_point() else one for one in x)
        seen = _seen(q.shape[2], k.shape[2], causal, *rest)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)[:, 0]

    x = (normal(3, 4, 6), normal(3, 5, 6), normal(3, 5, 2))
    if mask is None:
        agrees(attention(causal=causal), x, reference)
    else:
        agrees(attention(causal=causal, masked=True), (*x, mask), reference)


def test_attention_is_causal_as_theirs() -> None:
    def reference(params: Any, x: Any) -> Any:
        return F.scaled_dot_product_attention(*x, is_causal=True)

    for steps in (3, 5, 7):
        x = (normal(2, steps, 4), normal(2, 5, 4)[:, ::-1], normal(2, 5, 4))
        agrees(attention(causal=True), (x[0], x[1].copy(), x[2]), reference)


def _in_theirs(module: Any, params: Any, q: Any, memory: Any, **options: Any) -> Any:
    """Our parameters in ``torch.nn.MultiheadAttention``."""
    weights = [params[name]["weight"] for name in ("query", "key", "value")]
    if module.in_proj_weight is None:
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        theirs = dict(zip(names, weights, strict=True))
    else:
        theirs = {"in_proj_weight": torch.cat(weights)}
    theirs["out_proj.weight"] = params["out"]["weight"]
    if "bias" in params["out"]:
        theirs["in_proj_bias"] = torch.cat([params[n]["bias"] for n in ("query", "key", "value")])
        theirs["out_proj.bias"] = params["out"]["bias"]
    return call(module, theirs, (q, memory, memory), {"need_weights": False, **options})[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_multi_head_attention(heads: int, bias: bool) -> None:
    module = torch.nn.MultiheadAttention(8, heads, bias=bias, batch_first=True).double()
    future = torch.ones(5, 5, dtype=torch.bool).triu(1)
    padding = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], np.bool_)
    x = normal(3, 5, 8)

    def plain(params: Any, x: Any) -> Any:
        return _in_theirs(module, params, x, x)

    def causal(params: Any, x: Any) -> Any:
        return _in_theirs(module, params, x, x, attn_mask=future)

    def padded(params: Any, x: Any) -> Any:
        return _in_theirs(module, params, x[0], x[0], key_padding_mask=~x[1])

    def both(params: Any, x: Any) -> Any:
        return _in_theirs(module, params, x[0], x[0], key_padding_mask=~x[1], attn_mask=future)

    agrees(multi_head_attention(heads, bias=bias), x, plain)
    agrees(multi_head_attention(heads, bias=bias, causal=True), x, causal)
    agrees(multi_head_attention(heads, bias=bias, masked=True), (x, padding), padded)
    layer = multi_head_attention(heads, bias=bias, masked=True, causal=True)
    agrees(layer, (x, padding), both)


@pytest.mark.parametrize("bias", [True, False])
def test_cross_attention(bias: bool) -> None:
    options = {"kdim": 3, "vdim": 3, "bias": bias, "batch_first": True}
    module = torch.nn.MultiheadAttention(8, 2, **options).double()
    x, memory = normal(3, 4, 8), normal(3, 5, 3)
    padding = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], np.bool_)

    def plain(params: Any, x: Any) -> Any:
        return _in_theirs(module, params, *x)

    def padded(params: Any, x: Any) -> Any:
        return _in_theirs(module, params, *x[:2], key_padding_mask=~x[2])

    agrees(cross_attention(2, bias=bias), (x, memory), plain)
    agrees(cross_attention(2, bias=bias, masked=True), (x, memory, padding), padded)


def _turned(x: Any, base: float) -> Any:
    """Neighbouring features as a complex number, turned."""
    steps, features = x.shape[-2:]
    speeds = base ** (-torch.arange(0, features, 2, dtype=torch.float64) / features)
    angles = torch.arange(steps, dtype=torch.float64)[:, None] * speeds
    numbers = torch.view_as_complex(x.reshape(*x.shape[:-1], features // 2, 2))
    turned = torch.view_as_real(numbers * torch.polar(torch.ones_like(angles), angles))
    return turned.reshape(x.shape)


@pytest.mark.parametrize("base", [None, 100.0])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_queries_and_rotary_positions(kv_heads: int, causal: bool, base: float | None) -> None:
    def reference(params: Any, x: Any) -> Any:
        x, *mask = x if isinstance(x, tuple) else (x,)
        q, k, v = (
            F.linear(x, params[name]["weight"], params[name]["bias"])
            .unflatten(2, (-1, 6))
            .transpose(1, 2)
            for name in ("query", "key", "value")
        )
        if base is not None:
            q, k = _turned(q, base), _turned(k, base)
        seen = _seen(x.shape[1], x.shape[1], causal, *mask)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
        return F.linear(out.transpose(1, 2).flatten(2), **params["out"])

    x = normal(3, 5, 7)
    options: Any = {"features": 24, "kv_heads": kv_heads, "causal": causal, "rotary_base": base}
    build: Any = multi_head_attention
    agrees(build(4, **options), x, reference)
    agrees(build(4, masked=True, **options), (x, _SEEN), reference)


def test_scores_of_any_size_are_stable() -> None:
    q = np.full((1, 2, 4), 1e4, np.float32)
    k = np.concatenate([q[:, :1], -q[:, :1]], 1)
    v = np.array([[[1.0], [2.0]]], np.float32)
    out, cache = attention().apply({}, (q, k, v))
    np.testing.assert_array_equal(out, np.ones((1, 2, 1), np.float32))
    for slope in attention().vjp(cache, np.ones_like(out))[1]:
        assert np.isfinite(slope).all()


def test_attention_drops_a_fraction_of_its_weights() -> None:
    """With values of one the output is the sum of the weights that are kept."""
    q, v = np.zeros((8, 50, 2)), np.ones((8, 200, 1))
    out, _ = attention(rate=0.25).apply({}, (q, np.zeros((8, 200, 2)), v), key=random.key(0))
    kept = out * 0.75 * 200
    np.testing.assert_allclose(kept, kept.round(), rtol=0, atol=1e-9)
    assert abs(out.mean() - 1) < 0.01
    assert out.std() > 0.01


# --- embeddings and positions ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40,), (4, 10), (2, 5, 4)])
def test_embedding(shape: tuple[int, ...]) -> None:
    tokens = random.randint(random.key(1), shape, 0, 7)
    agrees(embedding(7, 3), tokens, lambda params, x: F.embedding(x, params["weight"]))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 0, 6])
def test_embedding_bag(padding: int | None, mode: str) -> None:
    tokens = random.randint(random.key(1), (8, 5), 0, 7)
    tokens[2] = padding or 0  # with padding, nothing is in this bag

    def reference(params: Any, x: Any) -> Any:
        return F.embedding_bag(x, params["weight"], mode=mode, padding_idx=padding)

    agrees(embedding_bag(7, 3, mode=mode, padding_index=padding), tokens, reference)
    if mode == "sum":

        def weighing(params: Any, x: Any) -> Any:
            return F.embedding_bag(
                x[0], params["weight"], mode=mode, padding_idx=padding, per_sample_weights=x[1]
            )

        layer = embedding_bag(7, 3, mode=mode, padding_index=padding, weighted=True)
        agrees(layer, (tokens, normal(8, 5)), weighing)


def test_embedding_with_padding() -> None:
    """PyTorch's gradient of the padding is no derivative, unless its row is zeros: as it starts."""
    layer = embedding(7, 3, padding_index=2)
    _, start = layer.init(random.key(0), (4, 10))
    assert not start["weight"][2].any()
    params = tree.map(lambda leaf: leaf.astype(np.float64), start)
    tokens = random.randint(random.key(1), (4, 10), 0, 7)
    out, cache = layer.apply(params, tokens)
    weight = torch.tensor(params["weight"], requires_grad=True)
    wanted = F.embedding(torch.tensor(tokens), weight, padding_idx=2)
    dout = normal(4, 10, 3)
    np.testing.assert_array_equal(out, wanted.detach().numpy())
    (slope,) = torch.autograd.grad(wanted, [weight], torch.tensor(dout))
    found = layer.vjp(cache, dout)[0]["weight"]
    np.testing.assert_allclose(found, slope.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 300])
@pytest.mark.parametrize("size", [0, 1, 2, 64, 257])
def test_rows_are_added_as_one_after_the_other(size: int, count: int) -> None:
    indices = random.randint(random.key(size), (size,), 0, count) ** 2 % count
    rows = normal(size, 3)
    wanted = np.zeros((count, 3))
    np.add.at(wanted, indices, rows)
    np.testing.assert_allclose(add_rows(indices, rows, count), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("steps", "features", "base"), [(5, 6, 10000.0), (3, 7, 100.0), (1, 1, 50.0)])
def test_positional_encoding(steps: int, features: int, base: float) -> None:
    def reference(params: Any, x: Any) -> Any:
        speeds = base ** (-torch.arange(0, features, 2, dtype=torch.float64) / features)
        angles = torch.arange(steps, dtype=torch.float64)[:, None] * speeds
        waves = torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :features]
        return x + waves

    agrees(positional_encoding(base=base), normal(2, steps, features), reference)


def test_learned_positions() -> None:
    layer = learned_positions(6)
    agrees(layer, normal(3, 4, 5), lambda params, x: x + params["weight"][:4])


@pytest.mark.parametrize("base", [10000.0, 100.0])
def test_rotary(base: float) -> None:
    def halves(params: Any, x: Any) -> Any:
        """Features apart are first brought together."""
        paired = x.unflatten(2, (2, 4)).transpose(2, 3).flatten(2)
        return _turned(paired, base).unflatten(2, (4, 2)).transpose(2, 3).flatten(2)

    x = normal(3, 5, 8)
    agrees(rotary(base=base), x, lambda params, x: _turned(x, base))
    agrees(rotary(base=base, interleaved=False), x, halves)


@pytest.mark.parametrize("bias", [True, False])
def test_bilinear(bias: bool) -> None:
    layer, x = bilinear(4, bias=bias), (normal(5, 3), normal(5, 6))
    agrees(layer, x, lambda params, x: F.bilinear(*x, params["weight"], params.get("bias")))


# --- combinators and blocks -----------------------------------------------------------------------


@pytest.mark.parametrize("merge", ["concatenate", "sum", "mean", "product"])
@pytest.mark.parametrize("name", _CELLS)
def test_bidirectional(name: str, merge: str) -> None:
    build, module, options = _CELLS[name]
    theirs = module(3, 4, batch_first=True, bidirectional=True, **options).double()

    def reference(params: Any, x: Any) -> Any:
        both = {"forward": params["forward"], "backward": params["backward"]}
        out = call(theirs, torch_names(both, 1, True), (x,))[0]
        a, b = out.chunk(2, 2)
        return {"concatenate": out, "sum": a + b, "mean": (a + b) / 2, "product": a * b}[merge]

    agrees(bidirectional(build(4, **options), merge=merge), normal(5, 7, 3), reference)


def test_time_distributed() -> None:
    layer = time_distributed(dense(4))
    agrees(layer, normal(3, 5, 2), lambda params, x: F.linear(x, **params))


def _attention_names(prefix: str, own: Any) -> dict[str, Any]:
    kinds = ("query", "key", "value")
    weights = [own[kind]["weight"] for kind in kinds]
    return {
        f"{prefix}.in_proj_weight": torch.cat(weights),
        f"{prefix}.in_proj_bias": torch.cat([own[kind]["bias"] for kind in kinds]),
        f"{prefix}.out_proj.weight": own["out"]["weight"],
        f"{prefix}.out_proj.bias": own["out"]["bias"],
    }


def _block_names(params: Any, norm: str) -> dict[str, Any]:
    """PyTorch's names of a block's parameters."""
    found: dict[str, Any] = {}
    places = [name for name in ("attention", "cross_attention", "feed_forward") if name in params]
    for number, place in enumerate(places, 1):
        own = params[place]
        scale = own["norm"] if norm == "pre" else params[f"{place}_norm"]
        found[f"norm{number}.weight"], found[f"norm{number}.bias"] = scale["scale"], scale["bias"]
        for kind, prefix in (("multi_head", "self_attn"), ("cross", "multihead_attn")):
            if f"{kind}_attention1" in own:
                found.update(_attention_names(prefix, own[f"{kind}_attention1"]))
        for ours, theirs in (("expand", "linear1"), ("contract", "linear2")):
            if ours in own:
                found.update({f"{theirs}.{leaf}": own[ours][leaf] for leaf in own[ours]})
    return found


_PADDING = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], np.bool_)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_transformer_encoder_block(norm: str, activation: str) -> None:
    module = torch.nn.TransformerEncoderLayer(
        8, 2, 6, 0.0, activation, batch_first=True, norm_first=norm == "pre"
    ).double()

    def plain(params: Any, x: Any) -> Any:
        return call(module, _block_names(params, norm), (x,))

    def padded(params: Any, x: Any) -> Any:
        theirs = _block_names(params, norm)
        return call(module, theirs, (x[0],), {"src_key_padding_mask": ~x[1]})

    block = transformer_encoder_block(8, 2, 6, norm=norm, activation=activation)
    agrees(block, normal(3, 5, 8), plain)
    masked = transformer_encoder_block(8, 2, 6, masked=True, norm=norm, activation=activation)
    layer = serial(masked, drop_context("mask"))
    agrees(layer, (normal(3, 5, 8), _PADDING), lambda params, x: padded(params["serial1"], x))


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_transformer_decoder_block(norm: str, activation: str) -> None:
    module = torch.nn.TransformerDecoderLayer(
        8, 2, 6, 0.0, activation, batch_first=True, norm_first=norm == "pre"
    ).double()
    future = torch.ones(4, 4, dtype=torch.bool).triu(1)

    def reference(params: Any, x: Any) -> Any:
        theirs = _block_names(params["serial1"], norm)
        mask = {"memory_key_padding_mask": ~x[2]} if len(x) > 2 else {}
        return call(module, theirs, x[:2], {"tgt_mask": future, **mask})

    x = (normal(3, 4, 8), normal(3, 5, 8))
    block = transformer_decoder_block(8, 2, 6, memory=True, norm=norm, activation=activation)
    agrees(serial(block, drop_context("memory")), x, reference)
    masked = transformer_decoder_block(
        8, 2, 6, memory=True, masked=True, norm=norm, activation=activation
    )
    agrees(serial(masked, drop_context("memory, mask")), (*x, _PADDING), reference)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_transformer_decoder_block_without_memory(norm: str) -> None:
    """An encoder that must not look ahead."""
    module = torch.nn.TransformerEncoderLayer(
        8, 2, 6, 0.0, "gelu", batch_first=True, norm_first=norm == "pre"
    ).double()
    future = torch.ones(4, 4, dtype=torch.bool).triu(1)

    def reference(params: Any, x: Any) -> Any:
        return call(module, _block_names(params, norm), (x,), {"src_mask": future})

    layer = transformer_decoder_block(8, 2, 6, norm=norm, activation="gelu")
    agrees(layer, normal(3, 4, 8), reference)
