"""Finding trouble: the first layer to go wrong is named, and what is learnt is learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn import (
    adam,
    batch_norm,
    conv,
    dense,
    dropout,
    flatten,
    max_pool,
    mean_squared_error,
    named,
    optimizers,
    random,
    relu,
    residual,
    serial,
    sgd,
    softmax_cross_entropy,
    tree,
    value_and_grad,
)
from funcnn.diagnose import (
    Finding,
    gradient_norms,
    learning_rate_finder,
    overfit_one_batch,
    trace_nan,
)
from funcnn.testing import digest
from funcnn.tracing import Recorder, trace, trace_backward
from funcnn.types import Cache, Image, Key, Layer, Params, Shape, Spec, Vector
from tests import registry

HEAD: Layer[Image, Vector] = named("head", serial(flatten(), dense(8), relu(), dense(3)))
BLOCK = residual(conv(4, 3, padding=1), dropout(0.2))
NET = serial(conv(4, 3, padding=1), batch_norm(), relu(), max_pool(2), BLOCK, HEAD)
LOSS = softmax_cross_entropy()
X = random.normal(random.key(1), (6, 1, 8, 8))
Y = np.arange(6) % 3


def start() -> Params:
    return NET.init(random.key(0), X.shape)[1]


def logarithm(plus: float = 0.0) -> Layer[Any, Any]:
    """A layer with a slope that explodes where its value does not."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return shape, {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        return np.sqrt(x + plus), x

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        return {}, dout / (2 * np.sqrt(cache + plus))

    return Layer(init, apply, vjp, Spec(logarithm, options={"plus": plus}))


NO_KEY = pytest.mark.filterwarnings("ignore:value_and_grad. without a key:UserWarning")

# --- tracing ------------------------------------------------------------------------------------------


@NO_KEY
@pytest.mark.parametrize("key", [None, random.key(3)])
def test_a_trace_has_the_bits_of_the_network(key: Key | None) -> None:
    params = start()
    traced = trace_backward(NET, params, LOSS, X, Y, key=key)
    value, grads, _ = value_and_grad(NET, LOSS, statistics=True)(params, X, Y, key)
    assert traced.value == value
    assert tree.equal(traced.grads, grads)
    assert np.array_equal(traced.visits[-1].out, NET.apply(params, X, key=key)[0])
    forward = [visit.out for visit in trace(NET, params, X, key=key)]
    assert all(np.array_equal(a, b.out) for a, b in zip(forward, traced.visits, strict=True))


def test_paths_are_those_of_the_parameters_in_the_order_written() -> None:
    visits = trace(NET, start(), X)
    assert [visit.path for visit in visits] == [
        "conv1", "batch_norm1", "relu1", "max_pool1",
        "residual1/conv1", "residual1/dropout1", "residual1",
        "head/flatten1", "head/dense1", "head/relu1", "head/dense2", "head", "",
    ]  # fmt: skip
    backward = trace_backward(NET, start(), LOSS, X, Y).pullbacks
    own = [pull for pull in backward if not pull.spec.children]
    leaves = {f"{pull.path}/{leaf}" for pull in own for leaf in pull.dparams}
    assert leaves == {path for path, _ in tree.leaves(start())}


COMBINED = [case for case in registry.layers() if case.layer.spec.children]


@pytest.mark.parametrize("case", COMBINED, ids=lambda case: str(case.id))
def test_every_combinator_is_traced_to_the_bit(case: registry.Case) -> None:
    subject = registry.subject(case)
    for key in (None, random.key(5)):
        out, cache = case.layer.apply(subject.params, subject.x, key=key)
        recorder = Recorder()
        watched = recorder.watch(case.layer)
        found, watched_cache = watched.apply(subject.params, subject.x, key=key)
        assert digest(found) == digest(out)
        assert digest(recorder.visits[-1].out) == digest(out)
        assert recorder.visits[-1].path == ""
        visited = len(recorder.visits)
        dout = subject.dout(out)
        assert digest(watched.vjp(watched_cache, dout)) == digest(case.layer.vjp(cache, dout))
        assert len(recorder.visits) == visited
        assert recorder.pullbacks[-1].path == ""
        paths = {visit.path for visit in recorder.visits}
        assert {pull.path for pull in recorder.pullbacks} <= paths


