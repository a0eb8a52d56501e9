"""Cases of sequences: recurrent layers, attention, embeddings, positions, and their combinators."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import (
    alibi,
    attention,
    batch_norm,
    bidirectional,
    bilinear,
    clean_padding,
    cosine_similarity,
    cross_attention,
    dense,
    drop_context,
    dropout,
    embedding,
    embedding_bag,
    gru,
    initializers as start,
    keep_context,
    last_step,
    layer_norm,
    learned_positions,
    lstm,
    masked_max_pool,
    masked_mean_pool,
    multi_head_attention,
    pairwise_distance,
    positional_encoding,
    random,
    relative_positions,
    relu,
    residual_with_context,
    rnn,
    rotary,
    serial,
    time_distributed,
    with_context,
    with_encoder,
)
from funcnn.models import transformer_decoder_block, transformer_encoder_block
from funcnn.types import Array
from tests.registry import Case


def _normal(*shape: int) -> Array:
    return random.normal(random.key(11), shape, dtype=np.float64)


def _zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


_LENGTHS = np.array([3, 0, 2, 1])
_ONE, _FOUR = _normal(4, 1, 2), _normal(4, 4, 2)

_RECURRENT = [
    Case(
        lstm(2),
        (4, 3, 5),
        refused=(
            (_zeros(4, 5), "lstm: `x` must have 3 axes (N, T, F), got shape (4, 5)"),
            (_zeros(4, 3, 6), "lstm: `x` must have 5 features, got shape (4, 3, 6)"),
            (
                _zeros(4, 3, 5, dtype=np.float64),
                "lstm: `x` must be float32 as the parameters are, got float64: "
                "write x.astype(np.float32)",
            ),
        ),
    ),
    Case(gru(2), (4, 3, 5)),
    Case(rnn(2), (4, 3, 5)),
    Case(rnn(3, nonlinearity="relu"), (4, 3, 2)),
    Case(lstm(1), (2, 1, 1), note="one step"),
    Case(lstm(2, layers=2), (2, 3, 2)),
    Case(gru(2, bidirectional=True), (2, 3, 2)),
    Case(rnn(2, bidirectional=True, layers=2), (2, 3, 2)),
    Case(lstm(2, reverse=True), (2, 3, 2)),
    Case(gru(2, reverse=True), (2, 3, 2)),
    Case(rnn(2, reverse=True, bias=False), (2, 3, 2)),
    Case(gru(2, bias=False), (2, 3, 2)),
    Case(lstm(2, bias=False, bidirectional=True), (2, 3, 2)),
    *(
        Case(
            build(2, weight_init=start.orthogonal(), bias_init=start.normal(0.1)),
            (2, 3, 2),
        )
        for build in (rnn, lstm, gru)
    ),
    Case(
        rnn(2, carry=True),
        ((4, 3, 5), (4, 1, 2)),
        refused=(
            (_zeros(4, 3, 5), "rnn: `x` must be a tuple (x, carry), got ndarray"),
            (
                (_zeros(4, 3, 5), _zeros(4, 2, 2)),
                "rnn: `carry` must have shape (4, 1, 2), got (4, 2, 2)",
            ),
            (
                (_zeros(4, 3, 5), _zeros(4, 1, 2), _zeros(4)),
                "rnn: `x` must be a tuple (x, carry), got 3 things",
            ),
        ),
    ),
    Case(gru(2, carry=True, layers=2), ((3, 2, 2), (3, 2, 2))),
    Case(
        lstm(2, carry=True),
        ((4, 3, 5), ((4, 1, 2), (4, 1, 2))),
        refused=(
            (
                (_zeros(4, 3, 5), _zeros(4, 1, 2)),
                "lstm: `carry` must be a tuple (h, c), got ndarray",
            ),
        ),
    ),
    Case(
        lstm(2, lengths=True),
        ((4, 3, 2), (4,)),
        x=(_normal(4, 3, 2), _LENGTHS),
        refused=(
            (
                (_zeros(4, 3, 2), np.array([1, 2, 3, 4])),
                "lstm: `lengths` must lie in 0..3, got 4",
            ),
            (
                (_zeros(4, 3, 2), np.array([1, 2])),
                "lstm: `lengths` must have shape (4,), got (2,)",
            ),
            ((_zeros(4, 3, 2), _zeros(4)), "lstm: `lengths` must be integers, got float32"),
        ),
    ),
    Case(rnn(2, lengths=True), ((4, 3, 2), (4,)), x=(_normal(4, 3, 2), _LENGTHS)),
    Case(
        gru(2, lengths=True, carry=True, reverse=True),
        ((4, 3, 2), (4, 1, 2), (4,)),
        x=(_normal(4, 3, 2), _ONE, _LENGTHS.astype(np.uint8)),
    ),
    Case(
        lstm(2, lengths=True, carry=True, layers=2, bidirectional=True),
        ((4, 3, 2), ((4, 4, 2), (4, 4, 2)), (4,)),
        x=(_normal(4, 3, 2), (_FOUR, _FOUR[::-1]), _LENGTHS),
    ),
]

_FLAGS = np.array([[True, False, True], [False] * 3, [False, True, True], [True, False, False]])

_RECURRENT += [
    Case(rnn(2, layers=3, rate=0.5), (2, 2, 2)),
    Case(gru(2, layers=2, bidirectional=True, rate=0.25, reset_after=False), (2, 2, 2)),
    Case(gru(2, reset_after=False, bias=False, reverse=True), (3, 3, 4)),
    Case(
        gru(3, reset_after=False, lengths=True, carry=True),
        ((4, 3, 2), (4, 1, 3), (4, 3)),
        x=(_normal(4, 3, 2), _normal(4, 1, 3), _FLAGS),
    ),
    Case(
        lstm(3, projection=2, carry=True, layers=2, rate=0.5),
        ((2, 2, 2), ((2, 2, 2), (2, 2, 3))),
        refused=(
            (
                (_zeros(2, 2, 2), (_zeros(2, 2, 3), _zeros(2, 2, 3))),
                "lstm: `carry` must have shape (2, 2, 2), got (2, 2, 3)",
            ),
        ),
    ),
    Case(
        lstm(3, projection=1, lengths=True, bias=False),
        ((4, 3, 2), (4, 3)),
        x=(_normal(4, 3, 2), np.arange(3) < _LENGTHS[:, None]),
        refused=(
            (
                (_zeros(4, 3, 2), _FLAGS[:, :2]),
                "lstm: `lengths` must have shape (4, 3), got (4, 2)",
            ),
        ),
    ),
]

_POOLED = [
    Case(last_step(), (3, 4, 2)),
    Case(last_step(masked=True), ((4, 3, 2), (4,)), x=(_normal(4, 3, 2), _LENGTHS)),
    *(
        Case(pool, ((4, 3, 2), (4, 3)), x=(_normal(4, 3, 2), _FLAGS))
        for pool in (last_step(masked=True), masked_mean_pool(), masked_max_pool())
    ),
    Case(
        masked_mean_pool(),
        ((4, 3, 2), (4,)),
        x=(_normal(4, 3, 2), _LENGTHS),
        refused=(
            (_zeros(4, 3, 2), "masked_mean_pool: `x` must be a tuple (x, mask), got ndarray"),
            (
                (_zeros(4, 3, 2), _zeros(4, 3)),
                "masked_mean_pool: `mask` must be boolean, got float32",
            ),
            (
                (_zeros(4, 3, 2), np.array([0, 1, 2, 4])),
                "masked_mean_pool: `mask` must lie in 0..3, got 4",
            ),
        ),
    ),
]

_SEEN = np.array([[True, False, True, True], [False] * 4, [False, False, True, False]])
_PAIRS = np.stack([_SEEN, ~_SEEN, _SEEN[::-1]])
_Q, _K, _V = _normal(3, 3, 2), _normal(3, 4, 2), _normal(3, 4, 5)
_PADDED = (_normal(3, 4, 6), _SEEN)

_ATTENTION = [
    Case(
        attention(),
        ((3, 3, 2), (3, 4, 2), (3, 4, 5)),
        refused=(
            (
                (_zeros(3, 3, 2), _zeros(3, 4, 3), _zeros(3, 4, 5)),
                "attention: `k` must have shape (3, 4, 2), got (3, 4, 3)",
            ),
            (
                (_zeros(3, 3, 2), _zeros(3, 4, 2), _zeros(3, 5, 5)),
                "attention: `v` must have shape (3, 4, 5), got (3, 5, 5)",
            ),
            (
                (_zeros(3, 3, 2), _zeros(3, 0, 2), _zeros(3, 0, 5)),
                "attention: `k` must not be empty beyond the batch, got shape (3, 0, 2)",
            ),
        ),
    ),
    Case(attention(causal=True), ((3, 3, 2), (3, 4, 2), (3, 4, 5))),
    Case(attention(rate=0.5), ((3, 3, 2), (3, 4, 2), (3, 4, 5))),
    Case(
        attention(masked=True),
        ((3, 3, 2), (3, 4, 2), (3, 4, 5), (3, 4)),
        x=(_Q, _K, _V, _SEEN),
        refused=(
            (
                (_zeros(3, 3, 2), _zeros(3, 4, 2), _zeros(3, 4, 5), _zeros(3, 4)),
                "attention: `mask` must be boolean, got float32",
            ),
            (
                (_zeros(3, 3, 2), _zeros(3, 4, 2), _zeros(3, 4, 5), np.ones((3, 5), np.bool_)),
                "attention: `mask` must have shape (3, 4), got (3, 5)",
            ),
        ),
    ),
    Case(
        attention(masked=True, causal=True),
        ((3, 3, 2), (3, 4, 2), (3, 4, 5), (3, 3, 4)),
        x=(_Q, _K, _V, _PAIRS),
    ),
    Case(
        multi_head_attention(2),
        (3, 4, 6),
        refused=(
            (
                _zeros(3, 4, 5),
                "multi_head_attention: `x` must have 6 features, got shape (3, 4, 5)",
            ),
            (
                _zeros(3, 0, 6),
                "multi_head_attention: `x` must not be empty beyond the batch, got shape (3, 0, 6)",
            ),
        ),
    ),
    Case(multi_head_attention(1, causal=True, bias=False), (3, 4, 3)),
    Case(multi_head_attention(2, features=4, rate=0.25), (3, 4, 3)),
    Case(multi_head_attention(4, kv_heads=2, rotary_base=100.0, causal=True), (2, 3, 8)),
    Case(multi_head_attention(3, kv_heads=1), (2, 3, 6)),
    Case(
        multi_head_attention(2, weight_init=start.lecun_normal(), bias_init=start.normal(0.1)),
        (2, 3, 4),
    ),
    Case(multi_head_attention(2, masked=True), ((3, 4, 6), (3, 4)), x=_PADDED),
    Case(
        multi_head_attention(2, masked=True, causal=True),
        ((3, 3, 4), (3, 3, 3)),
        x=(_normal(3, 3, 4), _PAIRS[:, :, :3]),
    ),
    Case(cross_attention(2), ((3, 3, 4), (3, 4, 5))),
    Case(
        cross_attention(2, features=8, kv_heads=1, bias=False, rate=0.5),
        ((3, 3, 4), (3, 4, 5)),
        refused=(
            (
                (_zeros(3, 3, 4), _zeros(2, 4, 5)),
                "cross_attention: `memory` must have shape (3, 4, 5), got (2, 4, 5)",
            ),
        ),
    ),
    Case(
        cross_attention(2, masked=True, weight_init=start.he_normal(), bias_init=start.normal(1.0)),
        ((3, 3, 4), (3, 4, 5), (3, 4)),
        x=(_normal(3, 3, 4), _normal(3, 4, 5), _SEEN),
    ),
]

_BIAS = _normal(2, 2, 3, 3)
_ATTENTION += [
    Case(
        attention(biased=True, masked=True, scale=0.5, soft_cap=1.5, return_weights=True),
        ((3, 3, 2), (3, 4, 2), (3, 4, 5), (3, 3, 4), (3,)),
        x=(_Q, _K, _V, _normal(3, 3, 4), np.array([4, 0, 2])),
        refused=(
            (
                (*(_zeros(3, 3, 2),) * 3, _zeros(3, 3, 4), np.array([3, 3, 3])),
                "attention: `bias` must have shape (3, 3, 3), got (3, 3, 4)",
            ),
        ),
    ),
    Case(attention(causal=True, window=1, offset=1), ((2, 2, 2), (2, 4, 2), (2, 4, 1))),
    Case(
        multi_head_attention(2, separate=True, causal=True, offset=1, rotary_base=10.0, soft_cap=2.0),
        ((2, 2, 4), (2, 3, 3), (2, 3, 2)),
        refused=(
            (
                (_zeros(2, 2, 4), _zeros(2, 3, 3), _zeros(2, 4, 2)),
                "multi_head_attention: `value` must have shape (2, 3, 2), got (2, 4, 2)",
            ),
        ),
    ),
    Case(
        multi_head_attention(2, biased=True, scale=0.7, window=1, return_weights=True),
        ((2, 3, 4), (2, 2, 3, 3)),
        x=(_normal(2, 3, 4), _BIAS),
    ),
    Case(
        cross_attention(1, biased=True, masked=True, scale=2.0, soft_cap=3.0, return_weights=True),
        ((2, 2, 2), (2, 3, 3), (2, 2, 3), (2,)),
        x=(_normal(2, 2, 2), _normal(2, 3, 3), _normal(2, 2, 3), np.array([2, 3])),
    ),
    Case(alibi(3), (2, 3, 2)),
    Case(relative_positions(2, buckets=8, max_distance=3), (2, 6, 1)),
    Case(
        relative_positions(1, both=False, buckets=5, max_distance=4, weight_init=start.normal(1.0)),
        (2, 6, 2),
    ),
]

_TOKENS = np.array([[0, 1, 4], [4, 4, 2], [2, 0, 4]])

_EMBEDDING = [
    Case(
        embedding_bag(5, 3, mode="max", weight_init=start.normal(0.5)),
        (3, 2),
        x=np.array([[0, 4], [2, 2], [1, 3]]),
    ),
    Case(
        embedding_bag(5, 3, padding_index=0),
        (3, 3),
        x=np.array([[0, 4, 2], [0, 0, 0], [1, 1, 3]]),
        refused=(
            (np.array([[5]]), "embedding_bag: `x` must lie in 0..4, got 5"),
            (np.array([1]), "embedding_bag: `x` must have 2 axes (N, T), got shape (1,)"),
        ),
    ),
    Case(
        embedding_bag(5, 3, mode="sum", weighted=True, padding_index=2),
        ((3, 2), (3, 2)),
        x=(np.array([[0, 4], [2, 2], [1, 2]]), random.normal(random.key(2), (3, 2))),
    ),
    Case(
        embedding(5, 3),
        (3, 3),
        x=_TOKENS,
        refused=(
            (np.array([[0, 5]]), "embedding: `x` must lie in 0..4, got 5"),
            (np.array([[-1, 0]]), "embedding: `x` must lie in 0..4, got -1"),
            (_zeros(3, 3), "embedding: `x` must be integers, got float32"),
            (np.array(3), "embedding: `x` must have at least 1 axis, got shape ()"),
        ),
    ),
    Case(embedding(5, 3, padding_index=4), (3, 3), x=_TOKENS.astype(np.uint8)),
    Case(embedding(6, 2, weight_init=start.glorot_normal()), (3,), x=_TOKENS[0]),
    Case(embedding(5, 2), (3, 1, 3), x=_TOKENS[:, None]),
    Case(positional_encoding(), (2, 3, 4)),
    Case(positional_encoding(base=100.0), (2, 3, 5)),
    Case(
        learned_positions(4),
        (2, 3, 5),
        refused=(
            (
                _zeros(2, 5, 5),
                "learned_positions: `x` must have at most 4 time steps, got shape (2, 5, 5)",
            ),
        ),
    ),
    Case(learned_positions(3, weight_init=start.ones()), (2, 3, 1)),
    Case(
        rotary(),
        (2, 3, 4),
        refused=(
            (
                _zeros(2, 3, 5),
                "rotary: `x` must have an even number of features, got shape (2, 3, 5)",
            ),
        ),
    ),
    Case(rotary(base=10.0, interleaved=False), (2, 3, 6)),
    Case(rotary(offset=3), (2, 2, 2)),
]

_LINEAR = [
    Case(
        bilinear(3),
        ((2, 3), (2, 4)),
        refused=(
            ((_zeros(2, 3), _zeros(2, 3)), "bilinear: `x2` must have 4 features, got shape (2, 3)"),
            ((_zeros(2, 3), _zeros(3, 4)), "bilinear: `x2` must have shape (2, 4), got (3, 4)"),
            (_zeros(2, 3), "bilinear: `x` must be a tuple (x1, x2), got ndarray"),
        ),
    ),
    Case(bilinear(2, bias=False), ((3, 2), (3, 1))),
    Case(pairwise_distance(norm_type=3, epsilon=0.01, keepdims=True), ((2, 3, 2), (2, 3, 2))),
    Case(
        pairwise_distance(),
        ((3, 4), (3, 4)),
        refused=(
            (
                (_zeros(2, 3), _zeros(2, 4)),
                "pairwise_distance: `x2` must have shape (2, 3), got (2, 4)",
            ),
        ),
    ),
    Case(cosine_similarity(), ((3, 4), (3, 4))),
    Case(cosine_similarity(axis=-1, epsilon=0.0), ((2, 3, 2), (2, 3, 2))),
    Case(bilinear(2, weight_init=start.he_normal(), bias_init=start.ones()), ((3, 2), (3, 2))),
]

_CONTEXT = (_TOKENS, _normal(3, 4), _SEEN)

_COMBINED = [
    Case(
        time_distributed(dense(2)),
        (3, 4, 5),
        refused=(
            (
                _zeros(3, 5),
                "time_distributed: `x` must have 3 axes (N, T, F), got shape (3, 5)",
            ),
            (_zeros(3, 4, 6), "dense: `x` must have 5 features, got shape (12, 6)"),
        ),
    ),
    Case(time_distributed(serial(dense(3), batch_norm(), relu(), dropout(0.5))), (3, 4, 2)),
    *(
        Case(bidirectional(build(2), merge=merge), (2, 3, 4))
        for build, merge in (
            (gru, "concatenate"),
            (rnn, "sum"),
            (lstm, "mean"),
            (gru, "product"),
        )
    ),
    Case(
        bidirectional(serial(time_distributed(serial(dense(3), batch_norm())), lstm(2), dropout(0.5))),
        (3, 3, 4),
        refused=(
            (
                _zeros(3, 3, 5),
                "forward/time_distributed1/dense1: `x` must have 4 features, got shape (9, 5)",
            ),
        ),
    ),
    Case(
        keep_context(serial(time_distributed(serial(dense(2), batch_norm())), dropout(0.5)), "mask"),
        ((3, 4, 6), (3, 4)),
        x=_PADDED,
        refused=(
            (_zeros(3, 4, 6), "keep_context: `x` must be a tuple (x, mask), got ndarray"),
            ((), "keep_context: `x` must be a tuple (x, mask), got 0 things"),
            (
                (_zeros(3, 4, 6), _zeros(3, 4)),
                "keep_context: `mask` must be boolean, got float32",
            ),
        ),
    ),
    Case(residual_with_context(cross_attention(2)), ((3, 3, 4), (3, 4, 5))),
    Case(
        residual_with_context(cross_attention(2, masked=True, rate=0.5)),
        ((3, 3, 4), (3, 4, 5), (3, 4)),
        x=(_normal(3, 3, 4), _normal(3, 4, 5), _SEEN),
    ),
    Case(keep_context(gru(2), "memory"), ((2, 3, 2), (2, 5))),
    Case(keep_context(embedding(5, 2), "memory, mask"), ((3, 3), (3, 4), (3, 4)), x=_CONTEXT),
    Case(
        clean_padding(),
        ((3, 4, 6), (3, 4)),
        x=_PADDED,
        refused=(
            (
                (_zeros(3, 4, 6), _SEEN[:, :3]),
                "clean_padding: `mask` must have shape (3, 4), got (3, 3)",
            ),
        ),
    ),
    Case(drop_context("mask"), ((3, 4, 6), (3, 4)), x=_PADDED),
    Case(drop_context("memory"), ((3, 4, 6), (3, 4))),
    Case(
        with_context(lstm(2, lengths=True)),
        ((4, 3, 2), (4,)),
        x=(_normal(4, 3, 2), _LENGTHS),
        refused=((_zeros(4, 3, 2), "with_context: `x` must be a tuple (x, ...), got ndarray"),),
    ),
    Case(with_context(cross_attention(2)), ((3, 3, 4), (3, 4, 5))),
    Case(
        with_encoder(gru(2), cross_attention(2)),
        ((2, 2, 4), (2, 3, 3)),
        refused=(
            ((_zeros(2, 2, 4),), "with_encoder: `x` must be a tuple (x, context, ...), got one of 1"),
            (
                (_zeros(2, 2, 5), _zeros(2, 3, 3)),
                "decoder: `x` must have 4 features, got shape (2, 2, 5)",
            ),
        ),
    ),
    Case(
        with_encoder(keep_context(embedding(5, 2), "lengths"), cross_attention(1, masked=True)),
        ((3, 2, 2), (3, 3), (3,)),
        x=(_normal(3, 2, 2), _TOKENS, np.array([3, 0, 2])),
    ),
    Case(
        serial(
            keep_context(embedding(5, 3), "lengths"),
            with_context(gru(2, lengths=True, bidirectional=True)),
            with_context(multi_head_attention(2, masked=True)),
            masked_mean_pool(),
            dense(2),
        ),
        ((3, 3), (3,)),
        x=(_TOKENS, np.array([3, 0, 2])),
        note="lengths all the way",
    ),
    Case(
        serial(
            keep_context(time_distributed(layer_norm()), "mask"),
            residual_with_context(multi_head_attention(2, masked=True)),
            drop_context("mask"),
            lstm(2),
        ),
        ((3, 4, 6), (3, 4)),
        x=_PADDED,
    ),
]

_MEMORY = (_normal(3, 3, 4), _normal(3, 4, 5), _SEEN)

_BLOCKS = [
    Case(transformer_encoder_block(4, 2, 3), (2, 3, 4)),
    Case(transformer_encoder_block(4, 2, 3, norm="post", rate=0.25, activation="gelu"), (2, 3, 4)),
    Case(transformer_encoder_block(6, 3, 2, masked=True, norm="post"), ((3, 4, 6), (3, 4)), x=_PADDED),
    Case(transformer_encoder_block(6, 2, 2, masked=True, rate=0.5), ((3, 4, 6), (3, 4)), x=_PADDED),
    Case(transformer_decoder_block(8, 2, 2, kv_heads=1, rotary_base=100.0), (2, 3, 8)),
    Case(transformer_decoder_block(4, 2, 3, memory=True), ((3, 3, 4), (3, 4, 5))),
    Case(
        transformer_decoder_block(4, 1, 3, memory=True, masked=True),
        ((3, 3, 4), (3, 4, 5), (3, 4)),
        x=_MEMORY,
    ),
    Case(
        transformer_encoder_block(4, 2, 3, masked=True, biased=True, causal=True),
        ((3, 4, 4), (3, 4, 4), (3,)),
        x=(_normal(3, 4, 4), _normal(3, 4, 4), np.array([3, 0, 4])),
    ),
    Case(
        transformer_decoder_block(4, 2, 3, memory=True, masked=True, biased=True, norm="post"),
        ((3, 3, 4), (3, 4, 5), (3, 3, 3), (3, 4)),
        x=(*_MEMORY[:2], _normal(3, 3, 3), _SEEN),
    ),
    Case(
        serial(
            transformer_decoder_block(4, 2, 3, memory=True, norm="post", rate=0.5, activation="gelu"),
            drop_context("memory"),
        ),
        ((3, 3, 4), (3, 4, 5)),
    ),
]

LAYERS = [*_RECURRENT, *_POOLED, *_ATTENTION, *_EMBEDDING, *_LINEAR, *_COMBINED, *_BLOCKS]
