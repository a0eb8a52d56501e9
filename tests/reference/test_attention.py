"""Options of attention, and whole transformers, against PyTorch's."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

from funcnn import (
    alibi,
    attention,
    cross_attention,
    drop_context,
    multi_head_attention,
    random,
    relative_positions,
    rotary,
    serial,
    tree,
)
from funcnn.models import encoder_decoder, transformer_decoder_block, transformer_encoder_block
from funcnn.types import Array
from tests.reference.agreement import torch
from tests.reference.several import agrees, call, normal

F: Any = torch.nn.functional


def _sdpa(params: Any, x: Any, **options: Any) -> Any:
    return F.scaled_dot_product_attention(*(one[:, None] for one in x), **options)[:, 0]


BIAS = normal(3, 4, 5)
BIAS[0, 1, 2:] = BIAS[1, 2] = -np.inf


def test_a_bias_and_a_scale() -> None:
    """Some pairs are hidden by -inf, and one query sees nothing."""
    x = (normal(3, 4, 6), normal(3, 5, 6), normal(3, 5, 2), BIAS)

    def reference(params: Any, x: Any) -> Any:
        return _sdpa(params, x[:3], attn_mask=x[3][:, None], scale=0.3)

    agrees(attention(biased=True, scale=0.3), x, reference)


def test_what_a_bias_hides_may_hold_anything() -> None:
    q, k, v = normal(1, 2, 3), normal(1, 3, 3), normal(1, 3, 2)
    bias = np.zeros((1, 2, 3))
    bias[:, :, 1] = -np.inf
    layer = attention(biased=True)
    runs = []
    for filler in (0.0, np.nan, np.inf):
        k[:, 1] = v[:, 1] = filler
        out, cache = layer.apply({}, (q, k, v, bias))
        runs.append([out, *layer.vjp(cache, np.ones_like(out))[1]])
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("offset", [0, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [0, 1, 2])
def test_a_window(window: int, causal: bool, offset: int) -> None:
    """As Flash Attention's ``window_size=(window, window)``."""
    seen = torch.tensor(
        [
            [abs(t + offset - s) <= window and (s <= t + offset or not causal) for s in range(5)]
            for t in range(3)
        ]
    )
    layer = attention(window=window, causal=causal, offset=offset)
    x = (normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 2))
    agrees(layer, x, lambda params, x: _sdpa(params, x, attn_mask=seen))


def test_a_soft_cap_and_weights() -> None:
    def reference(params: Any, x: Any) -> Any:
        q, k, v = x
        scores = 1.5 * (q @ k.mT / 2 / 1.5).tanh()
        weights = torch.where(torch.ones(3, 5).tril().bool(), scores, -torch.inf).softmax(-1)
        return weights @ v, weights

    layer = attention(causal=True, soft_cap=1.5, return_weights=True)
    agrees(layer, (normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 2)), reference)


@pytest.mark.parametrize("bias", [True, False])
def test_three_inputs(bias: bool) -> None:
    module = torch.nn.MultiheadAttention(8, 2, bias=bias, kdim=3, vdim=5, batch_first=True).double()
    seen = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], np.bool_)

    def reference(params: Any, x: Any) -> Any:
        kinds = ("query", "key", "value")
        theirs = {f"{kind[0]}_proj_weight": params[kind]["weight"] for kind in kinds}
        theirs["out_proj.weight"] = params["out"]["weight"]
        if bias:
            theirs["in_proj_bias"] = torch.cat([params[kind]["bias"] for kind in kinds])
            theirs["out_proj.bias"] = params["out"]["bias"]
        options = {"key_padding_mask": ~x[3], "average_attn_weights": False}
        return call(module, theirs, x[:3], options)

    layer: Any = multi_head_attention(2, separate=True, masked=True, bias=bias, return_weights=True)
    agrees(layer, (normal(3, 4, 8), normal(3, 5, 3), normal(3, 5, 5), seen), reference)


def test_a_bias_for_each_head_beside_lengths() -> None:
    """Float masks ``(N * heads, T, S)`` of PyTorch's attention."""
    module = torch.nn.MultiheadAttention(4, 2, kdim=3, vdim=3, batch_first=True).double()
    lengths = np.array([5, 3, 1])

    def reference(params: Any, x: Any) -> Any:
        kinds = ("query", "key", "value")
        theirs = {f"{kind[0]}_proj_weight": params[kind]["weight"] for kind in kinds}
        theirs["in_proj_bias"] = torch.cat([params[kind]["bias"] for kind in kinds])
        theirs |= {f"out_proj.{leaf}": own for leaf, own in params["out"].items()}
        hidden = torch.arange(5) >= x[3][:, None]
        mask = torch.where(hidden[:, None, None], -torch.inf, x[2]).flatten(0, 1)
        return call(module, theirs, (x[0], x[1], x[1]), {"attn_mask": mask, "need_weights": False})[0]

    layer = cross_attention(2, biased=True, masked=True)
    agrees(layer, (normal(3, 4, 4), normal(3, 5, 3), normal(3, 2, 4, 5), lengths), reference)


