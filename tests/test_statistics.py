"""Running statistics: a function of the layer, which every combinator hands on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from funcnn import (
    batch_norm,
    combinators,
    dense,
    dropout,
    fit,
    freeze,
    inference_mode,
    mean_squared_error,
    optimizers,
    random,
    relu,
    serial,
    share,
    train_state,
    train_step,
    tree,
    value_and_grad,
)
from funcnn.data import Dataset
from funcnn.structure import name_children, nodes
from funcnn.testing import _values
from funcnn.types import Cache, Key, Layer, Params, Shape, Spec, Trait, has_trait, no_statistics
from tests import registry

Net = Layer[Any, Any]
KEY = random.key(0)
_OLD: Any = combinators  # to call what mypy would refuse
CASES = [case for case in registry.layers() if has_trait(case.layer.spec, "statistics")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_statistics_are_those_leaves_of_the_params(case: registry.Case) -> None:
    subject = registry.subject(case)
    places = nodes(case.layer, case.shape)
    still = tuple("/".join((*node.path, "")) for node in places if "inference" in node.spec.traits)
    paths = (path for path, _ in tree.leaves(subject.params) if not path.startswith(still))
    kept = {path for path in paths if tree.is_statistic(path)}
    cache = subject.run("training").cache
    new = case.layer.statistics(cache)
    assert {path for path, _ in tree.leaves(new)} == kept
    assert tree.equal(combinators.statistics(case.layer, cache), new)
    assert tree.leaves(case.layer.statistics(subject.run("inference").cache)) == []
    with pytest.warns(DeprecationWarning, match="write net.statistics"):
        assert tree.equal(_OLD.statistics(cache), new)  # as version 0.1 called it


@pytest.mark.sampled(8)
@pytest.mark.parametrize("eighth", range(8))
def test_caches_are_plain(eighth: int) -> None:
    """No name in a cache has a meaning to anyone but its layer."""
    for case in registry.layers()[eighth::8]:
        paths = [path for path, _ in _values.leaves(registry.subject(case).run("training").cache)]
        assert not [path for path in paths if "running" in path.split("/")], case.id


def test_a_layer_without_statistics_has_none() -> None:
    net = serial(dense(3), relu())
    assert net.statistics is no_statistics
    assert net.statistics(net.apply(net.init(random.key(0), (2, 4))[1], np.ones((2, 4), "f"))[1]) == {}


# --- layers that run as in inference --------------------------------------------------------------

_BODY: Net = serial(dense(4), batch_norm(), relu(), dropout(0.5))


def test_a_still_batch_norm_trains_its_weights_and_keeps_its_statistics() -> None:
    net = serial(inference_mode(_BODY), dense(1))
    x, y = random.normal(KEY, (32, 3)), random.normal(random.key(1), (32, 1))
    _, params = net.init(KEY, x.shape)
    params = tree.map_with_path(
        lambda path, leaf: leaf + 0.5 if tree.is_statistic(path) else leaf, params
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that a key is missing
        step = value_and_grad(net, mean_squared_error())
        value, grads = step(params, x, y)
    with_key = step(params, x, y, random.key(2))
    assert tree.equal(with_key, (value, grads))
    inside = grads["serial1"]
    assert np.any(inside["dense1"]["weight"])
    assert np.any(inside["batch_norm1"]["scale"])
    result = fit(
        net, mean_squared_error(), optimizers.sgd(0.1), Dataset(x, y), key=KEY, epochs=2, batch_size=31,
        params=params, progress=False,
    )  # fmt: skip
    before, after = params["serial1"]["batch_norm1"], result.params["serial1"]["batch_norm1"]
    moved = {name: not np.array_equal(leaf, after[name]) for name, leaf in before.items()}
    assert moved == {"scale": True, "bias": True, "running_mean": False, "running_var": False}


def test_what_runs_as_in_inference_has_other_traits() -> None:
    for layer in (inference_mode(_BODY), inference_mode(serial(_BODY, batch_norm()))):
        kinds: tuple[Trait, ...] = ("stochastic", "statistics", "couples_batch")
        assert not any(has_trait(layer.spec, trait) for trait in kinds)
    assert has_trait(inference_mode(batch_norm(track_running=False)).spec, "couples_batch")
    assert has_trait(serial(inference_mode(_BODY), dropout(0.5)).spec, "stochastic")
    with pytest.raises(TypeError, match=r"^inference_mode: `key` must be a funcnn Key"):
        inference_mode(_BODY).apply({}, np.ones((1, 3), "f"), key=3)  # type: ignore[arg-type]
    _, params = serial(inference_mode(_BODY)).init(KEY, (2, 3))
    assert tree.equal(params, serial(_BODY).init(KEY, (2, 3))[1])


# --- layers of users ------------------------------------------------------------------------------


def _largest(*, old: bool = False) -> Net:
    """What it is given, and the largest of it so far, as a layer of version 0.1 told it, or of now."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return shape, {"running_most": np.zeros(shape[1:], np.float32)}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        if key is None:
            return x, {}
        most = np.maximum(params["running_most"], x.max(axis=0))
        return x, {"running": {"running_most": most}} if old else {"most": most}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        return {"running_most": np.zeros(dout.shape[1:], dout.dtype)}, dout

    def statistics(cache: Cache) -> Params:
        return {"running_most": cache["most"]} if cache else {}

    spec = Spec(_largest, options={"old": True} if old else {}, traits=frozenset({"statistics"}))
    layer = Layer(init, apply, vjp, spec)
    return layer if old else layer._replace(statistics=statistics)


