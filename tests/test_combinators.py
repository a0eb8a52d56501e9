"""What the combinators promise by their names, and how they refuse."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from funcnn import (
    apply_updates,
    batch_norm,
    bidirectional,
    branch,
    conv,
    dense,
    dense_connect,
    dropout,
    each,
    embedding,
    flatten,
    freeze,
    frozen_paths,
    graph,
    gru,
    hard_tanh,
    identity,
    keep_context,
    lstm,
    max_pool,
    mean_squared_error,
    merge,
    named,
    optimizers,
    parallel,
    random,
    relu,
    relu6,
    remat,
    repeat,
    residual,
    residual_with_context,
    serial,
    share,
    stop_gradient,
    tanh,
    tied,
    time_distributed,
    tree,
    value_and_grad,
    weight_norm,
)
from funcnn.checks import Refusal
from funcnn.structure import nodes
from funcnn.testing import _values
from funcnn.types import Array, Key, Layer, Params, Shape, Spec, rebuild

KEY = random.key(0)
Net = Layer[Any, Any]


def _x(*shape: int) -> Array:
    return random.normal(random.key(1), shape)


def _pass(net: Net, params: Params, x: Any, key: Key | None = None) -> tuple[Any, ...]:
    """Output, gradients of the parameters and of the input, for a gradient of ones."""
    out, cache = net.apply(params, x, key=key)
    return out, *net.vjp(cache, np.ones_like(out))


def _same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    assert found[0].tobytes() == expected[0].tobytes()
    assert tree.equal(found[1], expected[1])
    assert found[2].tobytes() == expected[2].tobytes()


# --- refusals -------------------------------------------------------------------------------------


def _lenet() -> Net:
    return named(
        "lenet",
        serial(conv(6, 5), relu(), max_pool(2), conv(16, 5), relu(), max_pool(2), flatten(), dense(10)),
    )


def test_errors_have_the_path() -> None:
    net = _lenet()
    _, params = net.init(KEY, (2, 3, 28, 28))
    wrong = {**params, "conv2": conv(16, 5).init(KEY, (2, 5, 28, 28))[1]}
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        net.apply(wrong, _x(2, 3, 28, 28))
    assert str(caught.value) == "lenet/conv2: `x` must have 5 channels, got shape (2, 6, 12, 12)"
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        net.apply(params, _x(2, 1, 28, 28))
    assert str(caught.value) == "lenet/conv1: `x` must have 3 channels, got shape (2, 1, 28, 28)"


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (serial(dense(2), dense(3)), "dense1: `x` must have 4 features, got shape (2, 5)"),
        (residual(dense(4)), "dense1: `x` must have 4 features, got shape (2, 5)"),
        (
            serial(residual(serial(relu(), dense(4)))),
            "residual1/serial1/dense1: `x` must have 4 features, got shape (2, 5)",
        ),
        (
            residual(relu(), shortcut=dense(4)),
            "shortcut: `x` must have 4 features, got shape (2, 5)",
        ),
        (serial(parallel(dense(2))), "parallel1/dense1: `x` must have 4 features, got shape (2, 5)"),
        (serial(branch(dense(2))), "branch1/dense1: `x` must have 4 features, got shape (2, 5)"),
        (serial(graph(dense(2))), "graph1/dense1: `x` must have 4 features, got shape (2, 5)"),
        (
            dense_connect(named("a", dense(2))),
            "a: `x` must have 4 features, got shape (2, 5)",
        ),
        (
            repeat(named("block", serial(dense(4))), times=2),
            "block1/dense1: `x` must have 4 features, got shape (2, 5)",
        ),
        (serial(share(dense(4), times=2)), "share1: `x` must have 4 features, got shape (2, 5)"),
        (serial(remat(dense(4))), "dense1: `x` must have 4 features, got shape (2, 5)"),
        (
            serial(freeze(named("body", serial(dense(4))))),
            "body/dense1: `x` must have 4 features, got shape (2, 5)",
        ),
    ],
    ids=repr,
)
def test_every_combinator_names_the_child(net: Net, message: str) -> None:
    _, params = net.init(KEY, (2, 4))
    with pytest.raises(ValueError, match="must have 4 features") as caught:
        net.apply(params, _x(2, 5))
    assert str(caught.value) == message


_named: Any = named
_parallel: Any = parallel
_branch: Any = branch
_NO_LAYER = "there must be at least one layer"


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: serial(), ValueError, f"serial: {_NO_LAYER}"),
        (lambda: residual(), ValueError, f"residual: {_NO_LAYER}"),
        (lambda: residual(shortcut=dense(2)), ValueError, f"residual: {_NO_LAYER}"),
        (lambda: _parallel(), ValueError, f"parallel: {_NO_LAYER}"),
        (lambda: _branch(), ValueError, f"branch: {_NO_LAYER}"),
        (lambda: dense_connect(), ValueError, f"dense_connect: {_NO_LAYER}"),
        (lambda: graph(), ValueError, f"graph: {_NO_LAYER}"),
        (
            lambda: graph(named("x", relu())),
            ValueError,
            "graph: no layer must be named 'x': that is the input",
        ),
        (
            lambda: graph(relu(), wires=["x"]),  # type: ignore[arg-type]
            TypeError,
            "graph: `wires` must be a mapping of names, got ['x']",
        ),
        (
            lambda: graph(relu(), wires={"relu1": ("x", 1)}),  # type: ignore[dict-item]
            TypeError,
            "graph: what relu1 takes must be a name or a tuple of names, got ('x', 1)",
        ),
        (
            lambda: graph(relu(), wires={"relu2": "x"}),
            ValueError,
            "graph: `wires` must name layers of ('relu1',), got 'relu2'",
        ),
        (
            lambda: graph(relu(), tanh(), wires={"relu1": "tanh1"}),
            ValueError,
            "graph: what relu1 takes must be 'x' or come from a layer before it, got 'tanh1'",
        ),
        (
            lambda: graph(relu(), output="relu2/0"),
            ValueError,
            "graph: `output` must be 'x' or come from a layer before it, got 'relu2/0'",
        ),
        (
            lambda: graph(dense(2), dense(2), wires={"dense2": "x"}),
            ValueError,
            "graph: every layer must lead to an output, got 'dense1' that does not",
        ),
        (
            lambda: serial(named("a", relu()), named("a", dense(2))),
            ValueError,
            "serial: children must have different names, got 'a' twice",
        ),
        (
            lambda: parallel(dense(2), named("dense1", dense(2))),
            ValueError,
            "parallel: children must have different names, got 'dense1' twice",
        ),
        (
            lambda: named("two words", relu()),
            ValueError,
            "named: `name` must be an identifier such as 'encoder', got 'two words'",
        ),
        (lambda: _named(3, relu()), TypeError, "named: `name` must be a str, got 3"),
        (
            lambda: parallel(dense(2), merge="max"),
            ValueError,
            "parallel: `merge` must be one of 'sum', 'mean', 'product', 'concatenate', got 'max'",
        ),
        (
            lambda: merge("max"),
            ValueError,
            "merge: `how` must be one of 'sum', 'mean', 'product', 'concatenate', got 'max'",
        ),
        (lambda: repeat(relu(), times=0), ValueError, "repeat: `times` must be at least 1, got 0"),
        (lambda: share(relu(), times=True), TypeError, "share: `times` must be an int, got True"),
        (lambda: tied(relu(), ties={}), TypeError, "tied: `ties` must be a dict of paths, got {}"),
        (
            lambda: tied(relu(), ties={"a": "b", "b": "c"}),
            ValueError,
            "tied: `ties` must not overlap, got 'b' and 'b'",
        ),
        (
            lambda: tied(relu(), ties={"a/weight": "a"}),
            ValueError,
            "tied: `ties` must not overlap, got 'a/weight' and 'a'",
        ),
    ],
)
def test_bad_options_are_refused(
    build: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        build()
    assert str(caught.value) == message


class Called:
    """As a layer of another framework: it is called, and has no name."""

    def __call__(self, x: Any) -> Any:
        return x


_TAKING_LAYERS: list[Callable[[Any], Any]] = [
    serial, residual, parallel, branch, dense_connect, graph, remat, freeze,
    lambda layer: named("a", layer),
    lambda layer: repeat(layer, times=2),
    lambda layer: share(layer, times=2),
    lambda layer: residual(relu(), shortcut=layer),
    lambda layer: tied(layer, ties={"a": "b"}),
]  # fmt: skip


@pytest.mark.parametrize("build", _TAKING_LAYERS)
def test_what_is_no_layer_is_refused_and_calls_are_reminded_of(build: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError) as caught:
        build(relu)
    who, _, text = str(caught.value).partition(": ")
    assert text.startswith("every child must be a layer, got <function relu at 0x")
    assert text.endswith(": write relu()")
    with pytest.raises(TypeError) as caught:
        build(3)
    assert str(caught.value) == f"{who}: every child must be a layer, got 3"
    with pytest.raises(TypeError, match=rf"^{who}: every child must be a layer, got \(\)"):
        build(())  # no layers where one is asked for
    for other in (partial(relu), lambda x: x, np.tanh, SimpleNamespace, Called()):
        with pytest.raises(TypeError, match=rf"^{who}: every child must be a layer, got (?!.*: write)"):
            build(other)


@pytest.mark.parametrize(
    "net", [serial(dense(2)), residual(dense(4)), parallel(dense(2)), dense_connect(dense(2))], ids=repr
)
def test_params_of_another_network_and_a_number_for_a_key_are_refused(net: Net) -> None:
    who = net.spec.kind
    with pytest.raises(TypeError) as caught:
        net.init(0, (2, 4))  # type: ignore[arg-type]
    assert str(caught.value) == f"{who}: `key` must be a funcnn Key, got 0: write funcnn.random.key(0)"
    with pytest.raises(ValueError) as foreign:  # noqa: PT011
        net.apply({"conv1": {}}, _x(2, 4))
    text = "`params` must belong to this network: it has no child 'conv1', only dense1"
    assert str(foreign.value) == f"{who}: {text}"
    with pytest.raises(TypeError) as listed:
        net.apply([], _x(2, 4))  # type: ignore[arg-type]
    assert str(listed.value) == f"{who}: `params` must be a dict, got list"


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (residual(dense(3)), "residual: the layers must keep the shape (2, 4), got (2, 3)"),
        (
            residual(dense(3), shortcut=dense(2)),
            "residual: the layers and the shortcut must give one shape, got (2, 3) and (2, 2)",
        ),
        (share(dense(3), times=2), "share: the layer must keep the shape (2, 4), got (2, 3)"),
        (
            parallel(dense(3), dense(2)),
            "parallel: the outputs must have one shape, got [(2, 3), (2, 2)]",
        ),
        (
            parallel(dense(3), dense(2), merge="concatenate", axis=2),
            "parallel: `axis` must name one of the axes 1..1, got 2",
        ),
        (
            tied(serial(dense(4), dense(3)), ties={"dense2": "dense1"}),
            "tied: 'dense2' and 'dense1' must match, got [('bias', (3,)), ('weight', (3, 4))] "
            "and [('bias', (4,)), ('weight', (4, 4))]",
        ),
        (
            tied(serial(dense(4)), ties={"dense2": "dense1"}),
            "tied: `layer` must hold 'dense2', got dense1/bias, dense1/weight",
        ),
        (
            tied(serial(batch_norm(), batch_norm()), ties={"batch_norm2": "batch_norm1"}),
            "tied: 'batch_norm2' must not have running statistics, got [('bias', (4,)), "
            "('running_mean', (4,)), ('running_var', (4,)), ('scale', (4,))]",
        ),
    ],
    ids=repr,
)
def test_shapes_that_do_not_fit_are_refused(net: Net, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        net.init(KEY, (2, 4))
    assert str(caught.value) == message


def test_params_that_are_not_tied_are_refused() -> None:
    plain = serial(dense(4), dense(4))
    net = tied(plain, ties={"dense2": "dense1"})
    with pytest.raises(ValueError, match="tied") as caught:
        net.apply(plain.init(KEY, (2, 4))[1], _x(2, 4))
    assert str(caught.value) == "tied: `params` must not hold 'dense2', tied to 'dense1', got both"


# --- names and keys -------------------------------------------------------------------------------


def test_inserting_a_layer_changes_no_other_layers_weights() -> None:
    short = serial(dense(5), dense(3))
    long = serial(identity(), dense(5), relu(), dropout(0.5), dense(3), tanh())
    assert tree.equal(short.init(KEY, (2, 4))[1], long.init(KEY, (2, 4))[1])


def test_each_name_has_a_key_of_its_own() -> None:
    _, params = serial(dense(4), named("other", dense(4)), dense(4)).init(KEY, (2, 4))
    weights = [params[name]["weight"].tobytes() for name in ("dense1", "other", "dense2")]
    assert len(set(weights)) == 3


@pytest.mark.parametrize("steer", [remat, freeze, lambda layer: freeze(remat(layer))])
def test_what_steers_gradients_changes_no_name_and_no_weight(steer: Callable[[Net], Net]) -> None:
    plain = serial(dense(5), named("body", serial(dense(3))), dense(2))
    steered = serial(dense(5), steer(named("body", serial(dense(3)))), steer(dense(2)))
    _, params = plain.init(KEY, (2, 4))
    assert tree.equal(params, steered.init(KEY, (2, 4))[1])
    assert steered.apply(params, _x(2, 4))[0].tobytes() == plain.apply(params, _x(2, 4))[0].tobytes()


def test_copies_are_named_by_ordinal_and_start_differently() -> None:
    _, params = repeat(dense(4), times=3).init(KEY, (2, 4))
    assert list(params) == ["dense1", "dense2", "dense3"]
    assert len({params[name]["weight"].tobytes() for name in params}) == 3
    assert tree.equal(params, serial(dense(4), dense(4), dense(4)).init(KEY, (2, 4))[1])


# --- execution order ------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [relu(), relu6(), hard_tanh()], ids=repr)
@pytest.mark.parametrize("pool", [max_pool(2), max_pool(3, stride=2, padding=1)], ids=repr)
def test_a_maximum_before_a_rectifier_gives_the_same_bits(activation: Net, pool: Net) -> None:
    x = np.round(_x(2, 3, 6, 6) * 2) * 2  # many ties, zeros and saturated ones
    x[0, 0, 0, 0], x[0, 1, 2, 3], x[1, 0, 4, 4], x[1, 1, 1, 1] = np.nan, np.inf, -np.inf, -0.0
    out, cache = serial(activation, pool).apply({}, x)
    dout = random.normal(random.key(2), out.shape)
    _, dx = serial(activation, pool).vjp(cache, dout)

    between, first = activation.apply({}, x)
    expected, second = pool.apply({}, between)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(dx, activation.vjp(first, pool.vjp(second, dout)[1])[1])


# --- what the names say ---------------------------------------------------------------------------


def test_a_graph_in_a_row_is_the_chain() -> None:
    layers = (dense(4), relu(), dense(3))
    chain, wired, x = serial(*layers), graph(*layers), _x(2, 5)
    _, params = wired.init(KEY, x.shape)
    assert tree.equal(params, chain.init(KEY, x.shape)[1])
    out, cache = wired.apply(params, x)
    expected, kept = chain.apply(params, x)
    np.testing.assert_array_equal(out, expected)
    assert tree.equal(wired.vjp(cache, out), chain.vjp(kept, out))
    assert wired.params_vjp is not None
    assert tree.equal(wired.params_vjp(cache, out), chain.vjp(kept, out)[0])


def test_a_graph_adds_up_the_gradients_of_all_who_take_a_value() -> None:
    net: Net = graph(dense(4), relu(), merge(), wires={"merge1": ("x", "relu1", "dense1")})
    x, dout = _x(3, 4), _x(3, 4)
    _, params = net.init(KEY, x.shape)
    out, cache = net.apply(params, x)
    y = x @ params["dense1"]["weight"].T
    np.testing.assert_allclose(out, x + y + np.maximum(y, 0), rtol=1e-5, atol=1e-6)
    dparams, dx = net.vjp(cache, dout)
    dy = dout * (1 + (y > 0))
    np.testing.assert_allclose(dx, dout + dy @ params["dense1"]["weight"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dparams["dense1"]["weight"], dy.T @ x, rtol=1e-5, atol=1e-6)


def test_a_graph_pulls_back_no_further_than_parameters_lie() -> None:
    seen: list[str] = []

    def noted(name: str, layer: Net) -> Net:
        def vjp(cache: Any, dout: Any) -> Any:
            seen.append(name)
            return layer.vjp(cache, dout)

        return named(name, layer._replace(vjp=vjp, params_vjp=None))

    first: Net = relu()
    net = graph(noted("first", first), noted("side", first), noted("last", dense(2)),
                wires={"side": "x", "last": "first"}, output=("last", "side"))  # fmt: skip
    x = _x(2, 3)
    _, params = net.init(KEY, x.shape)
    out, cache = net.apply(params, x)
    assert net.params_vjp is not None
    only = net.params_vjp(cache, out)
    assert seen == ["last"]
    assert tree.equal(only, net.vjp(cache, out)[0])
    assert seen == ["last", "last", "side", "first"]


def test_a_graph_takes_and_gives_trees() -> None:
    net: Net = graph(dense(3), dense(3), merge(), wires={
        "dense1": "x/image", "dense2": "x/more/1", "merge1": ("dense1", "dense2"),
    }, output=("merge1", "x/more"))  # fmt: skip
    x = {"image": _x(2, 4), "more": (np.array([1, 2]), _x(2, 5)), "idle": _x(2, 2)}
    shapes: Any = {"image": (2, 4), "more": ((2,), (2, 5)), "idle": (2, 2)}
    (first, more), params = net.init(KEY, shapes)
    assert (first, more) == ((2, 3), ((2,), (2, 5)))
    out, cache = net.apply(params, x)
    assert out[1] is x["more"]
    _, dx = net.vjp(cache, (out[0], (np.zeros(2, np.float32), x["more"][1])))
    assert (dx["idle"] == 0).all()
    second = params["dense2"]["weight"]
    np.testing.assert_allclose(dx["more"][1], x["more"][1] + out[0] @ second, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"^graph: `x` must have the part 'x/more/1', got \('0',\)$"):
        net.apply(params, {**x, "more": (x["image"],)})


def test_parallel_by_product_is_exact_at_zeros() -> None:
    net: Net = parallel(identity(), identity(), identity(), merge="product")
    x = np.array([[0.0, 2.0, -3.0]])
    out, _, dx = _pass(net, {}, x)
    np.testing.assert_array_equal(out, x**3)
    np.testing.assert_array_equal(dx, 3 * x**2)


@pytest.mark.parametrize("how", ["sum", "mean", "product", "concatenate"])
def test_branch_and_merge_are_parallel(how: str) -> None:
    layers: tuple[Net, ...] = (dense(4), serial(dense(4), relu()), identity())
    both: Net = parallel(*layers, merge=how)
    apart: Net = serial(branch(*layers), merge(how))
    _, params = both.init(KEY, (2, 4))
    found = _pass(apart, {"branch1": params}, _x(2, 4))
    _same((found[0], found[1]["branch1"], found[2]), _pass(both, params, _x(2, 4)))


def test_dense_connect_shows_each_layer_all_before_it() -> None:
    seen: list[Shape] = []
    net = dense_connect(*(_watched(dense(2), seen) for _ in range(3)))
    _, params = net.init(KEY, (5, 4))
    out, _ = net.apply(params, _x(5, 4))
    assert seen == [(5, 4), (5, 6), (5, 8)]
    assert out.shape == (5, 10)
    np.testing.assert_array_equal(out[:, :4], _x(5, 4))


def _watched(layer: Net, seen: list[Shape]) -> Net:
    def apply(params: Params, x: Any, *, key: Any = None) -> Any:
        seen.append(x.shape)
        return layer.apply(params, x, key=key)

    return layer._replace(apply=apply)


def test_a_shortcut_is_a_layer_of_that_name() -> None:
    option = residual(dense(3), relu(), shortcut=dense(3, bias=False))
    child = residual(dense(3), relu(), named("shortcut", dense(3, bias=False)))
    assert repr(option) == repr(child) == repr(rebuild(option.spec))
    _, params = option.init(KEY, (2, 4))
    assert list(params) == ["dense1", "shortcut"]
    _same(_pass(option, params, _x(2, 4)), _pass(child, params, _x(2, 4)))
    body = serial(dense(3), relu()).apply({"dense1": params["dense1"]}, _x(2, 4))[0]
    past = dense(3, bias=False).apply(params["shortcut"], _x(2, 4))[0]
    np.testing.assert_array_equal(option.apply(params, _x(2, 4))[0], past + body)


def test_share_adds_the_gradients_of_all_uses() -> None:
    layer = serial(dense(4), tanh())
    shared, unrolled = share(layer, times=3), repeat(named("use", layer), times=3)
    _, params = shared.init(KEY, (2, 4))
    out, dparams, dx = _pass(shared, params, _x(2, 4))
    expected = _pass(unrolled, {f"use{i}": params for i in (1, 2, 3)}, _x(2, 4))
    total = tree.add(tree.add(expected[1]["use3"], expected[1]["use2"]), expected[1]["use1"])
    _same((out, dparams, dx), (expected[0], total, expected[2]))


def test_share_carries_statistics_from_use_to_use_and_draws_anew() -> None:
    layer: Net = batch_norm(momentum=0.5)
    net = share(layer, times=2)
    _, params = net.init(KEY, (8, 3))
    x = _x(8, 3) * 3 + 1
    _, cache = net.apply(params, x, key=KEY)
    once, first = layer.apply(params, x, key=KEY)
    between = tree.replace(params, layer.statistics(first))
    second = layer.apply(between, once, key=KEY)[1]
    assert tree.equal(net.statistics(cache), layer.statistics(second))
    dropped, _ = share(dropout(0.5), times=2).apply({}, np.ones((1000,), np.float32), key=KEY)
    assert 0.2 < (dropped > 0).mean() < 0.3  # a quarter survives two draws, a half would survive one


def test_tied_adds_the_gradients_of_all_places() -> None:
    plain = serial(named("a", dense(4)), tanh(), named("b", dense(4)))
    net = tied(plain, ties={"b": "a"})
    _, params = net.init(KEY, (2, 4))
    assert list(params) == ["a"]
    out, dparams, dx = _pass(net, params, _x(2, 4))
    expected = _pass(plain, {"a": params["a"], "b": params["a"]}, _x(2, 4))
    total = tree.add(expected[1]["a"], expected[1]["b"])
    _same((out, dparams, dx), (expected[0], {"a": total}, expected[2]))


def test_an_embedding_may_be_the_last_layers_weight() -> None:
    plain = serial(embedding(7, 4), time_distributed(dense(7, bias=False)))
    net = tied(plain, ties={"time_distributed1/weight": "embedding1/weight"})
    _, params = net.init(KEY, (2, 3))
    assert list(params) == ["embedding1"]
    tokens = np.array([[1, 2, 3], [0, 6, 1]])
    weight = params["embedding1"]["weight"]
    out = net.apply(params, tokens)[0]
    np.testing.assert_allclose(out, weight[tokens] @ weight.T, rtol=1e-5, atol=1e-6)


def _deep() -> Net:
    return serial(conv(3, 3), batch_norm(), relu(), dropout(0.3), flatten(), dense(2))


def test_remat_gives_the_same_bits_and_keeps_little() -> None:
    plain, net = _deep(), remat(_deep())
    x = _x(4, 2, 6, 6)
    _, params = net.init(KEY, x.shape)
    _same(_pass(net, params, x, KEY), _pass(plain, params, x, KEY))
    _, cache = net.apply(params, x, key=KEY)
    assert tree.equal(net.statistics(cache), plain.statistics(plain.apply(params, x, key=KEY)[1]))
    assert cache["params"] is params
    assert cache["x"] is x
    assert [name for name in cache if name not in ("params", "x", "key")] == ["statistics"]


def test_remat_runs_forward_again_only_in_the_pullback() -> None:
    seen: list[Shape] = []
    net = remat(_watched(dense(2), seen))
    _, params = net.init(KEY, (3, 4))
    out, cache = net.apply(params, _x(3, 4))
    assert len(seen) == 1
    net.vjp(cache, out)
    assert len(seen) == 2


def test_stop_gradient_stops_it() -> None:
    net: Net = serial(dense(4), stop_gradient(), dense(2))
    _, params = net.init(KEY, (2, 3))
    _, dparams, dx = _pass(net, params, _x(2, 3))
    assert not tree.norm(dparams["dense1"])
    assert not dx.any()
    assert tree.norm(dparams["dense2"])


def test_a_frozen_part_stays_while_what_lies_in_front_of_it_learns() -> None:
    net = serial(dense(4), relu(), named("body", freeze(serial(dense(4), relu()))), freeze(dense(1)))
    x, y = _x(16, 3), np.ones((16, 1), np.float32)
    _, params = net.init(KEY, x.shape)
    start = params
    paths = frozen_paths(net, x.shape)
    assert paths == ("body/dense1/bias", "body/dense1/weight", "dense2/bias", "dense2/weight")
    decayed = optimizers.adamw(0.01, weight_decay=0.5)
    step = value_and_grad(net, mean_squared_error())
    held = optimizers.chain(decayed, optimizers.freeze(*paths))
    for optimizer, stays in ((decayed, False), (held, True)):
        params, state = start, optimizer.init(start)
        losses = []
        for _ in range(5):
            loss, grads = step(params, x, y)
            losses.append(float(loss))
            updates, state = optimizer.update(grads, state, params)
            params = apply_updates(params, updates)
        assert losses[-1] < losses[0]
        frozen = [tree.equal(params[name], start[name]) for name in ("body", "dense2")]
        assert frozen == [stays, stays]
        assert not tree.equal(params["dense1"], start["dense1"])


# --- caches and places ----------------------------------------------------------------------------

_NESTED: Net = serial(
    remat(named("stem", conv(4, 3, padding=1))),
    repeat(
        residual(parallel(conv(4, 1), identity(), merge="product"), batch_norm(), shortcut=conv(4, 1)),
        times=2,
    ),
    dense_connect(share(identity(), times=2)),
    branch(freeze(conv(2, 1)), serial(relu(), conv(2, 1))),
    merge("mean"),
    flatten(),
    dense(3),
)


def _plain(node: Any) -> bool:
    if isinstance(node, dict):
        return all(isinstance(name, str) and _plain(part) for name, part in node.items())
    if isinstance(node, (tuple, list)):
        return all(map(_plain, node))
    return node is None or isinstance(node, (np.ndarray, np.generic, np.dtype, bool, int, float, str))


def test_caches_are_plain_data() -> None:
    x = _x(2, 3, 5, 5)
    _, params = _NESTED.init(KEY, x.shape)
    out, cache = _NESTED.apply(params, x, key=KEY)
    assert _plain(cache)
    first = _NESTED.vjp(cache, out)
    second = _NESTED.vjp(pickle.loads(pickle.dumps(cache)), out)
    assert tree.allclose(first[0], second[0], rtol=1e-4, atol=1e-5)  # memory is laid out anew


def test_places_are_those_of_the_params_and_of_the_messages() -> None:
    shape = (2, 3, 5, 5)
    _, params = _NESTED.init(KEY, shape)
    found: dict[str, Shape] = {}
    for node in nodes(_NESTED, shape):
        if not node.spec.children:
            for leaf, value in tree.leaves(node.params):
                found["/".join((*node.path, leaf))] = value.shape
    assert found == {path: leaf.shape for path, leaf in tree.leaves(params)}
    paths = ["/".join(node.path) for node in nodes(_NESTED, shape)]
    assert "repeat1/residual2/parallel1/identity1" in paths
    assert "repeat1/residual2/shortcut" in paths


def test_places_of_a_combinator_that_nobody_knows() -> None:
    net = serial(relu(), _twice(dense(4)), named("x", _twice(named("y", dense(4)))))
    _, params = net.init(KEY, (2, 4))
    assert list(params["_twice1"]) == ["one", "two"]
    paths = ["/".join(node.path) for node in nodes(net, (2, 4)) if node.spec.kind == "dense"]
    assert paths == ["_twice1/one", "_twice1/two", "x/one", "x/two"]


def _twice(layer: Net) -> Net:
    """A combinator as a user may write it."""
    body: Net = serial(named("one", layer), named("two", layer))
    return body._replace(spec=Spec(_twice, children=(layer.spec,)))


# --- around layers of several inputs and outputs --------------------------------------------------


def _two(width: int = 3) -> Layer[Any, Any]:
    return branch(dense(width), identity())


_AROUND: dict[str, Callable[[Any], Layer[Any, Any]]] = {
    "serial": serial,
    "named": lambda layer: named("a", layer),
    "residual": residual,
    "shortcut": lambda layer: residual(layer, shortcut=identity()),
    "repeat": lambda layer: repeat(layer, times=2),
    "share": lambda layer: share(layer, times=2),
    "parallel": lambda layer: parallel(layer, layer),
    "concatenate": lambda layer: parallel(layer, layer, merge="concatenate"),
    "branch": lambda layer: branch(layer, layer),
    "each": lambda layer: each(layer, layer),
    "dense_connect": dense_connect,
    "graph": graph,
    "remat": remat,
    "freeze": freeze,
    "time_distributed": time_distributed,
    "bidirectional": bidirectional,
    "mask": lambda layer: keep_context(layer, "mask"),
    "memory": lambda layer: keep_context(layer, "memory"),
    "both": lambda layer: keep_context(layer, "memory, mask"),
    "residual_with_context": residual_with_context,
    "weight_norm": weight_norm,
}
_X, _S, _B = np.ones((2, 3), np.float32), np.ones((2, 5, 3), np.float32), np.ones((2, 5), np.bool_)
_CARRY = (_S, (np.ones((2, 1, 3), np.float32),) * 2)
_INSIDE: dict[str, tuple[Layer[Any, Any], Any]] = {
    "two outputs": (_two(), _X),
    "nested outputs": (branch(_two(), dense(3)), _X),
    "sequences": (branch(time_distributed(dense(3)), identity()), _S),
    "two inputs": (merge(), (_X, _X)),
    "two of both": (branch(merge(), merge("mean")), (_X, _X)),
    "carry": (lstm(3, carry=True), _CARRY),
    "lengths": (gru(3, lengths=True), (_S, np.array([1, 2]))),
    "integers": (embedding(5, 3), np.zeros((2, 5), int)),
    "one": (dense(3), _X),
}


@pytest.mark.parametrize("inside", _INSIDE)
@pytest.mark.parametrize("around", _AROUND)
def test_several_inputs_and_outputs_work_or_are_refused_by_name(around: str, inside: str) -> None:
    layer, x = _INSIDE[inside]
    for given in (x, (x, _B), (x, _S), (x, _S, _B), (x, _X), (x, x)):
        try:
            net = _AROUND[around](layer)
            out_shape, params = net.init(random.key(0), _values.shapes(given))
            out, cache = net.apply(params, given)
            assert _values.shapes(out) == out_shape
            dout = _values.mapped(lambda leaf: np.ones(leaf.shape, np.float32), out)
            dparams, dx = net.vjp(cache, dout)
            assert _values.shapes(dx) == _values.shapes(given)
            assert _values.shapes(dparams) == _values.shapes(params)
            if net.params_vjp is not None:
                tree.map(np.testing.assert_array_equal, net.params_vjp(cache, dout), dparams)
        except Refusal as refusal:
            text = str(refusal)
            assert re.match(r"[\w/]+: .* must .{,200}$", text), text


def test_a_context_is_kept_beside_several_outputs() -> None:
    net: Net = keep_context(_two(2), "mask")
    _, params = net.init(random.key(0), ((2, 3), (2, 5)))
    ((one, two), mask), cache = net.apply(params, (_X, _B))
    assert one.shape == (2, 2)
    np.testing.assert_array_equal(two, _X)
    assert mask is _B
    dout = ((np.ones_like(one), np.ones_like(two)), np.zeros((2, 5), np.float32))
    _, (dx, dmask) = net.vjp(cache, dout)
    np.testing.assert_allclose(dx, 1 + params["dense1"]["weight"].sum(0) * np.ones((2, 1)), rtol=1e-6)
    assert not dmask.any()


def test_a_residual_adds_several_outputs_one_by_one() -> None:
    net = residual(branch(merge(), merge("mean")))
    out, cache = net.apply({}, (_X, 3 * _X))
    np.testing.assert_array_equal(out[0], 5 * _X)
    np.testing.assert_array_equal(out[1], 5 * _X)
    _, dx = net.vjp(cache, (_X, 2 * _X))
    np.testing.assert_array_equal(dx[0], 3 * _X)
    np.testing.assert_array_equal(dx[1], 4 * _X)


def test_each_gives_an_input_to_a_layer_of_its_own() -> None:
    one, two = dense(3), serial(dense(4), dense(2))
    net: Net = each(one, two)
    a, b = _x(5, 4), _x(5, 6)
    shape, params = net.init(random.key(0), (a.shape, b.shape))
    assert shape == ((5, 3), (5, 2))
    (out_a, out_b), cache = net.apply(params, (a, b))
    np.testing.assert_array_equal(out_a, one.apply(params["dense1"], a)[0])
    np.testing.assert_array_equal(out_b, two.apply(params["serial1"], b)[0])
    dparams, (da, db) = net.vjp(cache, (out_a, np.zeros_like(out_b)))
    assert da.any()
    assert not db.any()
    assert not any(leaf.any() for _, leaf in tree.leaves(dparams["serial1"]))
