"""A model in one file: every layer of the library comes back, and no file runs code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcnn
from funcnn import (
    checkpoints,
    conv,
    dense,
    flatten,
    initializers,
    named,
    random,
    relu,
    repeat,
    serial,
    tree,
)
from funcnn.types import Layer, Spec
from tests import registry
from tests.registry import Case

STORED = Path(__file__).parent / "stored"
DIGIT = np.linspace(-1, 1, 2 * 8 * 8, dtype=np.float32).reshape(2, 1, 8, 8)
SMALL = initializers.normal(0.1)
NET = serial(
    named("first", conv(4, 3, padding=1)), relu(),
    repeat(conv(4, 3, padding=1, weight_init=SMALL), times=2), flatten(), dense(3, bias=False),
)  # fmt: skip


def model(folder: Path) -> Path:
    _, params = NET.init(random.key(0), DIGIT.shape)
    funcnn.save(folder / "net.npz", NET, params)
    return folder / "net.npz"


@pytest.mark.parametrize("case", registry.layers(), ids=lambda case: case.id)
def test_every_layer_comes_back(case: Case, tmp_path: Path) -> None:
    _, params = case.layer.init(random.key(0), case.shape)
    funcnn.save(tmp_path / "net.npz", case.layer, params)
    net, found = funcnn.load(tmp_path / "net.npz")
    assert net.spec == case.layer.spec
    assert repr(net) == repr(case.layer)
    assert tree.equal(found, params)
    assert tree.equal(
        net.init(random.key(1), case.shape)[1], case.layer.init(random.key(1), case.shape)[1]
    )


def test_the_same_bits_come_out(tmp_path: Path) -> None:
    net, params = funcnn.load(model(tmp_path))
    _, before = NET.init(random.key(0), DIGIT.shape)
    assert np.array_equal(net.apply(params, DIGIT)[0], NET.apply(before, DIGIT)[0])
    assert tree.equal(checkpoints.load(tmp_path / "net.npz")[0], before)


@pytest.mark.parametrize("version", [1])
def test_files_of_each_released_format_still_load(version: int) -> None:
    """Add a file and its numbers here with each new version; never take one away."""
    net, params = funcnn.load(STORED / f"model_v{version}.npz")
    assert repr(net) == repr(NET)
    wanted = json.loads((STORED / f"model_v{version}.json").read_text())
    assert np.allclose(net.apply(params, DIGIT)[0], wanted, rtol=1e-5)


# --- layers of one's own ------------------------------------------------------------------------------


def own(units: int) -> Layer[Any, Any]:
    return dense(units)._replace(spec=Spec(own, (units,)))


def test_layers_of_ones_own_are_built_only_when_they_are_allowed(tmp_path: Path) -> None:
    net = serial(own(3), relu())
    _, params = net.init(random.key(0), (1, 2))
    funcnn.save(tmp_path / "net.npz", net, params)
    message = r"must be a model: this funcnn does not know the layer '.*:own': write allow=\(own,\)$"
    with pytest.raises(ValueError, match=f"^load: .*{message}"):
        funcnn.load(tmp_path / "net.npz")
    found, _ = funcnn.load(tmp_path / "net.npz", allow=(own,))
    assert repr(found) == "serial(own(3), relu())"


def test_what_could_not_be_built_again_is_refused(tmp_path: Path) -> None:
    def inner(units: int) -> Layer[Any, Any]:
        return dense(units)._replace(spec=Spec(inner, (units,)))

    plain = "must have options that are plain data"
    for net, message in (
        (inner(3), "must be made by functions at the top of a module, got .*<locals>.inner"),
        (Layer(*dense(3)[:3]), "must be made by functions at the top of a module"),
        (dense(3)._replace(spec=Spec(own, (np.ones(3),))), plain),
        (dense(3)._replace(spec=Spec(own, (), {"f": print})), plain),
        (
            dense(3, weight_init=initializers.Initializer(np.zeros)),
            "must have initializers of this library",
        ),
    ):
        with pytest.raises(ValueError, match=f"^save: `net` {message}"):
            funcnn.save(tmp_path / "net.npz", net, {})
    with pytest.raises(TypeError, match=r"^save: `net` must be a layer, got .*: write dense\(\)"):
        funcnn.save(tmp_path / "net.npz", dense, {})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^save: `params` must be a dict"):
        funcnn.save(tmp_path / "net.npz", dense(3), [])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^load: `allow` must be a tuple of functions, got 'own'"):
        funcnn.load(tmp_path / "net.npz", allow="own")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# --- what a stranger may have made --------------------------------------------------------------------


def node(
    layer: Any = "dense", args: Any = (3,), options: Any = None, layers: Any = ()
) -> dict[str, Any]:
    return {"layer": layer, "args": list(args), "options": options or {}, "layers": list(layers)}


def initial(**change: Any) -> dict[str, Any]:
    made = {"name": "normal", "args": {"tuple": [0.1]}, "options": {"dict": {}}, **change}
    return {"weight_init": {"initializer": made}}


@pytest.mark.parametrize(
    "net",
    [
        None, [], "dense", {}, {"layer": "dense"},
        node("fit"), node("save"), node("load"), node("os:system", ["true"]), node(None), node(3),
        node([]),
        node("frozen_paths"), node("statistics"), node("__class__"),
        node(args=[-3]), node(args=[3.0]), node(args=["3"]), node(args=[]), node(args=[3, 3]),
        node(args=[[3]]),
        node(args=[10**400]),
        node(options={"bias": 1}), node(options={"width": 3}), node(options={"bias": {"float": "x"}}),
        node(options={"bias": {"unknown": 1}}), node(options={"bias": {"tuple": 3}}),
        node(options={"bias": {}}), node(options={"bias": {"tuple": [], "dict": {}}}),
        node(options=initial(name="eval")), node(options=initial(name="Initializer")),
        node(options=initial(args={"tuple": ["a"]})), node(options=initial(more=1)),
        node("serial", [], {}, [node(), None]), node("serial", [], {}, [node("relu", [], {"a": 1})]),
        node("residual", [], {}, []),
        node(),  # whose options are left to defaults, which another version may have changed
    ],
)  # fmt: skip
def test_forged_networks_are_refused_in_one_line(tmp_path: Path, net: Any) -> None:
    checkpoints.save(tmp_path / "net.npz", {}, {"model": {"version": 1, "net": net}})
    with pytest.raises(ValueError, match=r"^load: .*net\.npz must be a model: ") as caught:
        funcnn.load(tmp_path / "net.npz")
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("depth", [100, 300])
def test_forged_depth_is_refused(tmp_path: Path, depth: int) -> None:
    net = node("relu", [])
    for _ in range(depth):
        net = node("serial", [], {}, [net])
    checkpoints.save(tmp_path / "net.npz", {}, {"model": {"version": 1, "net": net}})
    with pytest.raises(ValueError, match=r"^load: .*net\.npz must be a model: "):
        funcnn.load(tmp_path / "net.npz")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "must hold a model: this file is another"),
        ({"model": 3}, "must hold a model: this file is another"),
        ({"model": {"version": True}}, "must hold a model: this file is another"),
        (
            {"model": {"version": 2}},
            "must hold a model of version 1 or older, got 2: a newer",
        ),
        ({"model": {"version": 1}}, "must be a model: it has a layer without a constructor"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, meta: dict[str, Any], message: str) -> None:
    checkpoints.save(tmp_path / "net.npz", {}, meta)
    with pytest.raises(ValueError, match=rf"^load: .*net\.npz {message}"):
        funcnn.load(tmp_path / "net.npz")
