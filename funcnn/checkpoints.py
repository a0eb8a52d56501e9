"""Checkpoints: a tree in one file, whole or not there at all.

A file is a NumPy ``.npz`` archive, readable with `numpy.load`, without pickle: each leaf is an array
under its path, and ``funcnn.json`` holds the format's version, whatever else was to be remembered,
and a SHA-256 digest of everything.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import zipfile
from os import PathLike
from pathlib import Path
from threading import get_ident
from typing import Any, NoReturn

import numpy as np

from funcnn import _checks, tree
from funcnn.types import Array, Params

__all__ = ["load", "load_safetensors", "save", "save_safetensors", "write_whole"]

_FORMAT = "funcnn-checkpoint"
_VERSION = 1
_HEADER = "funcnn.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the same tree gives the same file


def save(path: str | PathLike[str], params: Params, meta: dict[str, Any] | None = None) -> None:
    """Write a tree to a file, so that a crash or a full disk leaves the old file or the new one.

    Parameters
    ----------
    path : path
        Where to; a file that is there is replaced, at once, when the new one is safe on the disk.
    params : dict
        A tree of arrays: parameters, an optimizer's state, or both.
    meta : dict, optional
        Anything that JSON can hold, to be remembered with the tree.

    Raises
    ------
    TypeError
        For leaves that are not numeric arrays, keys with a ``/`` or ``.`` or that are no text, or
        `meta` that JSON cannot hold.
    OSError
        Where the file cannot be written; what was there before is untouched.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "net.npz"
    >>> save(file, {"dense1": {"bias": np.zeros(2)}}, {"epoch": 3})
    >>> load(file)
    ({'dense1': {'bias': array([0., 0.])}}, {'epoch': 3})
    """
    _check_keys(params)
    leaves = [(name, _storable(name, leaf)) for name, leaf in tree.leaves(params)]
    try:
        remembered = json.dumps(meta or {})
    except (TypeError, ValueError) as problem:
        _checks.refuse_type("save", f"`meta` must be what JSON can hold: {problem}")
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "structure": _structure(params),
        "meta": remembered,
        "sha256": _digest(leaves, _structure(params), remembered),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_HEADER, _DATE), json.dumps(header))
        for name, leaf in leaves:
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, leaf, allow_pickle=False)
    write_whole(path, buffer.getbuffer())


def load(path: str | PathLike[str], like: Params | None = None) -> tuple[Params, dict[str, Any]]:
    """Read back what `save` wrote.

    Parameters
    ----------
    path : path
        The file.
    like : dict, optional
        A tree whose paths, shapes and dtypes the file must have.

    Returns
    -------
    tuple of dict
        The tree, and what was remembered with it.

    Raises
    ------
    ValueError
        For a file that is cut short, altered, not a checkpoint, of a newer version, or does not
        fit `like`.
    OSError
        For a file that cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "net.npz"
    >>> _ = file.write_bytes(b"not a checkpoint")
    >>> load(file)
    Traceback (most recent call last):
    ...
    funcnn._checks.RefusedValue: load: ...net.npz must be a checkpoint: File is not a zip file
    """
    content = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            header = _header(path, archive)
            names = [name for name in archive.namelist() if name != _HEADER]
            leaves = [
                (name.removesuffix(".npy"), _read_array(archive, name)) for name in sorted(names)
            ]
    except _checks.Refusal:
        raise
    except Exception as problem:  # a broken archive makes `zipfile` raise almost anything
        _refuse(path, f"must be a checkpoint: {problem}")
    leaves.sort(key=lambda pair: pair[0].split("/"))
    if header["sha256"] != _digest(leaves, header["structure"], header["meta"]):
        _refuse(path, "must be as it was written: its digest does not fit its content")
    params = _restore(header["structure"], dict(leaves))
    if like is not None:
        _compare(path, params, like)
    return params, json.loads(header["meta"])


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
    ImportError
        Without the package ``safetensors``.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "net.safetensors"
    >>> save_safetensors(file, {"dense1": {"bias": np.zeros(2)}})
    >>> load_safetensors(file)
    {'dense1': {'bias': array([0., 0.])}}
    """
    library = _safetensors()
    _check_keys(params)
    named = {
        name.replace("/", "."): np.array(_storable(name, leaf), order="C")  # of the same shape
        for name, leaf in tree.leaves(params)
    }
    write_whole(path, library.save(named))


def load_safetensors(path: str | PathLike[str]) -> Params:
    """Read a tree of arrays from a safetensors file.

    Parameters
    ----------
    path : path
        The file; dots in names become levels of the tree.

    Returns
    -------
    dict

    Raises
    ------
    ImportError
        Without the package ``safetensors``.
    ValueError
        For a file that is not safetensors, or whose names make no tree.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "net.safetensors"
    >>> save_safetensors(file, {"weight": np.ones(1)})
    >>> load_safetensors(file)
    {'weight': array([1.])}
    """
    library = _safetensors()
    content = Path(path).read_bytes()
    try:
        named = library.load(content)
    except Exception as problem:  # the library has an exception class of its own
        _refuse(path, f"must be a safetensors file: {problem}")
    params: Params = {}
    for name, leaf in named.items():
        *parents, last = name.split(".")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                _refuse(path, f"must hold a tree: {name!r} lies inside another array")
        if last in node:
            _refuse(path, f"must hold a tree: another array lies inside {name!r}")
        node[last] = leaf
    return params


