"""Texts that go on: with what layers keep of the past, the same bits as from the first token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn import (
    alibi,
    bidirectional,
    conv1d,
    cross_attention,
    dense,
    dense_connect,
    drop_context,
    dropout,
    embedding,
    generate,
    graph,
    gru,
    inference_mode,
    keep_context,
    lstm,
    merge,
    named,
    numerics,
    positional_encoding,
    random,
    relative_positions,
    relu,
    residual,
    rms_norm,
    rnn,
    rotary,
    serial,
    share,
    softmax,
    time_distributed,
    with_encoder,
)
from funcnn.models import (
    char_rnn,
    encoder_decoder,
    stepping,
    transformer_decoder_block,
    transformer_encoder_block,
    transformer_lm,
)
from funcnn.types import Array, Layer

Net = Layer[Any, Any]
KEY = random.key(0)
SIZE = 11
START = random.randint(random.key(9), (3, 4), 0, SIZE)


def _chain(*layers: Any) -> Net:
    build: Any = serial
    net: Net = build(embedding(SIZE, 8), *layers, time_distributed(dense(SIZE)))
    return net


def _biased(positions: Any, heads: int = 2, **options: Any) -> Net:
    build: Any = transformer_decoder_block
    leave: Any = drop_context
    return _chain(
        positions,
        *(named(f"b{i}", build(8, heads, 6, biased=True, **options)) for i in (1, 2)),
        leave("bias"),
    )


NETS: dict[str, Net] = {
    "transformer_lm": transformer_lm(SIZE, 20, features=8, heads=2, rate=0.1),
    "char_rnn": char_rnn(SIZE, 6, features=4, layers=2, rate=0.5),
    "gru, positions": _chain(
        positional_encoding(), gru(4), rotary(offset=2), gru(6, reset_after=False)
    ),
    "rnn, projection": _chain(rnn(5, nonlinearity="relu"), lstm(6, projection=4), rms_norm()),
    "rotary, window": _chain(
        transformer_decoder_block(
            8, 4, 6, kv_heads=2, rotary_base=100.0, window=3, soft_cap=2.0, scale=0.7, bias=False
        ),
        named("second", transformer_decoder_block(8, 2, 6, norm="post", activation="gelu")),
        dropout(0.5),
    ),
    "alibi": _biased(alibi(2), window=5),
    "relative positions": _biased(relative_positions(2, buckets=6, max_distance=9)),
    "causal convolutions": _chain(
        conv1d(6, 3, padding="causal", dilation=2, groups=2),
        residual(relu(), conv1d(6, 1), conv1d(6, 4, padding=((3, 0),), bias=False)),
    ),
    "graph": _chain(
        graph(
            gru(8),
            conv1d(8, 2, padding="causal"),
            merge("sum"),
            transformer_decoder_block(8, 2, 6),
            wires={"conv1d1": "x", "merge1": ("gru1", "conv1d1", "x")},
        )
    ),
    "shared": _chain(
        share(transformer_decoder_block(8, 2, 6, rotary_base=50.0), times=3), share(gru(8), times=2)
    ),
    "dense connections": _chain(inference_mode(dense_connect(gru(2), lstm(3), axis=2))),
    "a causal encoder": _chain(transformer_encoder_block(8, 2, 6, causal=True)),
    "not one way": _chain(bidirectional(gru(3))),
    "sees ahead": _chain(conv1d(4, 3, padding=1)),
    "repeats its start": _chain(conv1d(4, 3, padding="causal", padding_mode="replicate")),
    "encoder that sees ahead": _chain(transformer_encoder_block(8, 2, 6)),
}
WHOLE = ["not one way", "sees ahead", "repeats its start", "encoder that sees ahead"]


def _made(net: Net, length: int = 20) -> Any:
    return net.init(KEY, (3, length))[1]


def _logits(net: Net, params: Any, tokens: Array, context: tuple[Any, ...] = ()) -> Array:
    out: Array = net.apply(params, (tokens, *context) if context else tokens)[0][:, -1]
    return out


def _greedy(net: Net, params: Any, tokens: Array, count: int, context: tuple[Any, ...] = ()) -> Any:
    """Each token from the first again, with nothing kept."""
    logits = []
    with numerics.portable():
        for _ in range(count):
            logits.append(_logits(net, params, tokens, context))
            tokens = np.concatenate([tokens, logits[-1].argmax(1)[:, None]], 1)
    return tokens, np.stack(logits, 1)


@pytest.mark.parametrize("name", NETS)
def test_what_is_kept_changes_no_bit(name: str) -> None:
    net, count = NETS[name], 9
    params = _made(net)
    tokens, logits = generate(net, params, START, temperature=0, count=count, return_logits=True)
    expected, by_hand = _greedy(net, params, START, count)
    np.testing.assert_array_equal(tokens, expected)
    assert logits.tobytes() == by_hand.tobytes()


@pytest.mark.parametrize("name", ["transformer_lm", "gru, positions", "not one way"])
def test_what_is_kept_changes_no_draw(name: str) -> None:
    net, count = NETS[name], 9
    params = _made(net)
    for temperature, top_k, top_p in ((1.0, None, None), (2.0, 5, None), (0.7, None, 0.8)):
        runs = [
            generate(
                net, params, START, KEY, temperature, top_k, top_p,
                count=count, cached=cached, return_logits=True,
            )
            for cached in (True, False)
        ]  # fmt: skip
        for one, other in zip(*runs, strict=True):
            assert one.tobytes() == other.tobytes()


def test_the_past_is_kept_where_it_can_be() -> None:
    """All but the last networks go on; each step they get the new tokens alone."""
    for name, net in NETS.items():
        if name in WHOLE:
            with pytest.raises(stepping.Unknown):
                stepping.stepped(net, stepping.Past(9))
        else:
            stepping.stepped(net, stepping.Past(9))


def test_a_past_that_is_kept_wrongly_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS["transformer_lm"]
    params = _made(net)
    options: Any = {"temperature": 0, "count": 3, "return_logits": True}
    expected = generate(net, params, START, cached=False, **options)[1]
    learned = stepping._LOOKING["learned_positions"]
    monkeypatch.setitem(
        stepping._LOOKING, "learned_positions", lambda o, past: learned(o, stepping.Past(0))
    )
    assert generate(net, params, START, **options)[1].tobytes() != expected.tobytes()


def _translated(net: Net) -> None:
    source, lengths = random.randint(KEY, (3, 5), 0, 7), np.array([5, 2, 3])
    params = net.init(KEY, ((3, 4), (3, 5), (3,)))[1]
    found = generate(
        net, params, START, temperature=0, count=6, context=(source, lengths), return_logits=True
    )
    expected, by_hand = _greedy(net, params, START, 6, (source, lengths))
    np.testing.assert_array_equal(found[0], expected)
    assert found[1].tobytes() == by_hand.tobytes()


def test_a_translation() -> None:
    _translated(encoder_decoder(7, SIZE, 12, features=8, heads=2, masked=True))


def test_a_translation_with_a_bias() -> None:
    """A graph makes the bias; the decoder has it beside the encoder's memory."""
    block: Any = transformer_decoder_block(8, 2, 6, memory=True, masked=True, biased=True)
    wires: Any = {
        "alibi1": "embedding1",
        "block": ("alibi1/0", "x/1", "alibi1/1", "x/2"),
        "logits": "block/0",
        "embedding1": "x/0",
    }
    logits = named("logits", time_distributed(dense(SIZE)))
    decoder = graph(embedding(SIZE, 8), alibi(2), named("block", block), logits, wires=wires)
    stepping.stepped(decoder, stepping.Past(9))
    _translated(with_encoder(keep_context(embedding(7, 8), "lengths"), decoder))


