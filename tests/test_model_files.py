"""A model in one file: every layer of the library comes back, and no file runs code."""

from __future__ import annotations

import functools
import json
import re
import signal
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

import funcnn
from funcnn import (
    checkpoints,
    conv,
    dense,
    flatten,
    initializers,
    model_files,
    named,
    random,
    relu,
    repeat,
    residual,
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


def plain() -> Layer[Any, Any]:
    """A layer that looks at its input at once, and checks nothing."""
    return dense(3)._replace(
        apply=lambda params, x, *, key=None: (x * x.dtype.type(1), {}), spec=Spec(plain)
    )


@pytest.mark.parametrize(
    "net",
    [plain(), serial(plain(), dense(2)), residual(serial(plain(), relu())), repeat(plain(), times=2)],
    ids=repr,
)
def test_layers_of_ones_own_need_not_check_their_input_to_be_saved(
    net: Layer[Any, Any], tmp_path: Path
) -> None:
    _, params = net.init(random.key(0), (1, 3))
    funcnn.save(tmp_path / "net.npz", net, params)
    found, weights = funcnn.load(tmp_path / "net.npz", allow=(plain,))
    assert repr(found) == repr(net)
    assert tree.equal(weights, params)


def test_what_could_not_be_built_again_is_refused(tmp_path: Path) -> None:
    def inner(units: int) -> Layer[Any, Any]:
        return dense(units)._replace(spec=Spec(inner, (units,)))

    data, layer = "must have options that are plain data", dense(3)
    for net, message in (
        (inner(3), "must be made by functions at the top of a module, got .*<locals>.inner"),
        (Layer(layer.init, layer.apply, layer.vjp), "must be made by functions at the top of a module"),
        (dense(3)._replace(spec=Spec(own, (np.ones(3),))), data),
        (dense(3)._replace(spec=Spec(own, (), {"f": print})), data),
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
    with pytest.raises(TypeError, match=r"^load: `allow` must be a tuple of functions, got "):
        funcnn.load(tmp_path / "net.npz", allow=(functools.partial(own, 3),))
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


# --- how large a stranger's network is ----------------------------------------------------------------


def numbers_replaced(value: Any, other: int) -> Iterator[Any]:
    """Copies of what JSON holds, each with one int replaced."""
    if type(value) is int:
        yield other
    for name, part in value.items() if isinstance(value, dict) else ():
        yield from ({**value, name: new} for new in numbers_replaced(part, other))
    for i, part in enumerate(value) if isinstance(value, list) else ():
        yield from ([*value[:i], new, *value[i + 1 :]] for new in numbers_replaced(part, other))


def nodes_in(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield part
    for child in part["layers"]:
        yield from nodes_in(child)


def node_of_each_layer() -> dict[str, dict[str, Any]]:
    """The shortest node of each kind and set of options in the registry."""
    found: dict[str, dict[str, Any]] = {}
    for case in registry.layers():
        for part in nodes_in(model_files._node(case.layer.spec)):
            kind = f"{part['layer']} {len(part['args'])} {sorted(part['options'])}"
            if kind not in found or len(str(part)) < len(str(found[kind])):
                found[kind] = part
    return found


def loaded_at_once(file: Path, net: Any, params: Any = None) -> str:
    """What is said of a file with this network, in little time and memory."""
    checkpoints.save(file, params or {}, {"model": {"version": 1, "net": net}})
    started, text = time.process_time(), ""
    tracemalloc.start()
    try:
        funcnn.load(file)
    except ValueError as refusal:
        text = str(refusal)
        assert text.isprintable(), text
        assert len(text) < 300, text
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert time.process_time() - started < 20
    assert peak < 64 << 20
    return text


@pytest.mark.parametrize("number", [10**9, 2**62])
@pytest.mark.parametrize("part", node_of_each_layer().values(), ids=node_of_each_layer())
def test_no_number_makes_a_network_that_is_long_in_the_building(
    tmp_path: Path, part: dict[str, Any], number: int
) -> None:
    def late(*_: object) -> NoReturn:
        raise AssertionError("it takes too long")

    before = signal.signal(signal.SIGALRM, late)
    try:
        for forged in numbers_replaced({**part, "layers": []}, number):
            signal.alarm(10)
            loaded_at_once(tmp_path / "net.npz", {**forged, "layers": part["layers"]})
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def copies(times: int, inside: dict[str, Any], depth: int = 1) -> dict[str, Any]:
    for _ in range(depth):
        inside = node("repeat", [], {"times": times}, [inside])
    return inside


RELU = node("relu", [])


@pytest.mark.parametrize(
    "net",
    [
        copies(10**9, RELU), copies(10**4200, RELU), copies(10_000, RELU), copies(2, RELU, 64),
        copies(1, node("serial", [], {}, [RELU] * 9999)),
        node("serial", [], {}, [RELU] * 10_000), node("serial", [], {}, [copies(101, RELU)] * 100),
        node("share", [], {"times": 10**9}, [RELU]), node("lstm", [2], {"layers": 10**9}),
        copies(500, node("gru", [2], {"layers": 100})),
    ],
    ids=range(10),
)  # fmt: skip
def test_networks_of_more_than_10_000_layers_are_refused(tmp_path: Path, net: Any) -> None:
    text = loaded_at_once(tmp_path / "net.npz", net)
    assert re.search(r"^load: .*net\.npz must be a model: it has .* layers, more than 10000$", text)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "net",
    [
        copies(2, RELU, 11),
        copies(9999, RELU),
        node("serial", [], {}, [RELU] * 9999),
        node("serial", [], {}, [copies(99, RELU)] * 99),
    ],
)
def test_as_many_layers_as_may_be_are_built_at_once(tmp_path: Path, net: Any) -> None:
    assert not loaded_at_once(tmp_path / "net.npz", net)


def test_more_layers_than_can_be_built_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^save: `net` must have at most 10000 layers, got 20002$"):
        funcnn.save(tmp_path / "other.npz", serial(repeat(relu(), times=20_000)), {})
    assert not (tmp_path / "other.npz").exists()


# --- parameters that fit ------------------------------------------------------------------------------

# These look at their input before their parameters, whose sizes depend on it.
AT_THE_INPUT = ("tied(",)


def without(params: Any, path: str) -> Any:
    first, _, rest = path.partition("/")
    return {
        name: without(part, rest) if name == first else part
        for name, part in params.items()
        if name != path
    }


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "case",
    [c for c in registry.layers() if not any(w in c.id for w in AT_THE_INPUT)],
    ids=lambda c: c.id,
)
def test_parameters_that_fit_no_input_are_neither_saved_nor_loaded(case: Case, tmp_path: Path) -> None:
    _, params = case.layer.init(random.key(0), case.shape)
    wrong = [{**params, "stranger": np.ones(1, np.float32)}]
    for path, leaf in tree.leaves(params):
        wrong.append(tree.replace(params, {path: np.ones((*leaf.shape, 2), leaf.dtype)}))
        wrong.append(tree.replace(params, {path: np.ones(leaf.shape, np.int64)}))
        wrong.append(without(params, path))
    meta = {"model": {"version": 1, "net": model_files._node(case.layer.spec)}}
    for other in wrong:
        with pytest.raises(ValueError, match=r"^save: `params` must fit `net`: .*`params"):
            funcnn.save(tmp_path / "net.npz", case.layer, other)
        checkpoints.save(tmp_path / "forged.npz", other, meta)
        with pytest.raises(
            ValueError, match=r"its parameters do not fit its network: .*`params"
        ) as caught:
            funcnn.load(tmp_path / "forged.npz")
        assert len(str(caught.value)) < 300
    assert not (tmp_path / "net.npz").exists()


def test_a_misfit_is_named_with_its_path_and_both_shapes(tmp_path: Path) -> None:
    net = serial(named("first", serial(relu(), dense(3))), dense(2))
    _, params = net.init(random.key(0), (1, 4))
    wrong = tree.replace(params, {"first/dense1/bias": np.zeros(5, np.float32)})
    where = r"first/dense1: `params\['bias'\]` must have shape \(3,\), got \(5,\)$"
    with pytest.raises(ValueError, match=f"^save: `params` must fit `net`: {where}"):
        funcnn.save(tmp_path / "net.npz", net, wrong)
    meta = {
        "model": {
            "version": 1,
            "net": node("dense", [10**12], model_files._node(dense(1).spec)["options"]),
        }
    }
    checkpoints.save(tmp_path / "net.npz", {"weight": np.ones((3, 4)), "bias": np.ones(3)}, meta)
    where = r"`params\['weight'\]` must have shape \(1000000000000, \*\), got \(3, 4\)$"
    with pytest.raises(ValueError, match=rf"^load: .*net\.npz must be a model: .* network: {where}"):
        funcnn.load(tmp_path / "net.npz")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8"])
def test_weights_of_every_float_are_kept(tmp_path: Path, dtype: str) -> None:
    """Half as many bits for a file, say; they are cast before the network runs."""
    _, params = NET.init(random.key(0), DIGIT.shape)
    funcnn.save(tmp_path / "net.npz", NET, tree.map(lambda leaf: leaf.astype(dtype), params))
    found = funcnn.load(tmp_path / "net.npz")[1]
    assert {leaf.dtype for _, leaf in tree.leaves(found)} == {np.dtype(dtype).newbyteorder("=")}