def write_whole(path: str | PathLike[str], content: bytes | memoryview) -> None:
    """Write a file, so that a crash or a full disk leaves the old file or the new one.

    Parameters
    ----------
    path : path
        Where to.
    content : bytes
        All of the file.

    Raises
    ------
    OSError
        Where the file cannot be written; what was there before is untouched.

    Notes
    -----
    It is written beside the file, forced to the disk, and renamed. A process that is killed on the
    way leaves ``.name.<process>.<thread>.partial`` behind, which nobody reads.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> write_whole(file, b"whole")
    >>> file.read_text()
    'whole'
    """
    wanted = os.fspath(path)
    path = Path(os.path.realpath(wanted))  # a link stays one, to the new file
    if not wanted or path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), wanted)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(problem, OSError):  # of the file that was asked for
            raise OSError(problem.errno, problem.strerror, wanted) from None
        raise
    if os.name == "posix":  # the rename, too, must reach the disk
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("safetensors is needed: pip install safetensors") from None
    return safetensors.numpy


def _refuse(path: str | PathLike[str], text: str) -> NoReturn:
    _checks.refuse("load", f"{os.fspath(path)} {text}")


def _storable(name: str, leaf: Any) -> Array:
    """A leaf as an array of numbers or booleans."""
    if not isinstance(leaf, (np.ndarray, np.generic)) or np.asarray(leaf).dtype.kind not in "fiub":
        _checks.refuse_type("save", f"every leaf must be an array of numbers, got {leaf!r} at {name!r}")
    return np.asarray(leaf)


def _check_keys(node: Params) -> None:
    if not isinstance(node, dict):
        _checks.refuse_type("save", f"`params` must be a dict, got {type(node).__name__}")
    for key, value in node.items():
        if not isinstance(key, str) or "/" in key or "." in key or not key:
            _checks.refuse_type("save", f"every key must be a str without '/' and '.', got {key!r}")
        if "\0" in key or key != key.encode(errors="replace").decode():  # an archive would change it
            _checks.refuse_type("save", f"every key must be text, got {key!r}")
        if isinstance(value, dict):
            _check_keys(value)


def _structure(node: Any) -> Any:
    """The nested dicts with None for each leaf: it keeps the order and the empty ones."""
    return {key: _structure(value) for key, value in node.items()} if isinstance(node, dict) else None


def _restore(structure: Any, leaves: dict[str, Array], path: str = "") -> Any:
    if structure is None:
        return leaves[path]
    return {
        key: _restore(inner, leaves, f"{path}/{key}" if path else key)
        for key, inner in structure.items()
    }


def _digest(leaves: list[tuple[str, Array]], structure: Any, remembered: str) -> str:
    """SHA-256 over names, dtypes, shapes and little-endian values."""
    sha = hashlib.sha256(f"{json.dumps(structure)}\n{remembered}\n".encode())
    for name, leaf in leaves:
        little = np.ascontiguousarray(leaf, leaf.dtype.newbyteorder("<"))
        sha.update(f"{name} {little.dtype.str} {little.shape}\n".encode())
        sha.update(little.tobytes())
    return sha.hexdigest()


def _header(path: str | PathLike[str], archive: zipfile.ZipFile) -> dict[str, Any]:
    if _HEADER not in archive.namelist():
        _refuse(path, f"must be a checkpoint of funcnn: it has no {_HEADER}")
    header = json.loads(archive.read(_HEADER))
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        _refuse(path, "must be a checkpoint of funcnn: its header is another's")
    if not isinstance(header.get("version"), int) or header["version"] > _VERSION:
        _refuse(
            path,
            f"must have version {_VERSION} or older, got {header.get('version')}: "
            "a newer funcnn wrote it",
        )
    missing = {"structure", "meta", "sha256"} - header.keys()
    if missing:
        _refuse(path, f"must be a checkpoint of funcnn: its header lacks {', '.join(sorted(missing))}")
    return header


def _read_array(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(name) as entry:
        return np.asarray(np.lib.format.read_array(entry, allow_pickle=False))


def _compare(path: str | PathLike[str], params: Params, like: Params) -> None:
    found, wanted = dict(tree.leaves(params)), dict(tree.leaves(like))
    for name in sorted(wanted.keys() ^ found.keys()):
        _refuse(path, f"must fit the network: only one of them has {name!r}")
    for name, leaf in wanted.items():
        got = found[name]
        if got.shape != leaf.shape or got.dtype != leaf.dtype:
            _refuse(
                path,
                f"must fit the network: {name!r} must be {leaf.dtype} {leaf.shape}, "
                f"got {got.dtype} {got.shape}",
            )
