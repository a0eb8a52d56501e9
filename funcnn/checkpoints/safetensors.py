"""Trees as safetensors, the format in which other frameworks exchange weights."""

from __future__ import annotations

import json
from functools import partial
from math import prod
from os import PathLike
from typing import Any, BinaryIO

import numpy as np

from funcnn import checks, files
from funcnn.checkpoints._trees import arrays, check_names
from funcnn.types import Array, Params

__all__ = ["load_safetensors", "save_safetensors"]

_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "I32": "<i4",
    "U32": "<u4", "F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8",
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_REMARKS = "__metadata__"  # the one name that stands for no array


@partial(checks.named, who="save")
def save_safetensors(path: str | PathLike[str], params: Params) -> None:
    """Write a tree of arrays as safetensors, for other frameworks to read.

    Parameters
    ----------
    path : path
        Where to; replaced at once, as `save` does.
    params : dict
        A tree of arrays; paths become names with dots, ``"conv1.weight"``.

    Raises
    ------
    TypeError
        For what `save` refuses.
    ValueError
        For an array under the name ``__metadata__``, which the format keeps for itself, or an empty
        dict, which it cannot hold.
    OSError
        Where the file cannot be written; what was there before is untouched.

    References
    ----------
    Hugging Face, "Safetensors", https://huggingface.co/docs/safetensors: eight bytes with the length
    of a JSON header, the header, and the arrays one behind the other, all little-endian.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "net.safetensors"
    >>> save_safetensors(file, {"dense1": {"bias": np.zeros(2)}})
    >>> load_safetensors(file)
    {'dense1': {'bias': array([0., 0.])}}
    """
    where = files.checked_path(path)
    leaves = arrays(params)
    if empty := _empty(params):
        checks.refuse(f"every dict must hold an array, got an empty one at {checks.shown(empty)}")
    if isinstance(params.get(_REMARKS), (np.ndarray, np.generic)):
        name = checks.shown(_REMARKS)
        checks.refuse(f"no array may be called {name}: safetensors keeps it for itself")
    order = list(_NAMES)  # as safetensors' own library has them: wide ones first, then by name
    leaves.sort(key=lambda pair: (-order.index(pair[1].dtype), pair[0].replace("/", ".")))
    header: dict[str, Any] = {}
    end = 0
    for name, leaf in leaves:
        begin, end = end, end + leaf.nbytes
        header[name.replace("/", ".")] = {
            "dtype": _NAMES[leaf.dtype], "shape": list(leaf.shape), "data_offsets": [begin, end]
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    values = (leaf.tobytes() for _, leaf in leaves)
    files.write(where, b"".join((len(text).to_bytes(8, "little"), text, *values)))


def _empty(node: Params, path: str = "") -> str | None:
    """The path of an empty dict inside a tree."""
    for key, value in node.items():
        if isinstance(value, dict):
            here = f"{path}/{key}" if path else key
            if not value or (here := _empty(value, here) or ""):
                return here
    return None


@partial(checks.named, who="load")
def load_safetensors(path: str | PathLike[str]) -> Params:
    """Read a tree of arrays from a safetensors file.

    Parameters
    ----------
    path : path
        The file; dots in names become levels of the tree.

    Returns
    -------
    dict
        In the machine's byte order.

    Raises
    ------
    ValueError
        For a file that is not safetensors, whose names make no tree, or whose numbers NumPy does not
        have, such as bfloat16.
    OSError
        For a file that cannot be opened.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "net.safetensors"
    >>> save_safetensors(file, {"weight": np.ones(1)})
    >>> load_safetensors(file)
    {'weight': array([1.])}
    """
    where = files.checked_path(path)
    with files.opened(where) as file, files.whole(where, "a safetensors file"):
        length = int.from_bytes(file.read(8), "little")
        there = files.size(file) - 8 - length
        if there < 0:
            raise ValueError("it ends inside its header")
        header = files.json_object(file.read(length))
        remarks = header.pop(_REMARKS, {})
        if not isinstance(remarks, dict) or not all(isinstance(text, str) for text in remarks.values()):
            raise ValueError(f"its {_REMARKS} are no texts")
        found = {}
        end = 0
        for name, entry in sorted(header.items(), key=lambda item: _offsets(*item)):
            begin, stop = _offsets(name, entry)
            if begin != end or stop > there:
                text = f"lies at {begin} to {stop} of {there} bytes, not at {end}"
                raise ValueError(f"{checks.shown(name)} {text}")
            found[name], end = _read(file, name, entry, stop - begin), stop
        if end != there:
            raise ValueError(f"its arrays have {end} bytes, got {there}")
    return _tree(where, {name: found[name] for name in header})


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{checks.shown(name)} has no dtype, shape and data_offsets")
    begin, end = _sizes(name, entry["data_offsets"])
    return begin, end


def _sizes(name: str, value: Any) -> list[int]:
    if not isinstance(value, list) or not all(type(n) is int and n >= 0 for n in value):
        raise ValueError(f"{checks.shown(name)} has sizes that are none")
    return value


def _read(file: BinaryIO, name: str, entry: dict[str, Any], length: int) -> Array:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"{checks.shown(name)} holds {entry['dtype']}, which NumPy does not have")
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(_sizes(name, entry["shape"]))
    if length != prod(shape) * dtype.itemsize:
        raise ValueError(f"{checks.shown(name)} has {length} bytes, not those of {dtype} {shape}")
    return files.native(files.fill(file, np.empty(shape, dtype)))


def _tree(path: str, named: dict[str, Array]) -> Params:
    """Arrays by names with dots as a tree that `save` would take."""
    params: Params = {}
    for name, leaf in named.items():
        *parents, last = name.split(".")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                files.refuse(path, f"must hold a tree: {checks.shown(name)} lies inside another array")
        if last in node:
            files.refuse(path, f"must hold a tree: another array lies inside {checks.shown(name)}")
        node[last] = leaf
    try:
        check_names(params)
    except checks.Refusal as problem:
        files.refuse(path, f"must hold a tree: {problem.text}")
    return params