def test_a_single_layer_is_traced() -> None:
    _, params = dense(2).init(random.key(0), (1, 3))
    (visit,) = trace(dense(2), params, np.ones((1, 3), np.float32))
    assert visit.path == ""
    assert visit.spec.kind == "dense"


def test_tracing_refuses_what_is_no_network() -> None:
    with pytest.raises(TypeError, match=r"^trace: `net` must be a layer, got 3"):
        trace(3, {}, X)  # type: ignore[arg-type]


# --- trace_nan ----------------------------------------------------------------------------------------


def test_nothing_is_wrong() -> None:
    assert trace_nan(NET, start(), X) is None
    assert trace_nan(NET, start(), X, Y, LOSS, key=random.key(4)) is None


@pytest.mark.parametrize(
    "path", ["conv1/weight", "batch_norm1/running_var", "residual1/conv1/bias", "head/dense2/weight"]
)
def test_a_broken_parameter_is_named(path: str) -> None:
    params = start()
    leaf = dict(tree.leaves(params))[path].copy()
    leaf.flat[1] = np.nan
    found = trace_nan(NET, tree.replace(params, {path: leaf}), X, Y, LOSS)
    assert found is not None
    assert (found.phase, found.path, found.what, found.bad) == ("params", path, "parameter", 1)
    assert str(found).startswith(f"params: the parameter {path} is nan at ")


def test_a_broken_input_is_named() -> None:
    x = X.copy()
    x[2, 0, 3, 4] = -np.inf
    found = trace_nan(NET, start(), x)
    assert found == Finding("input", "", "input", (2, 0, 3, 4), -np.inf, 1, x.size)


@pytest.mark.parametrize("layer", ["residual1/conv1", "head/dense1", "conv1"])
def test_the_layer_that_overflows_is_named(layer: str) -> None:
    params = start()
    name = f"{layer}/weight"
    huge = np.full_like(dict(tree.leaves(params))[name], 3e38)
    found = trace_nan(NET, tree.replace(params, {name: huge}), X)
    assert found is not None
    assert (found.phase, found.path, found.what) == ("forward", layer, "output")


def test_a_loss_that_is_not_finite_is_named() -> None:
    net = dense(1)
    params = {"weight": np.full((1, 1), 1e30, np.float32), "bias": np.zeros(1, np.float32)}
    x = np.ones((2, 1), np.float32)
    found = trace_nan(net, params, x, np.zeros((2, 1), np.float32), mean_squared_error())
    assert found is not None
    assert (found.phase, found.what) == ("loss", "loss")


def test_the_layer_whose_gradient_explodes_is_named() -> None:
    net: Layer[Any, Any] = serial(dense(4), relu(), logarithm(), named("last", dense(2)))
    _, params = net.init(random.key(0), (3, 4))
    x = random.normal(random.key(1), (3, 4))
    found = trace_nan(net, params, x, random.normal(random.key(2), (3, 2)), mean_squared_error())
    assert found is not None
    assert found.phase == "backward"
    assert (found.path, found.what) == ("logarithm1", "gradient of the input")


def test_trace_nan_wants_both_or_none() -> None:
    with pytest.raises(ValueError, match=r"^trace_nan: `y` and `loss` must be given together"):
        trace_nan(NET, start(), X, Y)


# --- gradient_norms -----------------------------------------------------------------------------------


@NO_KEY
def test_gradient_norms_are_the_norms() -> None:
    params = start()
    table = gradient_norms(NET, params, LOSS, X, Y)
    _, grads = value_and_grad(NET, LOSS)(params, X, Y)
    own = dict(tree.leaves(grads))
    assert table.paths[0] == "conv1/weight"
    assert not any("running" in path for path in table.paths)
    for path, gradient, parameter in zip(table.paths, table.gradient, table.parameter, strict=True):
        assert gradient == pytest.approx(np.linalg.norm(own[path]), rel=1e-5, abs=1e-12)
        assert parameter == pytest.approx(np.linalg.norm(dict(tree.leaves(params))[path]), rel=1e-5)
    assert table.total == pytest.approx(np.sqrt(np.sum(table.gradient**2)))
    lines = str(table).splitlines()
    assert len(lines) == len(table.paths) + 2
    assert lines[1].split()[0] == "conv1/weight"
    assert len({len(line) for line in lines[:-1]}) == 1


