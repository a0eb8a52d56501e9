"""Networks as ONNX models: every case of the registry answers in onnxruntime as it does here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    adam,
    adaptive_avg_pool1d,
    attention,
    batch_norm,
    conv,
    conv1d,
    cross_attention,
    data,
    dense,
    dropout,
    each,
    embedding,
    fit,
    flatten,
    graph,
    gru,
    identity,
    learned_positions,
    lstm,
    max_pool,
    multi_head_attention,
    named,
    random,
    relu,
    residual,
    serial,
    share,
    softmax_cross_entropy,
    tanh,
    tied,
    time_distributed,
    tree,
    weight_norm,
)  # fmt: skip
from funcnn.types import Layer, Params, Shape, Spec
from tests import registry

pytest.importorskip("onnx", reason="ONNX is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnx
import onnxruntime as runtime

from funcnn.interop.onnx import export, exporting

runtime.set_default_logger_severity(4)

FLOAT32_ALONE = {"Conv", "ConvTranspose", "Gelu", "GRU", "LSTM", "PRelu", "RNN"}
"""What onnxruntime computes in float32 and not in float64, of the operators of layers with params."""


REFUSED = {
    "lstm(3, layers=2, carry=True, rate=0.5, projection=2) ((2, 2, 2), ((2, 2, 2), (2, 2, 3)))":
        "export: `projection` must be None in ONNX, got 2",
    "lstm(3, lengths=True, bias=False, projection=1) ((4, 3, 2), (4, 3))":
        "export: `projection` must be None in ONNX, got 1",
}  # fmt: skip
"""The cases that ONNX cannot express, and what they are told."""


# --- models and what goes in ----------------------------------------------------------------------


def drawn(layer: Layer[Any, Any], shape: Shape, dtype: Any) -> Params:
    """Parameters of normals, variances of their sizes."""

    def leaf(path: str, like: Any) -> Any:
        value = random.normal(random.fold_in(random.key(7), path), like.shape, dtype=dtype)
        return np.abs(value) + dtype(0.1) if path.endswith("running_var") else value

    return tree.map_with_path(leaf, layer.init(random.key(7), shape)[1])


def mapped(fn: Any, value: Any) -> Any:
    return tuple(mapped(fn, part) for part in value) if isinstance(value, tuple) else fn(value)


def leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of a tuple under the names that a model has for them."""
    if not isinstance(value, tuple):
        yield path, value
        return
    for place, part in enumerate(value):
        yield from leaves(f"{path}/{place}", part)


