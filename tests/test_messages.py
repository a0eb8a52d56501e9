"""Wrong use gets an exact message: who refuses, by its path in the network, what must be, what came.

What a single layer or loss refuses stands beside its cases in `tests/cases`. Here is what somebody
sees who makes a mistake in a program.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcnn
from funcnn import (
    batch_norm,
    bilinear,
    col2im,
    conv,
    data,
    dense,
    embedding,
    evaluate,
    fit,
    flatten,
    im2col,
    initializers,
    l1,
    losses,
    max_pool,
    mean_squared_error,
    models,
    multi_head_attention,
    named,
    one_hot,
    optimizers,
    predict,
    random,
    relu,
    residual,
    serial,
    sgd_update,
    softmax_cross_entropy,
    train_state,
    tree,
    value_and_grad,
)
from funcnn.checks import Refusal
from funcnn.types import Layer

Wrong = Callable[[], Any]

KEY = random.key(0)
NET: Any = named(
    "lenet", serial(conv(4, 3), relu(), max_pool(2), flatten(), named("head", serial(dense(3))))
)
SHAPE = (4, 1, 6, 6)
_, PARAMS = NET.init(KEY, SHAPE)
X: Any = random.normal(KEY, SHAPE)
Y = np.array([0, 1, 2, 0])
_, HEAD = serial(dense(3)).init(KEY, (4, 6))
PAIR: Any = bilinear(2)
_, PAIR_PARAMS = PAIR.init(KEY, ((4, 6), (4, 3)))
LOSS: Any = softmax_cross_entropy()
TRAIN = data.Dataset(X, Y)
LOOSE: Any = {"fit": fit, "sgd_update": sgd_update, "dense": dense, "conv": conv, "serial": serial}
LOOSE |= {"one": np.int64(1)}


def _step(x: Any = X, y: Any = Y, params: Any = PARAMS, key: Any = None) -> Any:
    return value_and_grad(NET, LOSS)(params, x, y, key)


def _fit(**changes: Any) -> Any:
    given: dict[str, Any] = {"net": NET, "loss": LOSS, "optimizer": optimizers.sgd(0.1), "train": TRAIN}
    given |= {"key": KEY, "epochs": 1} | changes
    main = [given.pop(name) for name in ("net", "loss", "optimizer", "train")]
    return LOOSE["fit"](*main, **given)


def _with_bias(change: Callable[[Any], Any]) -> Any:
    return tree.replace(PARAMS, {"head/dense1/bias": change(PARAMS["head"]["dense1"]["bias"])})


class _Subclass(np.ndarray[Any, Any]):
    """An array that could do anything."""


def _dout(dout: Any, cache: Any = None, vjp: Any = NET.vjp) -> Any:
    return vjp(NET.apply(PARAMS, X)[1] if cache is None else cache, dout)


_CONV1, _DENSE1 = "lenet/conv1: ", "lenet/head/dense1: "
_CACHE = "`cache` must be what `apply` of this network has returned, got "
_SGD = "sgd_update: "
_KEY = "must be a funcnn Key, got {}: write funcnn.random.key(0)"

WRONG: list[tuple[Wrong, str]] = [
    # x
    (lambda: _step(X.tolist()), "value_and_grad: `x` must be a NumPy array, got list"),
    (lambda: _step(None), "value_and_grad: `x` must be a NumPy array, got NoneType"),
    (lambda: _step(np.array(1.0)), "value_and_grad: `x` must have a batch axis, got shape ()"),
    (
        lambda: _step(np.ma.masked_invalid(X)),
        "value_and_grad: `x` must be a plain NumPy array, got MaskedArray: write x.filled(0)",
    ),
    (
        lambda: NET.apply(PARAMS, X.view(_Subclass)),
        _CONV1 + "`x` must be a plain NumPy array, got _Subclass: write np.asarray(x)",
    ),
    (
        lambda: _step(np.uint8(255) * np.ones(SHAPE, np.uint8)),
        _CONV1 + "`x` must be float32 or float64, got uint8: write x.astype(np.float32)",
    ),
    (
        lambda: _step(X.astype(np.float16)),
        _CONV1 + "`x` must be float32 or float64, got float16: write x.astype(np.float32)",
    ),
    (
        lambda: _step(X.astype(np.complex64)),
        _CONV1 + "`x` must be float32 or float64, got complex64: write x.astype(np.float32)",
    ),
    (
        lambda: _step(X.astype(object)),
        _CONV1 + "`x` must be float32 or float64, got object: write x.astype(np.float32)",
    ),
    (
        lambda: _step(X.astype(">f8")),
        _CONV1 + "`x` must be float32 or float64, got >f8: write x.astype(np.float64)",
    ),
    (
        lambda: _step(X.astype(np.float64)),
        _CONV1 + "`x` must be float32 as the parameters are, got float64: write x.astype(np.float32)",
    ),
    (lambda: _step(X[:, 0]), _CONV1 + "`x` must have 4 axes (N, C, H, W), got shape (4, 6, 6)"),
    (
        lambda: _step(X.transpose(0, 2, 3, 1)),
        _CONV1 + "`x` must have 1 channels, got shape (4, 6, 6, 1)",
    ),
    (
        lambda: _step(X[:, :, :2]),
        _CONV1 + "`x` must not be smaller than the kernel (3, 3), got shape (4, 1, 2, 6)",
    ),
    (lambda: _step(X[:, :, :5]), _DENSE1 + "`x` must have 16 features, got shape (4, 8)"),
    (
        lambda: _step(X[:, :, :0]),
        _CONV1 + "`x` must not be empty beyond the batch, got shape (4, 1, 0, 6)",
    ),
    (lambda: relu().apply({}, X[0, 0, 0, 0]), "relu: `x` must be a NumPy array, got float32"),
    (
        lambda: relu().apply({}, np.array(1.0)),
        "relu: `x` must have at least 1 axes, got shape ()",
    ),
    (
        lambda: value_and_grad(PAIR, mean_squared_error())(PAIR_PARAMS, (X[:, 0, 0], [1.0]), Y),
        "value_and_grad: `x/1` must be a NumPy array, got list",
    ),
    # y
    (lambda: _step(y=Y.tolist()), "value_and_grad: `y` must be a NumPy array, got list"),
    (lambda: _step(y=Y[:3]), "value_and_grad: `x` and `y` must have one length, got 4 and 3"),
    (
        lambda: _step(y=Y.astype(np.float64)),
        "softmax_cross_entropy: `target` must be integers, or probabilities (4, 3), "
        "got float64 of shape (4,)",
    ),
    (lambda: _step(y=Y > 0), "softmax_cross_entropy: `target` must be integers, got bool"),
    (lambda: _step(y=Y + 1), "softmax_cross_entropy: `target` must lie in 0..2, got 3"),
    (lambda: _step(y=Y - 1), "softmax_cross_entropy: `target` must lie in 0..2, got -1"),
    (
        lambda: _step(y=Y[:, None]),
        "softmax_cross_entropy: `target` must have the shape (4,), got (4, 1)",
    ),
    (
        lambda: _step(y=np.eye(3)[Y]),
        "softmax_cross_entropy: `target` must be float32 as the prediction is, got float64: "
        "write target.astype(np.float32)",
    ),
    (
        lambda: _step(X[:0], Y[:0]),
        "softmax_cross_entropy: `prediction` must have at least 2 axes and one example, "
        "got shape (0, 3)",
    ),
    (
        lambda: mean_squared_error().apply(np.ones((4, 1)), np.ones(4)),
        "mean_squared_error: `target` must have the shape (4, 1), got (4,)",
    ),
    (
        lambda: l1().apply(np.ones((4, 1)), 1.0),
        "l1: `target` must be a NumPy array, got float",
    ),
    (
        lambda: losses.cosine_embedding().apply(
            (np.ones((2, 3)), np.ones((2, 3))), np.array([1, -1], object)
        ),
        "cosine_embedding: `target` must be numbers, got object",
    ),
    (lambda: one_hot(np.array([-1]), 3), "one_hot: `labels` must lie in 0..2, got -1"),
    # params
    (lambda: _step(params=None), "lenet: `params` must be a dict, got NoneType"),
    (
        lambda: _step(params=NET.init(KEY, SHAPE)),
        "lenet: `params` must be a dict, got tuple",
    ),
    (
        lambda: _step(params={"conv1": {"weight": [[0.0], [0.0, 0.0]], "bias": X}}),
        _CONV1 + "`params['weight']` must be a NumPy array, got list",
    ),
    (
        lambda: _step(params={**PARAMS, "conv2": {}}),
        "lenet: `params` must belong to this network: it has no child 'conv2', "
        "only conv1, relu1, max_pool1, flatten1, head",
    ),
    (
        lambda: _step(params={"conv1": PARAMS["conv1"]}),
        _DENSE1 + "`params` must hold bias, weight, got nothing",
    ),
    (
        lambda: _step(params={**PARAMS, "head": {"dense1": {**PARAMS["head"]["dense1"], "b": X}}}),
        _DENSE1 + "`params` must hold bias, weight, got b, bias, weight",
    ),
    (
        lambda: _step(params=_with_bias(lambda bias: bias[:2])),
        _DENSE1 + "`params['bias']` must have shape (3,), got (2,)",
    ),
    (
        lambda: _step(params=_with_bias(lambda bias: bias.tolist())),
        _DENSE1 + "`params['bias']` must be a NumPy array, got list",
    ),
    (
        lambda: _step(params=_with_bias(lambda bias: bias.astype(np.float64))),
        _DENSE1 + "`params['bias']` must be float32 as `params['weight']` is, got float64",
    ),
    (
        lambda: _step(params=tree.map(lambda leaf: leaf.astype(np.float16), PARAMS)),
        _CONV1 + "`params['weight']` must be float32 or float64, got float16: "
        "write params['weight'].astype(np.float32)",
    ),
    (
        lambda: multi_head_attention(2).apply(
            tree.replace(
                multi_head_attention(2).init(KEY, (1, 2, 4))[1],
                {"value/weight": np.ones((4, 4)), "value/bias": np.ones(4)},
            ),
            np.ones((1, 2, 4), np.float32),
        ),
        "multi_head_attention: `params['value']['weight']` must be float32 as "
        "`params['query']['weight']` is, got float64",
    ),
    # dout
    (
        lambda: _dout(np.ones((4, 1), np.float32)),
        _DENSE1 + "`dout` must have the output's shape (4, 3), got (4, 1)",
    ),
    (lambda: _dout(1.0), _DENSE1 + "`dout` must be a NumPy array, got float"),
    (
        lambda: _dout(np.ones((4, 3), int)),
        _DENSE1 + "`dout` must be float32 or float64, got int64: write dout.astype(np.float32)",
    ),
    (
        lambda: _dout(np.ones((4, 3))),
        _DENSE1 + "`dout` must be float32 as the output is, got float64: write dout.astype(np.float32)",
    ),
    (
        lambda: serial(dense(3)).params_vjp(serial(dense(3)).apply(HEAD, X[:, 0, 0])[1], X),  # type: ignore[misc]
        "dense1: `dout` must have the output's shape (4, 3), got (4, 1, 6, 6)",
    ),
    # cache
    (
        lambda: _dout(np.ones((4, 3), np.float32), serial(dense(3)).apply(HEAD, X[:, 0, 0])[1]),
        "lenet/head: " + _CACHE + "one without 'head'",
    ),
    (
        lambda: _dout(np.ones((4, 3), np.float32), X, NET.params_vjp),
        "lenet: " + _CACHE + "ndarray",
    ),
    (lambda: _dout({}, np.ones((4, 3), np.float32)), "lenet/head: " + _CACHE + "ndarray"),
    # init
    (lambda: NET.init(0, SHAPE), "lenet: `key` " + _KEY.format("0")),
    (lambda: NET.init(None, SHAPE), "lenet: `key` " + _KEY.format("None")),
    (
        lambda: NET.init(KEY, X),
        _CONV1 + "`shape` must be a tuple of ints (N, C, H, W), got an array of shape (4, 1, 6, 6)",
    ),
    (
        lambda: NET.init(KEY, [4, 1, 6, 6]),
        _CONV1 + "`shape` must be a tuple of ints (N, C, H, W), got [4, 1, 6, 6]",
    ),
    (
        lambda: NET.init(KEY, (4, 1, -6, 6)),
        _CONV1 + "`shape` must be positive (-1: any batch), got (4, 1, -6, 6)",
    ),
    (
        lambda: NET.init(KEY, SHAPE[1:]),
        _CONV1 + "`shape` must have 4 axes (N, C, H, W), got (1, 6, 6)",
    ),
    (
        lambda: LOOSE["serial"](conv(4, 3), dense(3)).init(KEY, SHAPE),
        "dense1: `shape` must have 2 axes (N, F), got (4, 4, 4, 4)",
    ),
    (
        lambda: serial(conv(4, 3), named("deep", residual(conv(2, 1)))).init(KEY, SHAPE),
        "deep: the layers must keep the shape (4, 4, 4, 4), got (4, 2, 4, 4)",
    ),
    # options
    (lambda: LOOSE["dense"]("10"), "dense: `out_features` must be an int, got '10'"),
    (lambda: LOOSE["dense"](True), "dense: `out_features` must be an int, got True"),
    (
        lambda: LOOSE["dense"](X),
        "dense: `out_features` must be an int, got an array of shape (4, 1, 6, 6)",
    ),
    (lambda: LOOSE["dense"](PARAMS), "dense: `out_features` must be an int, got a dict"),
    (lambda: LOOSE["dense"](3, bias=0), "dense: `bias` must be True or False, got 0"),
    (lambda: LOOSE["conv"](4, 3, stride=(1, 0)), "conv: `stride` must be at least 1, got 0"),
    (lambda: max_pool(2, stride=0), "max_pool: `stride` must be at least 1, got 0"),
    (lambda: batch_norm(epsilon=float("nan")), "batch_norm: `epsilon` must be at least 0, got nan"),
    (
        lambda: softmax_cross_entropy(class_weight=[1, -1]),
        "softmax_cross_entropy: `class_weight` must be at least 0, got -1",
    ),
    (
        lambda: softmax_cross_entropy(class_weight=np.array(2.0)),  # type: ignore[arg-type]
        "softmax_cross_entropy: `class_weight` must be a number for each class, got array(2.)",
    ),
    (
        lambda: softmax_cross_entropy(class_weight=np.ones((2, 3))),  # type: ignore[arg-type]
        "softmax_cross_entropy: `class_weight` must be a number for each class, "
        "got an array of shape (2, 3)",
    ),
    (
        lambda: LOOSE["conv"](4, [3, 3]),
        "conv: `kernel_size` must be an int or a tuple of 2, got [3, 3]: write (3, 3)",
    ),
    (
        lambda: LOOSE["serial"]([conv(4, 3), relu()]),
        "serial: every child must be a layer, got [conv(4, 3), relu()]: write a star in front of it",
    ),
    (
        lambda: LOOSE["serial"](LOSS),
        "serial: every child must be a layer, got softmax_cross_entropy()",
    ),
    # optimizers and trees
    (lambda: sgd_update(PARAMS, PARAMS, lr=-0.1), _SGD + "`lr` must be at least 0, got -0.1"),
    (lambda: sgd_update(PARAMS, PARAMS, lr=1, workers=0), _SGD + "`workers` must be at least 1, got 0"),
    (lambda: sgd_update(PARAMS, PARAMS, lr=np.nan), _SGD + "`lr` must be at least 0, got nan"),
    (lambda: LOOSE["sgd_update"](PARAMS, 0.1, PARAMS), _SGD + "`lr` must be a number, got a dict"),
    (
        lambda: sgd_update(PARAMS, {}, lr=0.1),
        "sgd_update: `grads` must match `params`: trees must match: only one has conv1, head",
    ),
    (
        lambda: optimizers.adam(-1.0),
        "adam: `learning_rate` must be at least 0, got -1.0",
    ),
    (lambda: tree.scale(PARAMS, "x"), "scale: `factor` must be a number, got 'x'"),  # type: ignore[arg-type]
    (
        lambda: tree.cast(PARAMS, np.float16),
        "cast: `dtype` must be float32 or float64, got <class 'numpy.float16'>",
    ),
    (lambda: tree.select(PARAMS, 3), "select: `pattern` must be a str, a function or a network, got 3"),  # type: ignore[arg-type]
    (
        lambda: tree.unflatten([1.0], {"w": np.ones(1)}),  # type: ignore[arg-type]
        "unflatten: `vector` must be a NumPy array, got list",
    ),
    # training
    (lambda: _fit(train=(X, Y)), "fit: `train` must be a Dataset, got tuple: write data.Dataset(x, y)"),
    (lambda: _fit(train=X), "fit: `train` must be a Dataset, got ndarray"),
    (
        lambda: _fit(train=data.Dataset(X.tolist(), Y)),
        "Dataset: `x` must be a NumPy array, got list",
    ),
    (
        lambda: _fit(train=data.Dataset(X, Y[:3])),
        "Dataset: `x` and `y` must have one length, got 4 and 3",
    ),
    (lambda: _fit(train=TRAIN.take(slice(0))), "fit: `train` must have at least one example"),
    (
        lambda: _fit(validation=TRAIN.take(slice(0))),
        "fit: `validation` must have at least one example",
    ),
    (
        lambda: _fit(validation=(X, Y)),
        "fit: `validation` must be a Dataset, got tuple: write data.Dataset(x, y)",
    ),
    (lambda: _fit(key=0), "fit: `key` " + _KEY.format("0")),
    (lambda: _fit(optimizer=0.1), "fit: `optimizer` must be an Optimizer, got 0.1"),
    (lambda: _fit(epochs=1.5), "fit: `epochs` must be an int, got 1.5"),
    (lambda: _fit(metrics=[1]), "fit: `metrics` must be a dict of functions by name, got [1]"),
    (
        lambda: _fit(train=data.Dataset(X, Y.astype(np.float64))),
        "softmax_cross_entropy: `target` must be integers, or probabilities (4, 3), "
        "got float64 of shape (4,)",
    ),
    (lambda: predict(NET, PARAMS, X.tolist()), "predict: `x` must be a NumPy array, got list"),
    (
        lambda: evaluate(NET, PARAMS, TRAIN, LOSS, {"a": 3}),  # type: ignore[dict-item]
        "evaluate: `metrics` must be a dict of functions by name, got {'a': 3}",
    ),
    (lambda: train_state(NET, optimizers.sgd(0.1), 0, SHAPE), "train_state: `key` " + _KEY.format("0")),  # type: ignore[arg-type]
    # columns
    (
        lambda: im2col(X, 9),
        "im2col: `x` must not be smaller than the kernel (9, 9), got shape (4, 1, 6, 6)",
    ),
    (lambda: im2col(X, 3, stride=0), "im2col: `stride` must be at least 1, got 0"),
    (
        lambda: im2col(X, 3, padding=(1, 1, 1)),
        "im2col: `padding` must be an int or 2 of them, got (1, 1, 1)",
    ),
    (
        lambda: im2col(X, 3, padding=1.5),  # type: ignore[arg-type]
        "im2col: `padding` must be an int, got 1.5",
    ),
    (
        lambda: col2im(np.ones((4, 5)), (1, 1, 3, 3), 2),
        "col2im: `columns` must have shape (4, 4), got (4, 5)",
    ),
]


@pytest.mark.parametrize(("wrong", "text"), WRONG, ids=[text for _, text in WRONG])
def test_message(wrong: Wrong, text: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        wrong()
    assert isinstance(caught.value, Refusal)
    assert str(caught.value) == text


def test_messages_have_one_pattern() -> None:
    shapes = r"[\w/]+: .*\b(must|trees must match)\b.*"
    assert [text for _, text in WRONG if not re.fullmatch(shapes, text)] == []
    assert [text for _, text in WRONG if "\n" in text or len(text) > 200] == []


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda given: dense(3, weight_init=given), "dense: `weight_init` must be an Initializer"),
        (lambda given: dense(3, bias_init=given), "dense: `bias_init` must be an Initializer"),
        (lambda given: conv(3, 3, weight_init=given), "conv: `weight_init` must be an Initializer"),
        (lambda given: embedding(3, 3, weight_init=given), "embedding: `weight_init` must be"),
        (
            lambda given: multi_head_attention(2, bias_init=given),
            "multi_head_attention: `bias_init` must be",
        ),
    ],
)
def test_an_uncalled_initializer_is_refused(build: Callable[[Any], Any], text: str) -> None:
    with pytest.raises(TypeError) as caught:
        build(initializers.he_normal)
    assert str(caught.value).startswith(text)
    assert str(caught.value).endswith(": write he_normal()")


@pytest.mark.parametrize(
    ("wrong", "start", "hint"),
    [
        (lambda: _fit(net=relu), "fit: `net` must be a layer, got <function relu", "relu"),
        (lambda: _fit(loss=l1), "fit: `loss` must be a loss, got <function l1", "l1"),
        (
            lambda: _fit(optimizer=optimizers.adam),
            "fit: `optimizer` must be an Optimizer, got <function adam",
            "adam",
        ),
        (
            lambda: predict(relu, PARAMS, X),  # type: ignore[arg-type]
            "predict: `net` must be a layer, got <function relu",
            "relu",
        ),
        (
            lambda: value_and_grad(NET, softmax_cross_entropy),  # type: ignore[call-overload]
            "value_and_grad: `loss` must be a loss, got <function softmax_cross_entropy",
            "softmax_cross_entropy",
        ),
    ],
)
def test_an_uncalled_constructor_is_refused(wrong: Wrong, start: str, hint: str) -> None:
    with pytest.raises(TypeError) as caught:
        wrong()
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(f": write {hint}()")


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    text = "fit: the loss is nan at step 1: funcnn.diagnose.trace_nan names the layer"
    with pytest.raises(FloatingPointError) as caught:
        _fit(train=data.Dataset(X * np.float32(np.nan), Y))
    assert str(caught.value) == text


def test_an_initializer_must_give_what_was_asked_for() -> None:
    def wide(key: Any, shape: Any, dtype: Any) -> Any:
        return np.zeros(shape, np.float64)

    with pytest.raises(ValueError, match="must be") as caught:
        dense(3, weight_init=initializers.Initializer(wide)).init(KEY, (1, 2))
    text = "wide: `draw(...)` must be float32 of shape (3, 2), got float64 of shape (3, 2)"
    assert str(caught.value) == text


# --- what is right must not be refused ------------------------------------------------------------


def test_numbers_of_numpy_serve_as_options() -> None:
    three, one = np.int64(3), np.float32(1)
    layer: Any = LOOSE["conv"](three, (three, three), stride=np.int32(1), bias=np.True_)
    assert repr(layer) == "conv(3, (3, 3))"
    assert layer.init(KEY, (np.int64(2), 1, 6, 6))[0] == (2, 3, 4, 4)
    assert im2col(X, 3, padding=LOOSE["one"]).shape == im2col(X, 3, padding=1).shape
    step = {name: leaf - leaf for name, leaf in PARAMS["conv1"].items()}
    after = sgd_update(PARAMS["conv1"], step, lr=float(one))
    assert after["weight"].dtype == np.float32


def test_any_memory_serves_as_input(tmp_path: Path) -> None:
    expected = NET.apply(PARAMS, X)[0]
    frozen = X.copy()
    frozen.flags.writeable = False
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    backwards = np.ascontiguousarray(X[::-1])[::-1]
    for x in (frozen, np.asfortranarray(X), mapped, backwards):
        out = NET.apply(PARAMS, x)[0]
        assert type(out) is np.ndarray
        np.testing.assert_allclose(out, expected, rtol=1e-5)


MODELS: list[tuple[Layer[Any, Any], tuple[int, ...], Any]] = [
    (models.lenet(3), (0, 1, 28, 28), np.float32),
    (models.mlp((5,), 3), (0, 4), np.float32),
    (models.vgg_small(3), (0, 3, 32, 32), np.float32),
    (models.resnet_small(3), (0, 3, 32, 32), np.float32),
    (models.mlp_mixer((8, 8), 3, depth=1), (0, 3, 8, 8), np.float32),
    (models.autoencoder((1, 8, 8), 4), (0, 1, 8, 8), np.float32),
    (models.char_rnn(5, features=4, hidden=6), (0, 7), np.int64),
    (models.transformer_lm(5, features=4, heads=2, depth=1, max_length=8), (0, 7), np.int64),
]


@pytest.mark.parametrize(("net", "shape", "dtype"), MODELS, ids=range(len(MODELS)))
def test_an_empty_batch_goes_through_models(
    net: Layer[Any, Any], shape: tuple[int, ...], dtype: Any
) -> None:
    out_shape, params = net.init(KEY, shape)
    out, cache = net.apply(params, np.zeros(shape, dtype))
    assert out.shape == out_shape
    assert len(out) == 0
    dparams, dx = net.vjp(cache, out)
    assert dx.shape == shape
    assert not any(leaf.any() for _, leaf in tree.leaves(dparams))


# --- values in refusals ---------------------------------------------------------------------------

# Names that are the library's own: those of an array in the shapes of a layer.
BOUNDED = {"checks/arrays.py": {"name", "other"}, "_lazy.py": {"name", "old", "package"}}


def raw_values(source: str) -> set[str]:
    """What a refusal shows by its `repr`, which may be of any length and have several lines."""
    found: set[str] = set()
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, (ast.FunctionDef, ast.Module)):
            continue
        said: list[ast.AST] = [
            node
            for node in ast.walk(function)
            if isinstance(node, ast.Raise)
            or (isinstance(node, ast.Call) and "refuse" in ast.unparse(node.func))
        ]
        named = {node.id for one in said for node in ast.walk(one) if isinstance(node, ast.Name)}
        for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
            if isinstance(node, (ast.Assign, ast.AugAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = {ast.unparse(part) for target in targets for part in ast.walk(target)}
                said += [node.value] if names & named else []
        found |= {
            ast.unparse(node.value)
            for one in said
            for node in ast.walk(one)
            if isinstance(node, ast.FormattedValue)
            and (node.conversion == ord("r") or ast.unparse(node.value).startswith("repr("))
        }
    return found


def test_refusals_show_values_in_bounded_length() -> None:
    """By `checks.shown`, or a path by `tree.place`."""
    root = Path(funcnn.__file__).parent
    files = sorted(root.rglob("*.py"))
    assert len(files) > 100
    for file in files:
        name = file.relative_to(root).as_posix()
        assert raw_values(file.read_text()) - BOUNDED.get(name, set()) == set(), name


@pytest.mark.parametrize(
    "body",
    [
        'raise ValueError(f"got {value!r}")',
        'checks.refuse(f"got {value!r}")',
        'files.refuse(path, f"got {value!r}")',
        'text = f"got {value!r}"; refuse_type(text)',
        'text = "got"; text += f" {repr(value)}"; refuse(f"{text}: no")',
    ],
)
def test_a_raw_value_is_caught(body: str) -> None:
    assert raw_values(f"def check(value): {body}")
    assert not raw_values(f"def check(value): {body}".replace("!r", "").replace("repr(", "shown("))