def test_what_reads_a_source_in_a_graph_is_run_from_the_start() -> None:
    look: Any = cross_attention(2, masked=True)
    net = graph(
        named("read", serial(embedding(7, 8), gru(8))),
        embedding(SIZE, 8),
        look,
        time_distributed(dense(SIZE)),
        wires={"read": "x/1", "embedding1": "x/0", "cross_attention1": ("embedding1", "read", "x/2")},
    )
    with pytest.raises(stepping.Unknown):
        stepping.stepped(net, stepping.Past(9))
    _translated(net)


def test_prompts_go_on_as_they_would_alone() -> None:
    net = NETS["transformer_lm"]
    params = _made(net)
    prompts = [START[0, :1], START[1], START[2, :3]]
    together = generate(net, params, prompts, KEY, count=7)
    assert [len(text) for text in together] == [8, 11, 10]
    for prompt, text in zip(prompts, together, strict=True):
        np.testing.assert_array_equal(text[: len(prompt)], prompt)
    alone = generate(net, params, prompts[0], KEY, count=7)
    np.testing.assert_array_equal(alone, together[0])


@pytest.mark.parametrize("cached", [True, False])
def test_a_window_moves_on(cached: bool) -> None:
    """Beyond it the network sees the last tokens alone, from position 0 on."""
    net = transformer_lm(SIZE, 6, features=8, heads=2)
    params = _made(net, 6)
    found = generate(net, params, START, temperature=0, count=9, window=6, cached=cached)
    tokens = START
    with numerics.portable():
        for _ in range(9):
            tokens = np.concatenate(
                [tokens, _logits(net, params, tokens[:, -6:]).argmax(1)[:, None]], 1
            )
    np.testing.assert_array_equal(found, tokens)


