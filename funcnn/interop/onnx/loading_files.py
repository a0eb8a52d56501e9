"""Models of ONNX as they lie in files of strangers: read, measured, and only then believed."""

from __future__ import annotations

import os
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx

from funcnn import checks, files
from funcnn.checks import shown
from funcnn.types import Array, Shape

_MOST = 10_000  # nodes: each takes some calls to build, however few bytes ask for it
_LARGEST = 1 << 40  # numbers along one axis
_OLDEST, _T = 6, onnx.TensorProto
_DEFAULT = ("", "ai.onnx")

DTYPES: dict[int, str] = {
    _T.FLOAT: "float32", _T.DOUBLE: "float64", _T.BOOL: "bool",
    _T.INT8: "int8", _T.INT16: "int16", _T.INT32: "int32", _T.INT64: "int64",
    _T.UINT8: "uint8", _T.UINT16: "uint16", _T.UINT32: "uint32", _T.UINT64: "uint64",
}  # fmt: skip
"""The types of numbers that are read, by ONNX's codes."""


def unit(name: str) -> str:
    """A name out of a file, as a message shows it."""
    return files.short(repr(name), 60, 40)


def model(path: str) -> Any:
    """What the file holds, as protobuf reads it."""
    with files.opened(path) as file:
        content = file.read()
    try:
        found = onnx.load_model_from_string(content)
    except Exception as problem:  # of protobuf, which has no types
        files.refuse(path, f"must be an ONNX model: {problem}")
    if not found.HasField("graph") or not found.graph.output:
        files.refuse(path, "must be an ONNX model, got none with a graph that has an output")
    if len(found.graph.node) > _MOST:
        checks.refuse(f"the model must have at most {_MOST} nodes, got {len(found.graph.node)}")
    if found.graph.sparse_initializer:
        checks.refuse("the model must have dense arrays, got sparse ones")
    return found


def opset(found: Any) -> int:
    """The version of the operators."""
    versions = list({int(one.version) for one in found.opset_import if one.domain in _DEFAULT})
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not _OLDEST <= versions[0] <= newest:
        got = shown(versions[0] if len(versions) == 1 else versions)
        checks.refuse(f"the model must be of opset {_OLDEST} to {newest}, got {got}")
    return versions[0]


class Input(NamedTuple):
    """An input of the graph: its name, sizes or the names of free ones, and type of numbers."""

    name: str
    sizes: tuple[int | str, ...]
    dtype: str


def inputs(graph: Any, shape: Shape | None) -> list[Input]:
    """The inputs that are not among the arrays of the file, with the sizes that were given."""
    stored = {one.name for one in graph.initializer}
    found = [one for one in graph.input if one.name not in stored]
    given: list[tuple[int, ...] | None] = [None] * len(found)
    if shape is not None:
        shapes: Any = (shape,) if len(found) == 1 else shape
        if not isinstance(shapes, tuple) or len(shapes) != len(found):
            checks.refuse(f"`shape` must be a tuple of {len(found)} shapes, got {shown(shape)}")
        given = [checks.any_shape(one) for one in shapes]
    return [_input(one, sizes) for one, sizes in zip(found, given, strict=True)]


def _input(one: Any, given: tuple[int, ...] | None) -> Input:
    tensor = one.type.tensor_type
    if not one.type.HasField("tensor_type") or tensor.elem_type not in DTYPES:
        kinds = "an array of float32, float64, integers or booleans"
        checks.refuse(f"input {unit(one.name)} must be {kinds}")
    if given is None and not tensor.HasField("shape"):
        checks.refuse(f"`shape` must be given, as input {unit(one.name)} says nothing of its own")
    sizes: list[int | str] = []
    for at, size in enumerate(tensor.shape.dim if given is None else given):
        value = size if isinstance(size, int) else int(size.dim_value)
        name = "" if isinstance(size, int) else str(size.dim_param)
        if value > _LARGEST:
            checks.refuse(f"input {unit(one.name)} must have sizes up to 2**40, got {value}")
        free = "batch" if at == 0 else name or f"{one.name}/{at}"
        sizes.append(value if value > 0 else free)
    return Input(one.name, tuple(sizes), DTYPES[tensor.elem_type])


