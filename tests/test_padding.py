"""What does not count may hold anything: masked steps, later steps, padding."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from funcnn import (
    attention,
    clean_padding,
    cross_attention,
    drop_context,
    embedding,
    gru,
    keep_context,
    last_step,
    learned_positions,
    lstm,
    masked_max_pool,
    masked_mean_pool,
    multi_head_attention,
    numerics,
    positional_encoding,
    random,
    residual_with_context,
    rnn,
    serial,
    with_context,
)
from funcnn.models import transformer_decoder_block, transformer_encoder_block
from funcnn.testing import _values
from funcnn.types import Array, Layer

ON_EVERY_SET_OF_KERNELS = True
FILLERS = [np.nan, np.inf, -np.inf, 3e38]


def _normal(*shape: int) -> Array:
    return random.normal(random.key(7), shape)


class Padded(NamedTuple):
    """A layer with an input, what does not count of it and of the output."""

    layer: Layer[Any, Any]
    x: Any
    idle: Any  # booleans, or False for nothing
    out_idle: Any = False


KEYS = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], np.bool_)
PAIRS = np.stack([KEYS[[0, 1, 0, 2]], KEYS[[1, 1, 1, 1]], KEYS[[2, 2, 0, 1]]])
SOME = np.asarray(PAIRS.any(1))
Q, K, V, M = _normal(3, 4, 6), _normal(3, 5, 6), _normal(3, 5, 2), _normal(3, 5, 7)
X = _normal(3, 5, 8)
STEPS = np.stack([KEYS[[0, 0, 2, 0, 2]], KEYS[[1, 1, 1, 1, 1]], KEYS[[2, 2, 0, 1, 2]]])
LENGTHS = np.array([3, 0, 5])
BEYOND = np.arange(5) >= LENGTHS[:, None]


def _over(mask: Array, like: Array) -> Array:
    """Flags for steps, as flags for all their features."""
    return np.broadcast_to(mask[..., None], like.shape)


def _masked(mask: Array, seen: Array) -> list[Padded]:
    hidden = ~seen
    idle = (False, _over(hidden, K), _over(hidden, V), False)
    return [
        Padded(attention(masked=True), (Q, K, V, mask), idle),
        Padded(attention(masked=True, rate=0.5), (Q, K, V, mask), idle),
        Padded(cross_attention(2, masked=True), (Q, M, mask), (False, _over(hidden, M), False)),
        Padded(
            cross_attention(6, kv_heads=2, masked=True, rate=0.3),
            (Q, M, mask),
            (False, _over(hidden, M), False),
        ),
        Padded(
            residual_with_context(cross_attention(2, masked=True)),
            (Q, M, mask),
            (False, _over(hidden, M), False),
            (False, _over(hidden, M), False),
        ),
        Padded(
            serial(
                transformer_decoder_block(6, 2, 4, memory=True, masked=True),
                transformer_decoder_block(6, 2, 4, memory=True, masked=True, norm="post", rate=0.2),
                drop_context("memory, mask"),
            ),
            (Q, M, mask),
            (False, _over(hidden, M), False),
        ),
    ]


_GONE = _over(~KEYS, X)
CASES = [
    *_masked(KEYS, KEYS),
    *_masked(PAIRS, SOME),
    *(
        Padded(layer, (X, KEYS), (_GONE, False), _GONE)
        for layer in (
            multi_head_attention(2, masked=True),
            multi_head_attention(4, kv_heads=2, masked=True, causal=True, rotary_base=100.0),
            multi_head_attention(2, masked=True, rate=0.5, bias=False),
            serial(
                transformer_encoder_block(8, 2, 4, masked=True),
                transformer_encoder_block(8, 4, 4, masked=True, norm="post", activation="gelu"),
                transformer_encoder_block(8, 2, 4, masked=True, rate=0.2, kv_heads=1),
                drop_context("mask"),
            ),
        )
    ),
    Padded(clean_padding(), (X, KEYS), (_GONE, False), (_GONE, False)),
    Padded(
        clean_padding(),
        (X, M, LENGTHS),
        (_over(BEYOND, X), False, False),
        (_over(BEYOND, X), False, False),
    ),
    *(
        Padded(pool, (X, counts), (_over(gone, X), False))
        for pool in (last_step(masked=True), masked_mean_pool(), masked_max_pool())
        for counts, gone in ((KEYS, ~KEYS), (LENGTHS, BEYOND))
    ),
    Padded(
        serial(
            keep_context(positional_encoding(), "lengths"),
            transformer_encoder_block(8, 2, 4, masked=True),
            with_context(lstm(4, lengths=True, projection=2, bidirectional=True)),
            masked_mean_pool(),
        ),
        (X, LENGTHS),
        (_over(BEYOND, X), False),
    ),
    Padded(
        gru(3, lengths=True, reset_after=False), (X, KEYS), (_GONE, False), _over(~KEYS, X[..., :3])
    ),
    Padded(
        multi_head_attention(2, separate=True, masked=True, soft_cap=2.0),
        (Q, M, V, LENGTHS),
        (False, _over(BEYOND, M), _over(BEYOND, V), False),
    ),
    *(
        Padded(
            build(4, lengths=True, layers=layers, bidirectional=both, reverse=back),
            (X, LENGTHS),
            (_over(BEYOND, X), False),
            np.broadcast_to(BEYOND[..., None], (3, 5, 8 if both else 4)),
        )
        for build in (rnn, gru, lstm)
        for layers, both, back in ((1, False, False), (2, False, True), (2, True, False))
    ),
    Padded(
        gru(4, lengths=True, carry=True),
        (X, _normal(3, 1, 4), LENGTHS),
        (_over(BEYOND, X), False, False),
        (np.broadcast_to(BEYOND[..., None], (3, 5, 4)), False),
    ),
]


def _filled(x: Any, idle: Any, filler: float) -> Any:
    """The same, with something else where it does not count."""
    if isinstance(x, tuple):
        flags = idle if isinstance(idle, tuple) else (idle,) * len(x)
        return tuple(_filled(*each, filler) for each in zip(x, flags, strict=True))
    return x if idle is False else np.where(idle, x.dtype.type(filler), x)


def _bits(tree: Any) -> Any:
    return _values.mapped(lambda leaf: leaf.tobytes(), tree)


@pytest.mark.parametrize("mode", ["fast", "portable"])
@pytest.mark.parametrize("case", [pytest.param(c, id=repr(c.layer)[:80]) for c in CASES])
def test_what_does_not_count_may_hold_anything(case: Padded, mode: numerics.Mode) -> None:
    with numerics.use(mode):
        shape = _values.shapes(case.x)
        _, params = case.layer.init(random.key(3), shape)
        for key in (None, random.key(5)):
            expected = None
            for filler in (0.25, *FILLERS):
                out, cache = case.layer.apply(params, _filled(case.x, case.idle, filler), key=key)
                dout = _values.mapped(
                    lambda leaf: (
                        random.normal(random.key(2), leaf.shape, dtype=leaf.dtype)
                        if leaf.dtype.kind == "f"
                        else np.zeros(leaf.shape, np.float32)
                    ),
                    out,
                )
                dparams, dx = case.layer.vjp(cache, _filled(dout, case.out_idle, 0.0))
                found = _bits((_filled(out, case.out_idle, 0.0), dparams, _filled(dx, case.idle, 0.0)))
                expected = found if expected is None else expected
                assert found == expected, filler
                for flags, slope in zip(*map(_parts, (case.idle, dx)), strict=True):
                    assert not np.any(slope[flags]), filler


def _parts(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("mode", ["fast", "portable"])
@pytest.mark.parametrize("filler", FILLERS)
@pytest.mark.parametrize(
    "layer",
    [
        attention(causal=True),
        attention(causal=True, window=2, soft_cap=2.0),
        multi_head_attention(2, causal=True),
        multi_head_attention(4, kv_heads=1, causal=True, rotary_base=100.0, rate=0.25),
        transformer_decoder_block(8, 2, 4),
        transformer_decoder_block(8, 2, 4, norm="post", rate=0.25),
        rnn(4),
        gru(4, layers=2),
        lstm(4),
        learned_positions(9),
    ],
    ids=repr,
)
def test_no_step_sees_a_later_one(layer: Layer[Any, Any], filler: float, mode: numerics.Mode) -> None:
    several = layer.spec.kind == "attention"
    x = _normal(3, 6, 8)
    late = x.copy()
    late[1, 4:] = filler
    late[2, 5, 3] = filler
    with numerics.use(mode):
        both = [(each, each, each) if several else each for each in (x, late)]
        _, params = layer.init(random.key(1), _values.shapes(both[0]))
        runs = [layer.apply(params, each, key=random.key(4)) for each in both]
        outs, (_, cache) = [out for out, _ in runs], runs[0]
        for n, until in ((0, 6), (1, 4), (2, 5)):
            assert outs[0][n, :until].tobytes() == outs[1][n, :until].tobytes()
        # and back: no gradient comes from an earlier output
        dout = _normal(*outs[0].shape)
        early = dout.copy()
        early[1, :2] = filler
        dxs = [layer.vjp(cache, each)[1] for each in (dout, early)]
        for one, other in zip(*map(_parts, dxs), strict=True):
            assert one[0].tobytes() == other[0].tobytes()
            if one.ndim == 3 and layer.spec.kind != "attention":
                assert one[1, 2:].tobytes() == other[1, 2:].tobytes()


@pytest.mark.parametrize("filler", FILLERS)
def test_the_padding_of_an_embedding_may_hold_anything(filler: float) -> None:
    layer = embedding(5, 3, padding_index=2)
    x = np.array([[0, 2, 1], [2, 2, 4]])
    _, params = layer.init(random.key(0), x.shape)
    weight = params["weight"].copy()
    weight[2] = filler
    dout = _normal(2, 3, 3)
    idle = dout.copy()
    idle[x == 2] = filler
    found = []
    for one, slope in (params, dout), ({"weight": weight}, idle):
        out, cache = layer.apply(one, x)
        found.append(_bits((out, layer.vjp(cache, slope))))
    assert found[0] == found[1]


def test_a_masked_nan_of_an_attention() -> None:
    q = np.zeros((1, 1, 2), np.float32)
    k = np.array([[[0, 0], [0, 0], [np.nan, np.inf]]], np.float32)
    v = np.array([[[1], [2], [np.nan]]], np.float32)
    out, cache = attention(masked=True).apply({}, (q, k, v, np.array([[True, True, False]])))
    assert out.tolist() == [[[1.5]]]
    dq, dk, dv, _ = attention(masked=True).vjp(cache, np.ones((1, 1, 1), np.float32))[1]
    assert dq.tolist() == [[[0.0, 0.0]]]
    assert dk.tolist() == [[[0.0, 0.0]] * 3][0:1]
    assert dv.tolist() == [[[0.5], [0.5], [0.0]]]


@pytest.mark.parametrize("filler", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("masked", [False, True])
def test_a_query_that_sees_one_key_has_its_value(filler: float, masked: bool) -> None:
    q = np.array([[[filler, 1.0], [1.0, filler]]], np.float32)
    k, v = _normal(1, 3 if masked else 1, 2), _normal(1, 3 if masked else 1, 5)
    seen = (np.array([[False, True, False]]),) if masked else ()
    layer: Layer[Any, Any] = attention(masked=True) if masked else attention()
    out, cache = layer.apply({}, (q, k, v, *seen))
    only = v[:, 1:2] if masked else v
    assert np.array_equal(out, np.broadcast_to(only, out.shape))
    _, _, dv, *_ = layer.vjp(cache, np.ones_like(out))[1]
    assert np.array_equal(dv[:, 1:2] if masked else dv, np.full((1, 1, 5), 2, np.float32))