def _fixed(logits: list[float]) -> tuple[Net, Any]:
    """A network that says the same at every step."""
    net: Net = serial(embedding(len(logits), 1), time_distributed(dense(len(logits))))
    params = net.init(KEY, (1, 1))[1]
    own = next(name for name in params if name.startswith("time"))
    params[own] = {"weight": np.zeros((len(logits), 1)), "bias": np.array(logits)}
    params["embedding1"]["weight"] = np.zeros((len(logits), 1))
    return net, params


def test_tokens_come_as_often_as_their_probability() -> None:
    logits = np.log([0.5, 0.3, 0.15, 0.05])
    net, params = _fixed(logits.tolist())

    def shares(*options: Any) -> Any:
        drawn = generate(net, params, np.zeros((100, 1), int), KEY, *options, count=8)[:, 1:]
        return np.bincount(drawn.ravel(), minlength=4) / drawn.size

    for temperature in (0.5, 2.0):
        wanted = softmax().apply({}, logits[None] / temperature)[0][0]
        np.testing.assert_allclose(shares(temperature), wanted, atol=0.05)
    np.testing.assert_allclose(shares(1.0, 2), [0.625, 0.375, 0, 0], atol=0.05)
    np.testing.assert_allclose(shares(1.0, None, 0.9), np.array([0.5, 0.3, 0.15, 0]) / 0.95, atol=0.05)
    np.testing.assert_array_equal(shares(1.0, None, 0.5), [1, 0, 0, 0])
    np.testing.assert_array_equal(shares(1e-300), [1, 0, 0, 0])


def test_of_equals_the_first_is_taken() -> None:
    net, params = _fixed([0.0, 1.0, 1.0, -np.inf])
    assert generate(net, params, np.array([0]), temperature=0, count=3).tolist() == [0, 1, 1, 1]
    drawn = generate(net, params, np.array([0]), KEY, top_k=1, count=3)
    assert drawn.tolist() == [0, 1, 1, 1]


def test_a_stop_ends_a_text() -> None:
    net, params = _fixed([0.0, 0.0, 0.0])
    texts = generate(net, params, [np.array([2]), np.array([0, 2, 0])], KEY, count=40, stop=2)
    for text, start in zip(texts, (1, 3), strict=True):
        assert text[-1] == 2
        assert not (text[start:-1] == 2).any()
    whole, logits = generate(
        net, params, np.array([[2], [0]]), KEY, count=40, stop=2, return_logits=True
    )
    assert whole.shape == (2, 41)
    assert logits.shape == (2, 40, 3)
    for row in whole:
        ended = int(np.flatnonzero(row[1:] == 2)[0])
        assert (row[1 + ended :] == 2).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "`key` must be given for a temperature above 0, got None"),
        ({"temperature": -1.0}, "`temperature` must be at least 0, got -1.0"),
        ({"top_p": 0.0}, "`top_p` must be above 0, got 0.0"),
        ({"top_k": 0}, "`top_k` must be at least 1, got 0"),
        (
            {"prompt": np.zeros((1, 0), int)},
            "`prompt` must hold texts (T,) of at least 1 token, got shape (0,)",
        ),
        ({"key": KEY, "count": 3, "stop": 99}, "`stop` must be below 11, the tokens of `net`, got 99"),
        ({"key": KEY, "net": None}, "`net` must be a layer, got None"),
        ({"prompt": []}, "`prompt` must hold at least 1 text, got 0"),
        ({"prompt": np.ones(3)}, "`prompt` must be integers, got float64"),
        *(
            ({"prompt": prompt}, "`prompt` must be tokens, got str: write tokenizer.encode(prompt)")
            for prompt in ("The function ", ["The", "function"])
        ),
        (
            {"key": KEY, "count": 30},
            "learned_positions1: `x` must have at most 20 time steps, got shape (3, 34, 8)",
        ),
    ],
)
def test_what_cannot_be_is_refused(options: Any, text: str) -> None:
    net = NETS["transformer_lm"]
    call: Any = {"net": net, "prompt": START, "params": _made(net)} | options
    with pytest.raises((ValueError, TypeError)) as caught:
        generate(**call)
    assert str(caught.value).split(": ", 1)[-1] == text or str(caught.value).endswith(text)


def test_logits_must_be_numbers() -> None:
    net, params = _fixed([0.0, np.nan])
    with pytest.raises(ValueError, match="NaN"):
        generate(net, params, np.array([0]), temperature=0, count=1)
