"""Models of ONNX for tests: made by hand, by PyTorch, and those that ship with ONNX."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from funcnn import tree
from funcnn.interop.onnx import load
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
                yield Shipped(case.name, case.model, tuple(map(np.array, inputs)), tuple(outputs))
    for path in sorted((_FOLDER / "data").glob("*/*/model.onnx")) if everything else []:
        for data in sorted(path.parent.glob("test_data_set_*")):
            inputs, outputs = (_tensors(data, word) for word in ("input", "output"))
            if inputs and outputs:
                yield Shipped(f"{path.parts[-3]}/{path.parts[-2]}", onnx.load(path), inputs, outputs)


def real(name: str) -> Shipped:
    """One of the real networks, all of whose weights are one number, with its weights in the file."""
    found = onnx.load(_FOLDER / f"data/light/light_{name}.onnx")
    graph, output = found.graph, onnx.TensorProto()
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    for one in nodes:
        if one.op_type != "ConstantOfShape":
            graph.node.append(one)
            continue
        value = numpy_helper.to_array(one.attribute[0].t)
        array = np.full(arrays[one.input[0]], value[0], value.dtype)
        graph.initializer.append(numpy_helper.from_array(array, one.output[0]))
    output.ParseFromString((_FOLDER / f"data/light/light_{name}_output_0.pb").read_bytes())
    stored = {one.name for one in graph.initializer}
    (taken,) = (one for one in graph.input if one.name not in stored)
    shape = [size.dim_value for size in taken.type.tensor_type.shape.dim]
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / np.prod(shape)
    return Shipped(name, found, (x.astype(np.float32),), (numpy_helper.to_array(output),))


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


# --- files of strangers -----------------------------------------------------------------------------


def honest() -> Any:
    """A model with much of what can be wrong in one."""
    draw = np.random.default_rng(0)

    def drawn(*shape: int) -> Array:
        return draw.standard_normal(shape).astype(np.float32)

    half = numpy_helper.from_array(np.array([0.5], np.float32))
    nodes = [
        node("Conv", "x w b", "a", pads=[1, 1, 1, 1], strides=[1, 2]),
        node("BatchNormalization", "a s t m v", "c", epsilon=1e-3),
        node("Relu", "c", "d"),
        node("MaxPool", "d", "e", kernel_shape=[2, 2], ceil_mode=1),
        node("Pad", "e pads", "p", mode="reflect"),
        node("Resize", "p _ scales", "r", mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric"),
        node("Shape", "r", "size"),
        node("Gather", "size zero", "n", axis=0),
        node("Unsqueeze", "n axes", "n1"),
        node("Concat", "n1 rest", "target", axis=0),
        node("Reshape", "r target", "f"),
        node("Slice", "f starts ends one", "f2"),
        node("MatMul", "f2 k", "g"),
        node("Add", "g u", "h"),
        node("ConstantOfShape", "two", "fill", value=half),
        node("Tile", "fill two", "tiled"),
        node("Mul", "h tiled", "i"),
        node("Expand", "q n4", "expanded"),
        node("Gemm", "i l", "j", transB=1, alpha=0.5),
        node("Transpose", "words", "turned", perm=[1, 0, 2]),
        node("LSTM", "turned lw lr lb", "y", hidden_size=2),
        node("Squeeze", "y one", "y2"),
        node("ReduceMean", "y2 zero1", "y3", keepdims=0),
        node("Split", "y3", "y4 y5", axis=1, num_outputs=2),
        node("Concat", "j y4 y5", "o", axis=1),
        node("Softmax", "o", "out", axis=1),
        node("Clip", "expanded low", "other"),
    ]  # fmt: skip
    arrays = {
        "w": drawn(2, 1, 3, 3), "b": drawn(2), "s": drawn(2), "t": drawn(2), "m": drawn(2),
        "v": np.array([1, 2], np.float32), "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1]),
        "scales": np.array([1, 1, 2, 2], np.float32), "zero": np.array(0), "axes": np.array([0]),
        "rest": np.array([-1]), "starts": np.array([1]), "ends": np.array([100]), "one": np.array([1]),
        "k": drawn(99, 4), "u": drawn(4), "two": np.array([1, 2]), "q": drawn(1, 3),
        "n4": np.array([4, 1, 3]), "l": drawn(3, 4), "lw": drawn(1, 8, 3), "lr": drawn(1, 8, 2),
        "lb": drawn(1, 16), "zero1": np.array([0]), "low": np.float32(0),
    }  # fmt: skip
    return model(nodes, {"x": ("N", 1, 5, 6), "words": ("N", 4, 3)}, ["out", "other"], arrays)


_NUMBERS = (0, 1, -1, 2, 3, 7, -7, 100, 1 << 20, 1 << 31, (1 << 40) + 1, 1 << 62, (1 << 63) - 1,
            -(1 << 63))  # fmt: skip
_PLACES = ("../model.onnx", "/etc/passwd", "", "model.onnx", "a/../../b", "nothing", "a\0b", "..\\b",
           "a" * 5000)  # fmt: skip
_KINDS = ["Loop", "Scan", "If", "", "\n" * 99, "Range", "OneHot", "Where", "Cast", "Sum"]


def forged(rng: random.Random) -> bytes:
    """With something in it that no honest program writes."""
    found = honest()
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if not found.graph.node:
            break
        rng.choice([_other_node, _other_node, _other_tensor, _other_tensor, _other_graph])(rng, found)
    return bytes(found.SerializeToString())


def _other_node(rng: random.Random, found: Any) -> None:
    graph = found.graph
    one = rng.choice(graph.node)
    names = [name for each in graph.node for name in (*each.input, *each.output)]
    how = rng.randrange(5)
    if how == 0 and one.input:
        one.input[rng.randrange(len(one.input))] = rng.choice([*names, "", "nobody", "é" * 999])
    elif how == 1:
        one.output[0] = rng.choice([*names, ""])
    elif how == 2:
        one.op_type = rng.choice([*(each.op_type for each in graph.node), *_KINDS])
    elif how == 3 and one.attribute:
        _other_attribute(rng, rng.choice(one.attribute))
    else:
        name = rng.choice(["axis", "to", "pads", "mode", "x" * 999])
        one.attribute.append(helper.make_attribute(name, rng.choice([3, "a", [1, 2], 0.5])))


def _other_attribute(rng: random.Random, one: Any) -> None:
    how = rng.randrange(5)
    if how == 0:
        one.type = rng.randrange(15)
    elif how == 1:
        one.i, one.f = rng.choice(_NUMBERS), rng.choice([float("nan"), float("inf"), -1.0, 1e38])
        one.s = rng.choice([b"", b"NOTSET", b"\xff\xfe", b"cubic"])
    elif how == 2:
        one.ints[:] = [rng.choice(_NUMBERS) for _ in range(rng.choice([0, 1, 2, 4, 5]))]
    elif how == 3:
        one.ref_attr_name = "a"
    else:
        one.name = rng.choice(["axis", "", "é\n", "kernel_shape"])


def _other_tensor(rng: random.Random, found: Any) -> None:
    tensor, how = rng.choice(found.graph.initializer), rng.randrange(7)
    if how == 0:
        tensor.dims[:] = [rng.choice(_NUMBERS) for _ in range(rng.choice([0, 1, 2, 3, 4, 70]))]
    elif how == 1:
        tensor.data_type = rng.choice([0, 1, 6, 7, 8, 9, 10, 11, 16, 17, 99, -1])
    elif how == 2:
        cut = rng.randrange(len(tensor.raw_data) + 1)
        tensor.raw_data = tensor.raw_data[:cut] + bytes(rng.choice([0, 1, 8]))
    elif how == 3:
        tensor.data_location = 1
        tensor.ClearField("raw_data")
        entries = {
            "location": _PLACES,
            "offset": ("0", "-1", "x", "9" * 30),
            "length": ("4", "16", "-1"),
        }
        for key, words in entries.items():
            if rng.random() < 0.8:
                tensor.external_data.add(key=key, value=rng.choice(words))
    else:  # other numbers in what sizes are made of
        chosen = rng.choice([each for each in found.graph.initializer if each.data_type == 7])
        if not (
            values := np.frombuffer(chosen.raw_data[: len(chosen.raw_data) // 8 * 8], np.int64).copy()
        ).size:
            return
        values[rng.randrange(values.size)] = rng.choice(_NUMBERS)
        chosen.raw_data = values.tobytes()


def _other_graph(rng: random.Random, found: Any) -> None:
    graph, how = found.graph, rng.randrange(4)
    if how == 0:
        dim = rng.choice(rng.choice(graph.input).type.tensor_type.shape.dim)
        dim.dim_value = rng.choice(_NUMBERS)
    elif how == 1:
        del graph.node[rng.randrange(len(graph.node))]
    elif how == 2:
        graph.node.insert(rng.randrange(len(graph.node)), rng.choice(graph.node))
    else:
        found.opset_import[0].version = rng.choice([*_NUMBERS, 6, 7, 12, 13, 17, 18])


def read(file: Path) -> int:
    """Load a model; the bytes of its parameters."""
    _, params = load(file)
    return sum(leaf.nbytes for _, leaf in tree.leaves(params))
