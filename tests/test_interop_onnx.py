"""Networks as ONNX models: every case of the registry answers in onnxruntime as it does here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import random, tree
from funcnn.types import Layer, Params, Shape
from tests import registry

pytest.importorskip("onnx", reason="ONNX is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnx
import onnxruntime as runtime

from funcnn.interop.onnx import export

runtime.set_default_logger_severity(4)

FLOAT32_ALONE = {
    "AveragePool", "Celu", "Conv", "ConvTranspose", "Elu", "Gelu", "GRU", "HardSigmoid", "HardSwish",
    "LeakyRelu", "LSTM", "Mish", "PRelu", "RNN", "Selu", "Shrink", "Softplus", "Softsign", "Sum",
}  # fmt: skip
"""The operators that onnxruntime computes in float32 and not in float64."""


# --- models and what goes in ----------------------------------------------------------------------


def drawn(layer: Layer[Any, Any], shape: Shape, dtype: Any) -> Params:
    """Parameters of normals, variances of their sizes."""

    def leaf(path: str, like: Any) -> Any:
        value = random.normal(random.fold_in(random.key(7), path), like.shape, dtype=dtype)
        return np.abs(value) + dtype(0.1) if path.endswith("running_var") else value

    return tree.map_with_path(leaf, layer.init(random.key(7), shape)[1])


def mapped(fn: Any, value: Any) -> Any:
    return tuple(mapped(fn, part) for part in value) if isinstance(value, tuple) else fn(value)


def named(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of a tuple under the names that a model has for them."""
    if not isinstance(value, tuple):
        yield path, value
        return
    for place, part in enumerate(value):
        yield from named(f"{path}/{place}", part)


def given(case: registry.Case, dtype: Any) -> Any:
    """The input of a case, floats in the dtype, integers in that of a model."""

    def cast(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        return leaf.astype({"f": dtype, "i": np.int64, "u": np.int64}.get(leaf.dtype.kind, leaf.dtype))

    return mapped(cast, registry.subject(case).x if case.x is None else case.x)


def answer(session: Any, x: Any) -> dict[str, Any]:
    taken = {one.name for one in session.get_inputs()}
    outs = [one.name for one in session.get_outputs()]
    feeds = {name: value for name, value in named("x", x) if name in taken}
    return dict(zip(outs, session.run(outs, feeds), strict=True))


def difference(mine: Any, theirs: Any) -> float:
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    if mine.dtype.kind != "f":
        return float((mine != theirs).any())
    return float(np.abs(mine - theirs).max(initial=0) / max(np.abs(mine).max(initial=0), 1))


def error(session: Any, layer: Layer[Any, Any], params: Params, x: Any) -> float:
    wanted, got = dict(named("out", layer.apply(params, x)[0])), answer(session, x)
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


def free(session: Any) -> set[str]:
    """The names of the axes that are free."""
    return {size for one in session.get_inputs() for size in one.shape if isinstance(size, str)}


def agrees(case: registry.Case, path: Path, dtype: Any = np.float32) -> float | None:
    """The largest error of a case, in a batch of two sizes; None where there is no such float64."""
    params = drawn(case.layer, case.shape, dtype)
    export(case.layer, params, case.shape, path)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    if dtype == np.float64 and operators & FLOAT32_ALONE:
        return None
    session, x = loaded(path), given(case, dtype)
    shapes = {one.name: one.shape for one in session.get_inputs()}
    sizes = {
        size: n
        for name, leaf in named("x", x)
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
    assert {name for name, worst in errors.items() if worst is None or not worst < 1e-5} == set()
