"""The models, trained for real: each must reach a stated accuracy or loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from funcnn import (
    data,
    fit,
    mean_squared_error,
    optimizers,
    predict,
    random,
    schedules,
    softmax_cross_entropy,
    tree,
)
from funcnn.models import (
    autoencoder,
    char_rnn,
    encoder_decoder,
    lenet,
    mlp,
    mlp_mixer,
    resnet_small,
    transformer_lm,
    vgg_small,
)
from funcnn.testing import check_layer
from funcnn.types import Layer, Loss, Params, Shape, rebuild

Net = Layer[Any, Any]
KEY = random.key(0)

RHYME = """
This is the house that Jack built.
This is the malt that lay in the house that Jack built.
This is the rat that ate the malt that lay in the house that Jack built.
This is the cat that killed the rat that ate the malt that lay in the house that Jack built.
This is the dog that worried the cat that killed the rat that ate the malt that lay in the house
that Jack built.
"""


@cache
def _digits(size: int) -> tuple[data.Dataset, data.Dataset]:
    """1,437 real digits to train, 360 to test."""
    first, second = data.split(KEY, data.digits(size), 0.2)
    return (first, second) if len(first.x) > len(second.x) else (second, first)


def _trained(
    net: Net, train: data.Dataset, epochs: int, rate: float, loss: Loss | None = None
) -> Params:
    loss = softmax_cross_entropy() if loss is None else loss
    optimizer = optimizers.adam(schedules.cosine(rate, epochs * -(-len(train.x) // 32)))
    return fit(net, loss, optimizer, train, key=KEY, epochs=epochs, progress=False).params


# --- digits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "size", "epochs", "rate", "accuracy"),
    [
        (lenet(), 28, 9, 5e-3, 0.965),
        (mlp((64,), 10, rate=0.1), 8, 8, 5e-3, 0.95),
        (vgg_small(widths=(8, 16), hidden=(32,)), 8, 4, 1e-2, 0.975),
        (resnet_small(depth=8, width=8), 8, 3, 1e-2, 0.97),
        (mlp_mixer((8, 8), patch=4, features=32, depth=2), 8, 6, 1e-2, 0.95),
    ],
    ids=["lenet", "mlp", "vgg_small", "resnet_small", "mlp_mixer"],
)
def test_digits_are_told_apart(net: Net, size: int, epochs: int, rate: float, accuracy: float) -> None:
    train, test = _digits(size)
    params = _trained(net, train, epochs, rate)
    found = predict(net, params, test.x).argmax(1)
    assert (found == test.y).mean() >= accuracy


def test_an_autoencoder_draws_digits_from_sixteen_numbers() -> None:
    train, test = _digits(8)
    net = autoencoder((1, 8, 8), 16, widths=(16,))
    params = _trained(net, data.Dataset(train.x, train.x), 6, 1e-2, mean_squared_error())
    error = np.mean((predict(net, params, test.x) - test.x) ** 2)
    of_the_mean_digit = np.mean((train.x.mean(0) - test.x) ** 2)
    assert error < 0.2 * of_the_mean_digit


# --- texts ----------------------------------------------------------------------------------------


def _windows(length: int) -> tuple[data.Dataset, str]:
    """All pieces of the rhyme of one length, with the pieces one character further on."""
    letters = "".join(sorted(set(RHYME)))
    text = np.array([letters.index(letter) for letter in RHYME])
    pieces = np.lib.stride_tricks.sliding_window_view(text, length + 1)
    return data.Dataset(pieces[:, :-1].copy(), pieces[:, 1:].copy()), letters


def _written(net: Net, params: Params, letters: str, start: str, count: int) -> str:
    """The likeliest continuation, character by character."""
    text = start
    for _ in range(count):
        tokens = np.array([[letters.index(letter) for letter in text[-24:]]])
        text += letters[int(net.apply(params, tokens)[0][0, -1].argmax())]
    return text


@pytest.mark.parametrize(
    ("build", "epochs", "rate"),
    [
        (lambda size: char_rnn(size, 48, cell="gru", features=16), 12, 1e-2),
        (lambda size: transformer_lm(size, 24, features=32, heads=4, depth=1, hidden=64), 14, 1e-2),
    ],
    ids=["char_rnn", "transformer_lm"],
)
def test_a_rhyme_is_learnt(build: Callable[[int], Net], epochs: int, rate: float) -> None:
    train, letters = _windows(24)
    net = build(len(letters))
    params = _trained(net, train, epochs, rate)
    loss, _ = softmax_cross_entropy().apply(net.apply(params, train.x)[0], train.y)
    assert loss < 0.35  # nats for each character; a guess costs 3.2
    assert "the rat that ate the malt" in _written(net, params, letters, "This is the rat ", 40)


@pytest.mark.parametrize("tie", [True, False])
def test_no_token_sees_a_later_one(tie: bool) -> None:
    net = transformer_lm(7, 6, features=8, heads=2, depth=2, tie=tie)
    _, params = net.init(KEY, (1, 6))
    tokens = np.array([[1, 2, 3, 4, 5, 6]])
    whole, _ = net.apply(params, tokens)
    for length in range(1, 6):
        tokens[:, length:] = 0
        part, _ = net.apply(params, tokens)
        np.testing.assert_allclose(part[:, :length], whole[:, :length], rtol=1e-4, atol=1e-5)
        tokens = np.array([[1, 2, 3, 4, 5, 6]])
    assert ("logits" in params) is not tie


# --- what they are --------------------------------------------------------------------------------

_TOKENS = np.array([[0, 3, 1], [4, 4, 2]])
_SMALL: list[Any] = [
    (lenet(3, channels=(2, 3), hidden=(4,)), (2, 1, 16, 16), None),
    (mlp((4, 3), 2, rate=0.5), (3, 1, 2, 2), None),
    (mlp((), 2), (3, 4), None),
    (vgg_small(3, widths=(2, 3), convolutions=1, hidden=(), rate=0.5), (4, 2, 4, 4), None),
    (resnet_small(3, depth=8, width=2), (4, 1, 8, 8), None),
    (
        mlp_mixer((4, 4), 3, patch=2, features=4, token_hidden=3, channel_hidden=5, depth=1),
        (2, 1, 4, 4),
        None,
    ),
    (autoencoder((1, 4, 4), 2, widths=(2, 3)), (2, 1, 4, 4), None),
    *(
        (char_rnn(5, 3, cell=cell, features=2, rate=0.5), (2, 3), _TOKENS)
        for cell in ("lstm", "gru", "rnn")
    ),
    (char_rnn(5, 3, layers=2), (2, 3), _TOKENS),
    (transformer_lm(5, 3, features=4, heads=2, depth=1, rate=0.5), (2, 3), _TOKENS),
    (transformer_lm(5, 3, features=4, heads=2, depth=1, tie=False), (2, 3), _TOKENS),
    pytest.param(
        encoder_decoder(5, 4, 3, features=2, heads=1, depth=1, masked=True, rate=0.5),
        ((2, 2), (2, 3), (2,)),
        (_TOKENS[:, 1:] % 4, _TOKENS, np.array([2, 3])),
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("net", "shape", "x"), _SMALL, ids=lambda value: repr(value)[:40])
def test_models_keep_every_law_of_layers(net: Net, shape: Shape, x: Any) -> None:
    check_layer(net, shape, x=x)
    assert repr(rebuild(net.spec)) == repr(net)


def _weights(net: Net, shape: Shape) -> int:
    return tree.count(net.init(random.NO_DRAW, shape)[1])


def test_they_have_the_parameters_that_the_papers_count() -> None:
    assert _weights(lenet(), (1, 1, 32, 32)) == 61_706  # LeNet-5 as it is taught
    for depth, millions in ((20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)):
        # He et al., table 6; they count no running statistics, and no 1x1 convolutions
        count = _weights(resnet_small(depth=depth), (1, 3, 32, 32))
        assert count / 1e6 == pytest.approx(millions, abs=0.012)
    gpt2 = transformer_lm(50257, 1024, features=768, heads=12, depth=12)
    assert _weights(gpt2, (1, 1024)) / 1e6 == pytest.approx(124.4, abs=0.1)


def test_stages_halve_the_size_and_double_the_channels() -> None:
    _, params = resnet_small(depth=14, width=4).init(random.NO_DRAW, (1, 3, 16, 16))
    assert [list(params[f"stage{i}"]) for i in (1, 2, 3)] == [["serial1", "serial2"]] * 3
    widths = [params[f"stage{i}"]["serial2"]["residual1"]["conv2"]["weight"].shape for i in (1, 2, 3)]
    assert widths == [(4, 4, 3, 3), (8, 8, 3, 3), (16, 16, 3, 3)]
    assert "shortcut" not in params["stage1"]["serial1"]["residual1"]
    assert "shortcut" in params["stage2"]["serial1"]["residual1"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lenet(0), "lenet: `classes` must be at least 1, got 0"),
        (
            lambda: resnet_small(depth=10),
            "resnet_small: `depth` must be 6 n + 2, such as 8, 14 or 20, got 10",
        ),
        (lambda: mlp_mixer((8, 9)), "mlp_mixer: `image_size` must be multiples of 4, got (8, 9)"),
        (
            lambda: autoencoder((1, 6, 8), 2),
            "autoencoder: `image_shape` must have multiples of 4 as sides, got (1, 6, 8)",
        ),
        (
            lambda: char_rnn(5, cell="cnn"),
            "char_rnn: `cell` must be one of 'lstm', 'gru', 'rnn', got 'cnn'",
        ),
        (lambda: transformer_lm(5, 3, depth=0), "transformer_lm: `depth` must be at least 1, got 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        call()
    assert str(caught.value) == message


def test_errors_have_the_path_in_the_model() -> None:
    net = resnet_small(depth=8, width=2)
    _, params = net.init(KEY, (1, 3, 8, 8))
    with pytest.raises(ValueError, match="stem") as caught:
        net.apply(params, np.zeros((1, 1, 8, 8), np.float32))
    assert str(caught.value) == "stem/conv1: `x` must have 3 channels, got shape (1, 1, 8, 8)"
