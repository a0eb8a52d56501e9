"""The layers inside a network: by place, by name and in slices, with params to match."""

from __future__ import annotations

import pickle
import warnings
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from funcnn import (
    Layer,
    conv,
    dense,
    dropout,
    flatten,
    freeze,
    max_pool,
    named,
    parallel,
    random,
    relu,
    repeat,
    residual,
    serial,
    tree,
)
from funcnn.types import Preserving
from tests import registry

NET: Layer[Any, Any] = serial(
    conv(4, 3, padding=1),
    relu(),
    conv(4, 3, padding=1),
    residual(conv(4, 1), relu()),
    max_pool(2),
    named("head", serial(flatten(), dense(8), relu(), dropout(0.5), dense(3))),
)
SHAPE = (2, 1, 4, 4)
PARAMS = NET.init(random.key(0), SHAPE)[1]
X = random.normal(random.key(1), SHAPE)


def _out(net: Layer[Any, Any], params: Any, x: Any) -> Any:
    return net.apply(params, x)[0]


@pytest.mark.parametrize("cut", range(1, len(NET)))
def test_a_chain_is_its_first_part_and_then_the_rest(cut: int) -> None:
    first, rest = NET[:cut], NET[cut:]
    between = _out(first, tree.select(PARAMS, first), X)
    out = _out(rest, tree.select(PARAMS, rest), between)
    assert tree.equal(out, _out(NET, PARAMS, X))
    assert {**tree.select(PARAMS, first), **tree.select(PARAMS, rest)} == PARAMS


def test_each_layer_has_its_place_and_its_name() -> None:
    assert len(NET) == 6
    assert list(NET) == [NET[i] for i in range(6)] == [NET[i - 6] for i in range(6)]
    assert [NET[name] for name in ("conv1", "relu1", "conv2", "residual1", "max_pool1", "head")] == [
        *NET
    ]
    x = X
    for name, layer in NET.children:
        assert layer is NET[name]
        x = _out(layer, PARAMS.get(name, {}), x)
    assert tree.equal(x, _out(NET, PARAMS, X))


@pytest.mark.parametrize(
    "part", [NET[2:], NET[::2], NET[-1][3:], repeat(named("b", dense(2)), times=3)[1:]]
)
def test_names_and_weights_survive_slices_pickling_and_copies(part: Layer[Any, Any]) -> None:
    names = [name for name, _ in part.children]
    shape = (2, 4, 4, 4) if "max_pool1" in names else (2, 8)
    for again in (pickle.loads(pickle.dumps(part)), deepcopy(part), part[:]):
        assert [name for name, _ in again.children] == names
        assert repr(again[:]) == repr(again)
        key = random.key(0)
        assert tree.equal(again.init(key, shape)[1], part.init(key, shape)[1])


def test_paths_lead_through_names_and_combinators() -> None:
    assert NET["head"][1] is NET["head/dense1"]
    assert NET["residual1/conv1"] is NET["residual1"]["conv1"] is NET[3][0]
    assert repr(NET["head"][:2]) == "serial(flatten(), dense(8))"
    both = parallel(dense(2), dense(3), merge="concatenate")
    assert (len(both), both["dense2"], len(dense(3)), bool(dense(3))) == (2, both[1], 0, True)
    assert freeze(NET)[0]["conv1"] is NET[0]


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (6, IndexError, "serial: 6 must be the place of one of 6 layers"),
        (-7, IndexError, "serial: -7 must be the place of one of 6 layers"),
        (
            "conv3",
            KeyError,
            "serial: 'conv3' must name one of ['conv1', 'relu1', 'conv2', 'residual1', ",
        ),
        ("conv1/x", KeyError, "conv: 'x' must name one of []"),
        ("x" * 999, KeyError, "serial: 'xxxxxxxxxxxx...xxxxxxxxxxxxx' must name one of ["),
        (1.5, TypeError, "serial: 1.5 must be a place, a name or a slice"),
        (None, TypeError, "serial: None must be a place, a name or a slice"),
        (True, TypeError, "serial: True must be a place, a name or a slice"),
        (slice("a", "b"), TypeError, "serial: slice('a', 'b', None) must go from place to place"),
        (slice(0, 2, 0), TypeError, "serial: slice(0, 2, 0) must go from place to place"),
        (slice(2, 2), ValueError, "serial: there must be at least one layer"),
    ],
)
def test_what_is_not_inside_is_refused(index: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        NET[index]
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_only_chains_have_slices_and_only_networks_select() -> None:
    with pytest.raises(TypeError, match=r"^residual: only a chain, made by `serial` or `repeat`, has"):
        NET[3][0:1]
    with pytest.raises(TypeError, match=r"^select: `pattern` must be a str, a function or a network"):
        tree.select(PARAMS, NET[0])


def test_a_layer_taken_out_refuses_in_its_own_name_and_does_not_warn() -> None:
    with pytest.raises(ValueError, match=r"^conv: `x` must have 4 axes"):
        NET[0].apply(PARAMS["conv1"], np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"^serial: there"):
        serial()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        far = np.full((1, 8), np.float32(3e38))
        dense3 = NET["head/dense2"]
        dense3.apply({"weight": far.repeat(3, 0), "bias": np.zeros(3, np.float32)}, far)
        NET["head"][4:].apply(
            {"dense2": {"weight": far.repeat(3, 0), "bias": np.zeros(3, np.float32)}}, far
        )


def test_a_part_of_layers_that_preserve_preserves() -> None:
    assert isinstance(serial(relu(), dropout(0.5), dense(1))[:2], Preserving)
    assert not isinstance(NET[:2], Preserving)


def test_every_combinator_gives_its_layers_by_name() -> None:
    several = [case.layer for case in registry.layers() if len(case.layer.children) > 1]
    assert len(several) > 50
    for layer in several:
        inside = dict(layer.children)
        assert [layer[i] for i in range(len(layer))] == list(layer) == list(inside.values()), layer
        assert all(layer[name] is child for name, child in inside.items()), layer