def example(case: registry.Case, dtype: Any) -> Any:
    """The input of a case, floats in the dtype, integers in that of a model."""

    def cast(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        return leaf.astype({"f": dtype, "i": np.int64, "u": np.int64}.get(leaf.dtype.kind, leaf.dtype))

    return mapped(cast, registry.subject(case).x if case.x is None else case.x)


def answer(session: Any, x: Any) -> dict[str, Any]:
    taken = {one.name for one in session.get_inputs()}
    outs = [one.name for one in session.get_outputs()]
    feeds = {name: value for name, value in leaves("x", x) if name in taken}
    return dict(zip(outs, session.run(outs, feeds), strict=True))


def difference(mine: Any, theirs: Any) -> float:
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    if mine.dtype.kind != "f":
        return float((mine != theirs).any())
    return float(np.abs(mine - theirs).max(initial=0) / max(np.abs(mine).max(initial=0), 1))


def error(session: Any, layer: Layer[Any, Any], params: Params, x: Any) -> float:
    wanted, got = dict(leaves("out", layer.apply(params, x)[0])), answer(session, x)
    assert list(wanted) == list(got)
    return max(difference(wanted[name], got[name]) for name in wanted)


def loaded(path: Path) -> Any:
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


# --- every layer ----------------------------------------------------------------------------------


def resized(session: Any, x: Any, sizes: dict[Any, int]) -> Any:
    """The input with other sizes along the axes that are free in a model."""
    shapes = {one.name: one.shape for one in session.get_inputs()}

    def other(path: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(other(f"{path}/{place}", part) for place, part in enumerate(value))
        return np.resize(value, [sizes.get(size, size) for size in shapes[path]])

    return other("x", x)


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def agrees(case: registry.Case, path: Path, dtype: Any = np.float32) -> float | None:
    """The largest error of a case, in a batch of two sizes; None where there is no such float64."""
    params = drawn(case.layer, case.shape, dtype)
    if case.id in REFUSED:
        with pytest.raises(ValueError, match="ONNX") as caught:
            export(case.layer, params, case.shape, path)
        assert str(caught.value) == REFUSED[case.id]
        return 0.0
    export(case.layer, params, case.shape, path)
    if dtype == np.float64 and operators(path) & FLOAT32_ALONE:
        return None
    session, x = loaded(path), example(case, dtype)
    shapes = {one.name: one.shape for one in session.get_inputs()}
    sizes = {
        size: n
        for name, leaf in leaves("x", x)
        for size, n in zip(shapes[name], leaf.shape, strict=True)
    }
    assert all(shape[0] == "N" for shape in shapes.values())
    errors = [
        error(session, case.layer, params, resized(session, x, {**sizes, "N": n})) for n in (1, 5)
    ]
    for more in (0, 1, 2, -1):
        longer = {size: n + more for size, n in sizes.items() if isinstance(size, str)}
        try:
            other = resized(session, x, longer)
            case.layer.apply(params, other)
        except ValueError:
            assert more  # a length beyond the steps, an odd number of gates, more steps than positions
            continue
        errors.append(error(session, case.layer, params, other))
    return max(errors)


def one_of_each_kind() -> list[registry.Case]:
    found: dict[str, registry.Case] = {}
    for case in registry.layers():
        kinds = dict.fromkeys(spec.kind for spec in registry.specs(case.layer.spec))  # in one order
        if kinds.keys() - found.keys():
            found |= dict.fromkeys(kinds, case)
    return list({case.id: case for case in found.values()}.values())


@pytest.mark.parametrize("case", one_of_each_kind(), ids=lambda case: case.id)
def test_every_kind_of_layer_agrees(case: registry.Case, tmp_path: Path) -> None:
    worst = agrees(case, tmp_path / "net.onnx")
    assert worst is not None
    assert worst < 1e-5


@pytest.mark.slow
def test_every_case_agrees(tmp_path: Path) -> None:
    errors = {case.id: agrees(case, tmp_path / "net.onnx") for case in registry.layers()}
    assert set(REFUSED) < set(errors)
    assert {name for name, worst in errors.items() if worst is None or not worst < 1e-5} == set()


@pytest.mark.slow
def test_every_case_agrees_in_float64(tmp_path: Path) -> None:
    path, refused, errors = tmp_path / "net.onnx", set[str](), list[float]()
    for case in registry.layers():
        if not case.layer.init(random.key(0), case.shape)[1]:
            continue  # without params a model is of float32
        worst = agrees(case, path, np.float64)
        if worst is not None:
            errors.append(worst)
            continue
        with pytest.raises(Exception, match=r"implementation|support"):
            answer(loaded(path), example(case, np.float64))
        refused |= operators(path) & FLOAT32_ALONE
    assert max(errors) < 1e-8
    assert len(errors) > 50
    assert refused == FLOAT32_ALONE


def test_a_wrong_rule_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    net, x, path = serial(dense(3), tanh()), np.ones((2, 4), np.float32), tmp_path / "net.onnx"
    params = drawn(net, x.shape, np.float32)
    export(net, params, x.shape, path)
    assert error(loaded(path), net, params, x) < 1e-6
    monkeypatch.setitem(exporting._RULES, "tanh", lambda g, x, o, p: g.Sigmoid(x))
    export(net, params, x.shape, path)
    assert error(loaded(path), net, params, x) > 1e-3


# --- what a model is like -------------------------------------------------------------------------


def exported(net: Layer[Any, Any], shape: Any, path: Path, dtype: Any = np.float32) -> Any:
    export(net, drawn(net, shape, dtype), shape, path)
    return onnx.load(path)


def sizes(values: Any) -> dict[str, tuple[int, list[Any]]]:
    """The dtype and the shape of the inputs or outputs of a model."""
    found = {}
    for value in values:
        one = value.type.tensor_type
        found[value.name] = (one.elem_type, [d.dim_param or d.dim_value for d in one.shape.dim])
    return found


def test_numbers_have_the_paths_of_the_params(tmp_path: Path) -> None:
    net = serial(
        named("stem", conv(2, 3)), batch_norm(), flatten(), residual(weight_norm(dense(8))), dense(3)
    )
    params = drawn(net, (2, 1, 4, 4), np.float32)
    export(net, params, (2, 1, 4, 4), tmp_path / "net.onnx")
    numbers = onnx.load(tmp_path / "net.onnx").graph.initializer
    found = {one.name: onnx.numpy_helper.to_array(one) for one in numbers}
    own = {path: leaf for path, leaf in tree.leaves(params) if "weight_norm1/weight" not in path}
    assert {name for name in found if "number" not in name} == {
        *own, "residual1/weight_norm1/weight"
    }  # fmt: skip
    for path, leaf in own.items():
        np.testing.assert_array_equal(found[path], leaf)


def test_a_shared_leaf_is_there_once(tmp_path: Path) -> None:
    tokens = tied(
        serial(embedding(5, 3), time_distributed(dense(5, bias=False))),
        ties={"time_distributed1/weight": "embedding1/weight"},
    )
    for net, shape, name in (
        (share(dense(3), times=3), (2, 3), "weight"),
        (tokens, (2, 4), "embedding1/weight"),
    ):
        model = exported(net, shape, tmp_path / "net.onnx")
        assert [one.name for one in model.graph.initializer if one.name.endswith("weight")] == [name]


def test_several_inputs_have_names_and_dtypes(tmp_path: Path) -> None:
    float32, int64, bool_ = 1, 7, 9
    net = serial(each(embedding(5, 6), identity(), identity()), cross_attention(2, masked=True))
    model = exported(net, ((2, 3), (2, 4, 5), (2, 4)), tmp_path / "net.onnx")
    assert sizes(model.graph.input) == {
        "x/0": (int64, ["N", "T"]),
        "x/1": (float32, ["N", "S", 5]),
        "x/2": (bool_, ["N", "S"]),
    }
    assert sizes(model.graph.output) == {"out": (float32, ["N", "T", 6])}
    model = exported(
        lstm(2, lengths=True, carry=True), ((2, 3, 4), ((2, 1, 2),) * 2, (2,)), tmp_path / "a"
    )
    assert sizes(model.graph.input)["x/2"] == (int64, ["N"])
    assert list(sizes(model.graph.output)) == ["out/0", "out/1/0", "out/1/1"]
    wired = graph(
        dense(2), dense(3), wires={"dense1": "x/image", "dense2": "x/text"}, output=("dense1", "dense2")
    )
    model = exported(wired, {"image": (2, 3), "text": (2, 4)}, tmp_path / "net.onnx", np.float64)
    assert sizes(model.graph.input) == {"x/image": (11, ["N", 3]), "x/text": (11, ["N", 4])}
    assert list(sizes(model.graph.output)) == ["out/0", "out/1"]


def test_time_steps_are_free_where_they_can_be(tmp_path: Path) -> None:
    def shape(net: Layer[Any, Any], given: Shape) -> Any:
        return sizes(exported(net, given, tmp_path / "net.onnx").graph.output)["out"][1]

    assert shape(serial(conv1d(4, 3, stride=2), lstm(3)), (2, 9, 4)) == ["N", "out/1", 3]
    assert shape(serial(embedding(9, 4), learned_positions(6), gru(3)), (2, 6)) == ["N", "T", 3]
    assert shape(serial(conv1d(4, 3), flatten(), dense(2)), (2, 9, 4)) == ["N", 2]
    assert shape(adaptive_avg_pool1d(2), (2, 7, 4)) == ["N", 2, 4]
    assert shape(dense(3), (2, 4)) == ["N", 3]


def test_numbers_that_are_not_finite_are_written(tmp_path: Path) -> None:
    net, x, path = share(dense(2), times=2), np.ones((1, 2), np.float32), tmp_path / "net.onnx"
    weight = np.array([[np.nan, 0], [0, np.inf]], np.float32)
    params = {"weight": weight, "bias": np.zeros(2, np.float32)}
    export(net, params, x.shape, path)
    np.testing.assert_array_equal(answer(loaded(path), x)["out"], net.apply(params, x)[0])
    assert len(onnx.load(path).graph.initializer) == 2


def test_a_model_is_the_same_each_time(tmp_path: Path) -> None:
    net = serial(conv(2, 3), relu(), flatten(), dense(3))
    for name in ("one", "two"):
        exported(net, (2, 1, 5, 5), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_does_not_count_may_hold_anything(tmp_path: Path) -> None:
    path, mask = tmp_path / "net.onnx", np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 1]], bool)
    x = np.asarray(random.normal(random.key(1), (3, 4, 6)))
    spoiled = np.where(mask[..., None], x, np.float32(np.nan))
    blind = np.array([[[1, 0, 0, 0]] * 4] * 3, bool)
    blind[0, 2] = False  # a query that sees nothing
    seen, lengths = np.repeat(mask[:, None], 4, 1), np.array([2, 0, 4])
    ragged = np.where((np.arange(4) < lengths[:, None])[..., None], x, np.float32(np.inf))
    for net, given in (
        (multi_head_attention(2, masked=True), (spoiled, mask)),
        (multi_head_attention(2, masked=True), (x, blind)),
        (cross_attention(2, masked=True), (x, spoiled, seen)),
        (attention(masked=True), (x, x, spoiled, mask)),
        (lstm(2, lengths=True, bidirectional=True), (ragged, lengths)),
        (gru(2, lengths=True, reverse=True), (ragged, lengths)),
    ):
        shape = tuple(one.shape for one in given)
        params = drawn(net, shape, np.float32)
        export(net, params, shape, path)
        assert error(loaded(path), net, params, given) < 1e-5