def test_rotary_positions_go_on() -> None:
    """The rest of a sequence, turned by itself, is the end of the whole one."""
    x = normal(2, 7, 4)
    whole = rotary().apply({}, x)[0]
    np.testing.assert_array_equal(rotary(offset=3).apply({}, x[:, 3:])[0], whole[:, 3:])
    options: Any = {"causal": True, "rotary_base": 100.0, "window": 2}
    layer = multi_head_attention(2, **options)
    late = multi_head_attention(2, separate=True, offset=3, **options)
    _, params = layer.init(random.key(0), x.shape)
    params = tree.cast(params, np.float64)
    out, _ = late.apply(params, (x[:, 3:], x, x))
    np.testing.assert_allclose(out, layer.apply(params, x)[0][:, 3:], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("heads", "slopes"),
    [(4, [2**-2, 2**-4, 2**-6, 2**-8]), (3, [2**-4, 2**-8, 2**-2]), (1, [2**-8])],
)
def test_alibi(heads: int, slopes: list[float]) -> None:
    """The slopes of the paper's program."""

    def reference(params: Any, x: Any) -> Any:
        away = (torch.arange(5)[:, None] - torch.arange(5)).abs()
        bias = -torch.tensor(slopes, dtype=x.dtype)[:, None, None] * away
        return x * 1, bias.expand(2, -1, -1, -1) + 0 * x.sum()

    agrees(alibi(heads), normal(2, 5, 3), reference)


@pytest.mark.parametrize("both", [True, False])
def test_relative_positions(both: bool) -> None:
    """The buckets of T5, one pair after the other."""
    buckets, furthest, steps = 8, 10, 14

    def bucket(t: int, s: int) -> int:
        half = buckets // 2 if both else buckets
        start = half if both and s > t else 0
        away = abs(t - s) if both else max(t - s, 0)
        exact = half // 2
        if away < exact:
            return start + away
        wide = math.log(away / exact) / math.log(furthest / exact) * (half - exact)
        return start + min(exact + int(wide), half - 1)

    places = torch.tensor([[bucket(t, s) for s in range(steps)] for t in range(steps)])

    def reference(params: Any, x: Any) -> Any:
        return x * 1, params["weight"][places].permute(2, 0, 1).expand(2, -1, -1, -1)

    layer = relative_positions(3, buckets=buckets, max_distance=furthest, both=both)
    agrees(layer, normal(2, steps, 2), reference)


# --- blocks ---------------------------------------------------------------------------------------


def _heads(prefix: str, own: Any) -> dict[str, Any]:
    kinds, found = ("query", "key", "value"), {}
    for leaf in own["out"]:
        found[f"{prefix}.in_proj_{leaf}"] = torch.cat([own[kind][leaf] for kind in kinds])
        found[f"{prefix}.out_proj.{leaf}"] = own["out"][leaf]
    return found


def _block(params: Any) -> dict[str, Any]:
    """PyTorch's names of the parameters of a block whose norms are in front."""
    found: dict[str, Any] = {}
    for number, own in enumerate(params.values(), 1):
        for leaf, name in (("scale", "weight"), ("bias", "bias")):
            if leaf in own["norm"]:
                found[f"norm{number}.{name}"] = own["norm"][leaf]
        for kind, prefix in (("multi_head", "self_attn"), ("cross", "multihead_attn")):
            found |= _heads(prefix, own[f"{kind}_attention1"]) if f"{kind}_attention1" in own else {}
        for ours, theirs in (("expand", "linear1"), ("contract", "linear2")):
            found |= {f"{theirs}.{leaf}": a for leaf, a in own.get(ours, {}).items()}
    return found


def test_blocks_without_biases() -> None:
    options: Any = {"batch_first": True, "norm_first": True, "bias": False}
    module = torch.nn.TransformerEncoderLayer(8, 2, 6, 0.0, "relu", **options).double()
    layer = transformer_encoder_block(8, 2, 6, bias=False)
    agrees(layer, normal(3, 5, 8), lambda params, x: call(module, _block(params), (x,)))


def test_a_decoder_that_sees_ahead() -> None:
    module = torch.nn.TransformerDecoderLayer(8, 2, 6, 0.0, batch_first=True, norm_first=True).double()
    layer = serial(
        transformer_decoder_block(8, 2, 6, memory=True, causal=False), drop_context("memory")
    )
    x = (normal(3, 4, 8), normal(3, 5, 8))
    agrees(layer, x, lambda params, x: call(module, _block(params["serial1"]), x))


@pytest.mark.parametrize("build", [transformer_encoder_block, transformer_decoder_block])
def test_a_block_with_a_bias(build: Any) -> None:
    module = torch.nn.TransformerEncoderLayer(8, 2, 6, 0.0, batch_first=True, norm_first=True).double()
    causal = torch.ones(5, 5).tril().bool() | (build is transformer_encoder_block)

    def reference(params: Any, x: Any) -> Any:
        mask = torch.where(causal, x[1], -torch.inf).flatten(0, 1)
        return call(module, _block(params["serial1"]), (x[0],), {"src_mask": mask})

    layer = serial(build(8, 2, 6, biased=True), drop_context("bias"))
    agrees(layer, (normal(3, 5, 8), normal(3, 2, 5, 5)), reference)