def _one_by_one(*layers: Net) -> Net:
    """A combinator that says nothing of statistics."""
    children = tuple(name_children(layers))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        params = {}
        for name, layer in children:
            shape, params[name] = layer.init(key, shape)
        return shape, params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        cache = {}
        for name, layer in children:
            x, cache[name] = layer.apply(params[name], x, key=key)
        return x, cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams = {}
        for name, layer in reversed(children):
            dparams[name], dout = layer.vjp(cache[name], dout)
        return dparams, dout

    return Layer(init, apply, vjp, Spec(_one_by_one, children=tuple(one.spec for one in layers)))


@pytest.mark.filterwarnings("ignore:_largest. `cache.*is of version 0.1:DeprecationWarning")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda layer: layer,
        lambda layer: serial(dense(3), layer),
        lambda layer: _one_by_one(dense(3), layer),
        lambda layer: serial(freeze(_one_by_one(dense(3), layer)), relu()),
        lambda layer: share(serial(layer), times=2),
    ],
)
def test_layers_of_users_are_carried_on(old: bool, wrap: Any) -> None:
    net, x = wrap(_largest(old=old)), np.array([[1.0, 5.0, 2.0], [4.0, 0.0, 3.0]], np.float32)
    optimizer = optimizers.sgd(0.0)
    state = train_state(net, optimizer, random.key(0), x.shape)
    step = train_step(net, mean_squared_error(), optimizer)
    state, _ = step(state, Dataset(x, np.zeros((2, 3), np.float32)))
    (most,) = [leaf for path, leaf in tree.leaves(state.params) if tree.is_statistic(path)]
    if dense(3).spec.kind not in repr(net):
        assert most.tolist() == [4.0, 5.0, 3.0]
    assert most.any()


def test_a_layer_of_version_0_1_is_told_what_to_write() -> None:
    layer, x = _largest(old=True), np.ones((2, 3), np.float32)
    _, cache = layer.apply(layer.init(random.key(0), x.shape)[1], x, key=random.key(0))
    with pytest.warns(DeprecationWarning, match="_largest: .*write Layer.*statistics=") as caught:
        assert combinators.statistics(layer, cache)["running_most"].all()
    assert len(caught) == 1


def test_wrappers_keep_statistics_of_what_they_wrap() -> None:
    net = combinators.named("norm", batch_norm())
    _, cache = net.apply(net.init(random.key(0), (4, 3))[1], np.ones((4, 3), "f"), key=random.key(0))
    assert list(net.statistics(cache)) == ["running_mean", "running_var"]