# --- refusals -------------------------------------------------------------------------------------


def mine() -> Layer[Any, Any]:
    """A layer of one's own."""
    return Layer(relu().init, relu().apply, relu().vjp, Spec(mine))


def test_a_layer_of_ones_own_is_refused_by_its_name(tmp_path: Path) -> None:
    net = serial(dense(3), named("body", residual(relu(), mine())))
    with pytest.raises(ValueError, match="mine") as caught:
        exported(net, (2, 4), tmp_path / "net.onnx")
    assert str(caught.value) == (
        "body/mine1: `net` must have layers that can be written as ONNX, got mine()"
    )
    assert not (tmp_path / "net.onnx").exists()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    net, path = serial(dense(3), relu()), tmp_path / "net.onnx"
    params = drawn(net, (2, 4), np.float32)
    weight = params["dense1"]["weight"]
    mixed = {"dense1": {"weight": weight, "bias": np.zeros(3)}}
    dtypes = "export: `params` must be of float32 or of float64, got "
    bad: list[tuple[Any, Any, str]] = [
        (params, (2, 5), "export: `params` must have 'dense1/weight' of shape (3, 5), got (3, 4)"),
        (
            {"dense1": {"weight": weight}},
            (2, 4),
            "export: `params` must have 'dense1/bias' of shape (3,)",
        ),
        ({**params, "more": weight}, (2, 4), "export: `params` must not have 'more', got shape (3, 4)"),
        (params, (2, 4, 4), "dense1: `shape` must have 2 axes (N, F), got (2, 4, 4)"),
        (mixed, (2, 4), f"{dtypes}float32 and float64"),
        (tree.map(np.float16, params), (2, 4), f"{dtypes}float16"),
        ([], (2, 4), "export: `params` must be a dict, got list"),
        (params, 3, "dense1: `shape` must be a tuple of ints (N, F), got 3"),
        (params, (), "dense1: `shape` must have 2 axes (N, F), got ()"),
    ]
    for given, shape, message in bad:
        with pytest.raises((ValueError, TypeError)) as caught:
            export(net, given, shape, path)
        assert str(caught.value).removesuffix(", got none") == message
    with pytest.raises(TypeError, match=r"^export: `net` must be a Layer, got 3$"):
        export(3, params, (2, 4), path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^export: `path` must be a str or os.PathLike, got 3$"):
        export(net, params, (2, 4), 3)  # type: ignore[arg-type]


def test_params_that_one_file_cannot_hold_are_refused(tmp_path: Path) -> None:
    one = np.float32(1)  # of no memory
    huge = {"weight": np.broadcast_to(one, (2**15, 2**15)), "bias": np.broadcast_to(one, 2**15)}
    with pytest.raises(ValueError, match=r"^export: `params` must take less than 2 GiB") as caught:
        export(dense(2**15), huge, (1, 2**15), tmp_path / "net.onnx")
    assert len(str(caught.value)) < 300


# --- without funcnn -------------------------------------------------------------------------------

ALONE = """
import sys
import numpy as np
import onnxruntime
sys.modules["funcnn"] = None  # cannot be imported
given = np.load(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
for n in (1, len(given["x"])):
    (out,) = session.run(["out"], {"x": given["x"][:n]})
    np.testing.assert_allclose(out, given["out"][:n], rtol=1e-4, atol=1e-5)
print(round((out.argmax(1) == given["y"]).mean(), 2))
"""


def test_a_trained_model_answers_where_there_is_no_funcnn(tmp_path: Path) -> None:
    digits = data.digits(8)
    net = serial(conv(8, 3), batch_norm(), relu(), max_pool(2), flatten(), dropout(0.2), dense(10))
    result = fit(
        net, softmax_cross_entropy(), adam(0.01), data.Dataset(digits.x[:1000], digits.y[:1000]),
        key=random.key(0), epochs=3, batch_size=50, progress=False,
    )  # fmt: skip
    x, y = digits.x[1000:], digits.y[1000:]
    out, _ = net.apply(result.params, x)
    export(net, result.params, (50, *x.shape[1:]), tmp_path / "digits.onnx")
    np.savez(tmp_path / "given.npz", x=x, y=y, out=out)
    run = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path / "digits.onnx"), str(tmp_path / "given.npz")],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert float(run.stdout) == round(float((out.argmax(1) == y).mean()), 2) > 0.8