# --- arrays -----------------------------------------------------------------------------------------


def array(tensor: Any, folder: str | None) -> Array:
    """The array of a tensor, if it has as many numbers as it says; None is no folder to look into."""
    name = unit(tensor.name)
    if tensor.data_type not in DTYPES:
        known = _T.DataType.Name(tensor.data_type) if tensor.data_type in _T.DataType.values() else "?"
        checks.refuse(f"array {name} must be of float32, float64, integers or booleans, got {known}")
    dtype = np.dtype(DTYPES[tensor.data_type])
    shape = tuple(int(size) for size in tensor.dims)
    count = prod(shape)
    if any(size < 0 for size in shape) or len(shape) > 32 or count * dtype.itemsize >= 1 << 62:
        checks.refuse(f"array {name} must have a shape that an array can have, got {shown(shape)}")
    if tensor.HasField("segment"):
        checks.refuse(f"array {name} must be whole, got a segment")
    if tensor.data_location == _T.EXTERNAL:
        raw = _external(tensor, folder, count * dtype.itemsize)
    elif tensor.HasField("raw_data"):
        raw = tensor.raw_data
    else:
        typed = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        values = getattr(tensor, typed)
        _exactly(name, len(values), count, "numbers")
        found = np.array(values, np.int64 if typed == "int32_data" else None)
        return found.astype(dtype).reshape(shape)
    _exactly(name, len(raw), count * dtype.itemsize, "bytes")
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _exactly(name: str, got: int, wanted: int, what: str) -> None:
    if got != wanted:
        checks.refuse(f"array {name} must have {wanted} {what}, got {got}")


def _external(tensor: Any, folder: str | None, size: int) -> bytes:
    """Bytes of a file in the folder of the model, and of no other."""
    name = unit(tensor.name)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = entries.get("location", "")
    if folder is None or not place or os.path.isabs(place) or "\0" in place or "\\" in place:
        checks.refuse(f"array {name} must lie in the folder of the model, got {unit(place)}")
    path = os.path.join(folder, place)
    home, real = os.path.realpath(folder), os.path.realpath(path)
    if os.path.commonpath((home, real)) != home or os.path.islink(path):
        checks.refuse(f"array {name} must lie in the folder of the model, got {unit(place)}")
    offset = entries.get("offset", "0")
    length = entries.get("length", str(size))
    if not (offset.isascii() and offset.isdigit() and len(offset) < 20) or length != str(size):
        got = f"offset {unit(offset)} and length {unit(length)}"
        checks.refuse(f"array {name} must have an offset, and a length of {size}, got {got}")
    try:
        with files.opened(path) as file:
            if int(offset) + size > files.size(file):
                checks.refuse(f"array {name} must end within its file, got offset {offset}")
            file.seek(int(offset))
            return file.read(size)
    except OSError as problem:
        checks.refuse(f"array {name} must lie in a file, got {unit(place)}: {problem.strerror}")


def attributes(node: Any, folder: str | None) -> dict[str, Any]:
    """The attributes of a node: numbers, words, lists of numbers, or an array."""
    found: dict[str, Any] = {}
    kinds = onnx.AttributeProto
    for one in node.attribute:
        if one.ref_attr_name or one.name in found:
            checks.refuse(f"attribute {unit(one.name)} must be given once, as a value")
        if one.type == kinds.FLOAT:
            found[one.name] = float(str(np.float32(one.f)))  # 0.01 where the file has it rounded
        elif one.type == kinds.INT:
            found[one.name] = int(one.i)
        elif one.type == kinds.STRING:
            found[one.name] = one.s.decode("utf-8", "replace")
        elif one.type == kinds.TENSOR:
            found[one.name] = array(one.t, folder)
        elif one.type == kinds.FLOATS:
            found[one.name] = tuple(float(str(np.float32(part))) for part in one.floats)
        elif one.type == kinds.INTS:
            found[one.name] = tuple(int(part) for part in one.ints)
        elif one.type == kinds.STRINGS:
            found[one.name] = tuple(part.decode("utf-8", "replace") for part in one.strings)
        else:
            checks.refuse(f"attribute {unit(one.name)} must be a number, a word or an array")
    return found
