"""Models of ONNX for tests: made by hand, by PyTorch, and those that ship with ONNX."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from funcnn.types import Array

_TYPES = {np.dtype(np.float32): 1, np.dtype(np.float64): 11, np.dtype(np.int64): 7, np.dtype(bool): 9}


def model(
    nodes: list[Any],
    inputs: dict[str, tuple[Any, ...]],
    outputs: list[str],
    arrays: dict[str, Any] | None = None,
    opset: int = 20,
    dtype: Any = np.float32,
) -> Any:
    """A model out of nodes; a size that is a str is free."""
    code = _TYPES[np.dtype(dtype)]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(name, code, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, code, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (arrays or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """``node("Add", "x y", "z")``; an underscore is an input that is left out."""
    names = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), **attributes)


def exported(module: Any, *inputs: Any, free: bool = True, folded: bool = True) -> bytes:
    """What PyTorch writes of a module, without its own packages beyond ONNX."""
    import torch

    file, names = io.BytesIO(), [f"x{at}" for at in range(len(inputs))]
    axes = {name: {0: "N"} for name in names} if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is the older one, and says so
        torch.onnx.export(
            module.eval(), inputs, file, dynamo=False, input_names=names, opset_version=17,
            dynamic_axes=axes, do_constant_folding=folded,
        )  # fmt: skip
    return file.getvalue()


# --- the models that ship with ONNX -----------------------------------------------------------------


class Shipped(NamedTuple):
    """A model of ONNX's own tests, with inputs and outputs."""

    name: str
    model: Any
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


_FOLDER = Path(onnx.__file__).parent / "backend/test"


def shipped(modules: list[str] | None = None) -> Iterator[Shipped]:
    """ONNX's node tests, of some modules or of all; and with all the models in files."""
    from onnx.backend.test.case import node as cases

    everything = modules is None
    found = sorted(path.stem for path in (_FOLDER / "case/node").glob("[a-z]*.py"))
    start = len(cases._NodeTestCases)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in found if modules is None else modules:
            import_module(f"onnx.backend.test.case.node.{name}")
    known = {f"{each.name}": each for each in cases._NodeTestCases[0 if everything else start :]}
    for case in known.values():
        for inputs, outputs in case.data_sets or []:
            if case.model is not None and _arrays((*inputs, *outputs)):
                yield Shipped(case.name, case.model, tuple(inputs), tuple(outputs))
    for path in sorted((_FOLDER / "data").glob("*/*/model.onnx")) if everything else []:
        for data in sorted(path.parent.glob("test_data_set_*")):
            inputs, outputs = (_tensors(data, word) for word in ("input", "output"))
            if inputs and outputs:
                yield Shipped(f"{path.parts[-3]}/{path.parts[-2]}", onnx.load(path), inputs, outputs)


def _arrays(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, (np.ndarray, np.generic)) for value in values)


def _tensors(folder: Path, word: str) -> tuple[Array, ...]:
    found = []
    for at in range(len(list(folder.glob(f"{word}_*.pb")))):
        tensor = onnx.TensorProto()
        tensor.ParseFromString((folder / f"{word}_{at}.pb").read_bytes())
        try:
            found.append(numpy_helper.to_array(tensor))
        except (TypeError, ValueError):  # a sequence, or a tensor of another kind
            return ()
    return tuple(found)


def variants(case: Shipped) -> Iterator[tuple[Any, tuple[Array, ...]]]:
    """The model as it is; and with all inputs but the first, or the last, among its arrays."""
    yield case.model, case.inputs
    stored = {one.name for one in case.model.graph.initializer}
    names = [one.name for one in case.model.graph.input if one.name not in stored]
    for free in (0, len(names) - 1) if len(names) > 1 else ():
        fixed = onnx.ModelProto()
        fixed.CopyFrom(case.model)
        for at, (name, array) in enumerate(zip(names, case.inputs, strict=True)):
            if at != free:
                fixed.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        yield fixed, case.inputs[free : free + 1]