# --- learning_rate_finder -----------------------------------------------------------------------------


def test_the_learning_rate_found_trains_and_ten_times_more_explodes() -> None:
    x = random.normal(random.key(0), (256, 8))
    y = x[:, :2] * 3
    net, loss = dense(2), mean_squared_error()
    _, params = net.init(random.key(1), (1, 8))
    before = tree.map(np.copy, params)
    found = learning_rate_finder(net, params, loss, sgd, x, y, key=random.key(2))
    again = learning_rate_finder(net, params, loss, sgd, x, y, key=random.key(2))
    assert tree.equal(params, before)
    assert found.suggestion == again.suggestion
    assert np.array_equal(found.losses, again.losses)
    assert found.rates[0] == 1e-6
    assert np.allclose(np.diff(np.log(found.rates)), np.log(1e7) / 99)
    assert overfit_one_batch(net, params, loss, sgd(found.suggestion), x[:64], y[:64])
    with np.errstate(all="ignore"):
        assert not overfit_one_batch(net, params, loss, sgd(found.rates[-1] * 3), x[:64], y[:64])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 0.0}, "`lowest` must be above 0"),
        ({"highest": 1e-7}, "`highest` must be above 1e-06"),
        ({"steps": 5}, "`steps` must be at least 10"),
        ({"lowest": 1e15, "highest": 1e18}, "`lowest` must be lower"),
    ],
)
def test_learning_rate_finder_refuses(options: dict[str, float], message: str) -> None:
    x = random.normal(random.key(0), (64, 8))
    _, params = dense(2).init(random.key(1), (1, 8))
    arguments: dict[str, Any] = {"key": random.key(2), **options}
    with pytest.raises(ValueError, match=f"^learning_rate_finder: {message}"):
        learning_rate_finder(dense(2), params, mean_squared_error(), sgd, x, x[:, :2], **arguments)


# --- overfit_one_batch --------------------------------------------------------------------------------


def test_a_network_that_can_learn_does_and_one_that_cannot_does_not() -> None:
    params = start()
    learnt = overfit_one_batch(NET, params, LOSS, adam(0.01), X, Y, key=random.key(5))
    assert learnt
    assert len(learnt.losses) == 201
    frozen = optimizers.chain(optimizers.freeze("*"), adam(0.0))
    stuck = overfit_one_batch(NET, params, LOSS, frozen, X, Y, steps=5)
    assert not stuck
    assert len(set(stuck.losses.tolist())) == 1


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"net": conv}, TypeError, "`net` must be a layer, got <function conv"),
        ({"loss": softmax_cross_entropy}, TypeError, "`loss` must be a loss, got <function"),
        ({"optimizer": "adam"}, TypeError, "`optimizer` must "),
    ],
)
def test_parts_that_are_none_are_refused_by_name(
    change: dict[str, Any], kind: type[Exception], message: str
) -> None:
    parts = {"net": NET, "params": start(), "loss": LOSS, "x": X, "y": Y, **change}
    with pytest.raises(kind, match=f"^learning_rate_finder: {message}"):
        learning_rate_finder(**{"optimizer": adam, "key": random.key(0), **parts})
    with pytest.raises(kind, match=f"^overfit_one_batch: {message}"):
        overfit_one_batch(**{"optimizer": adam(0.1), **parts})


def test_an_optimizer_instead_of_what_makes_one_is_refused_and_the_other_way_round() -> None:
    loose: Any = learning_rate_finder
    with pytest.raises(TypeError, match=r"must make an optimizer of a .*, got adam\("):
        loose(NET, start(), LOSS, adam(0.1), X, Y, key=random.key(0))
    with pytest.raises(TypeError, match=r"`optimizer` must be an Optimizer, got <function adam"):
        overfit_one_batch(NET, start(), LOSS, adam, X, Y)  # type: ignore[arg-type]


def test_learning_rate_finder_needs_examples_with_targets() -> None:
    for x, y, message in ((X[:0], Y[:0], "`x` must have at least"), (X, Y[:3], "must have one length")):
        with pytest.raises(ValueError, match=f"^learning_rate_finder: .*{message}"):
            learning_rate_finder(NET, start(), LOSS, adam, x, y, key=random.key(0))