def test_a_causal_encoder_block_with_lengths() -> None:
    module = torch.nn.TransformerEncoderLayer(8, 2, 6, 0.0, batch_first=True, norm_first=True).double()
    layer = serial(
        transformer_encoder_block(8, 2, 6, masked=True, causal=True), drop_context("lengths")
    )
    kept = torch.arange(5) < torch.tensor([[5], [3], [1]])
    ahead = torch.ones(5, 5, dtype=torch.bool).triu(1)

    def reference(params: Any, x: Any) -> Any:
        seen: Any = {"src_mask": ahead, "src_key_padding_mask": ~kept}
        return call(module, _block(params["serial1"]), (x[0],), seen)

    agrees(layer, (normal(3, 5, 8), np.array([5, 3, 1])), reference)


@pytest.mark.parametrize("masked", [False, True])
def test_a_decoder_with_a_memory_and_a_bias(masked: bool) -> None:
    module = torch.nn.TransformerDecoderLayer(8, 2, 6, 0.0, batch_first=True, norm_first=True).double()
    build: Any = transformer_decoder_block
    leave: Any = drop_context
    context = "memory, bias, mask" if masked else "memory, bias"
    layer = serial(build(8, 2, 6, memory=True, biased=True, masked=masked), leave(context))
    kept = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]], np.bool_)
    ahead = torch.ones(5, 5, dtype=torch.bool).triu(1)

    def reference(params: Any, x: Any) -> Any:
        seen: Any = {"tgt_mask": torch.where(ahead, -torch.inf, x[2]).flatten(0, 1)}
        if masked:
            seen["memory_key_padding_mask"] = torch.tensor(~kept)
        return call(module, _block(params["graph1"]), x[:2], seen)

    x = (normal(3, 5, 8), normal(3, 4, 8), normal(3, 2, 5, 5), *([kept] if masked else []))
    agrees(layer, x, reference)


@pytest.mark.parametrize("masked", [False, True])
def test_encoder_decoder(masked: bool) -> None:
    """PyTorch's ``nn.Transformer``, between our tokens and logits."""
    options: Any = {"batch_first": True, "norm_first": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a fast path of theirs is not taken
        module = torch.nn.Transformer(8, 2, 2, 2, 6, 0.0, "gelu", **options).double()
    build: Any = encoder_decoder
    net = build(7, 9, 6, features=8, heads=2, depth=2, hidden=6, masked=masked)
    target, source = np.array([[1, 2, 3], [8, 0, 4]]), np.array([[1, 2, 3, 4], [6, 5, 0, 0]])
    seen: tuple[Array, ...] = (np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.bool_),) if masked else ()

    def tokens(own: Any, x: Any) -> Any:
        return own["embedding1"]["weight"][x] + own["learned_positions1"]["weight"][: x.shape[1]]

    def reference(params: Any, x: Any) -> Any:
        theirs: dict[str, Any] = {}
        for side in ("encoder", "decoder"):
            for k in (1, 2):
                names = _block(params[side][f"block{k}"])
                theirs |= {f"{side}.layers.{k - 1}.{name}": leaf for name, leaf in names.items()}
            norm = params[side]["norm"]
            theirs |= {f"{side}.norm.weight": norm["scale"], f"{side}.norm.bias": norm["bias"]}
        given = tokens(params["encoder"]["tokens"], x[1]), tokens(params["decoder"]["tokens"], x[0])
        future: Any = {"tgt_mask": torch.ones(3, 3, dtype=torch.bool).triu(1)}
        if masked:
            hidden = ~x[2]
            future |= {"src_key_padding_mask": hidden, "memory_key_padding_mask": hidden}
        out = call(module, theirs, given, future)
        return F.linear(out, params["decoder"]["logits"]["weight"])

    agrees(net, (target, source, *seen), reference)


@pytest.mark.parametrize("elsewhere", [0.0, -np.inf])
def test_a_bias_of_nan_is_seen_whatever_another_example_holds(elsewhere: float) -> None:
    """What is not seen has the bias -inf, and NaN is none: alone in its row, it has all the weight."""
    layer = multi_head_attention(1, biased=True, causal=True)
    x, bias = normal(2, 3, 4), np.zeros((2, 3, 3))
    _, params = layer.init(random.key(0), (x.shape, bias.shape))
    params = tree.map(np.float64, params)
    right = layer.apply(params, (x, bias))[0][0, 0]
    bias[0, 0, 0], bias[1, 2, 1] = np.nan, elsewhere
    assert np.array_equal(layer.apply(params, (x, bias))[0][0, 0], right)


def test_the_bias_of_the_only_key_has_no_gradient() -> None:
    layer = multi_head_attention(2, biased=True, causal=True)
    x, bias = normal(2, 3, 4), normal(2, 3, 3)
    _, params = layer.init(random.key(0), (x.shape, bias.shape))
    params = tree.map(np.float64, params)
    out, cache = layer.apply(params, (x, bias))
    assert not layer.vjp(cache, normal(*out.shape))[1][1][:, 0].any()
