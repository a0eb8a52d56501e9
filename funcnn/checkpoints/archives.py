"""A tree in a NumPy ``.npz`` archive, readable with `numpy.load`, without pickle.

Each leaf is an array under its path, and ``funcnn.json`` holds the format's version, whatever else was
to be remembered, and a SHA-256 digest of everything. The same tree gives the same file everywhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

import numpy as np

from funcnn import checks, files, tree
from funcnn.checkpoints._trees import arrays, check_meta, check_names
from funcnn.types import Array, Params

__all__ = ["load", "save", "write_whole"]

_FORMAT = "funcnn-checkpoint"
_VERSION = 1
_HEADER = "funcnn.json"
_DATE = (1980, 1, 1, 0, 0, 0)
_ALTERED = "must be as it was written: its digest does not fit its content"


@checks.named
def save(path: str | PathLike[str], params: Params, meta: dict[str, Any] | None = None) -> None:
    """Write a tree to a file, so that a crash or a full disk leaves the old file or the new one.

    Parameters
    ----------
    path : path
        Where to; a file that is there is replaced, at once, when the new one is safe on the disk.
        See `write_whole`.
    params : dict
        A tree of arrays: parameters, an optimizer's state, or both.
    meta : dict, optional
        What is to be remembered with the tree; it comes back as it is: dicts with keys of text,
        lists, str, int, float (NaN and infinity, too), bool and None.

    Raises
    ------
    TypeError
        For leaves that are not plain arrays of numbers or booleans of at most 64 bits, keys with a
        ``/``, ``\\\\`` or ``.`` or that are no text, or `meta` that JSON cannot hold.
    ValueError
        For a tree of more than 500 levels, a path that is too long, or a device instead of a file.
    OSError
        Where the file cannot be written; what was there before is untouched.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "net.npz"
    >>> save(file, {"dense1": {"bias": np.zeros(2)}}, {"epoch": 3})
    >>> load(file)
    ({'dense1': {'bias': array([0., 0.])}}, {'epoch': 3})
    """
    where = files.checked_path(path)
    leaves = arrays(params)
    meta = {} if meta is None else meta
    check_meta(meta)
    try:
        remembered = json.dumps(meta)
    except RecursionError as problem:  # in a program whose calls are deep already
        checks.refuse_type(f"`meta` must be what JSON can hold: {problem}")
    structure = tree.map(lambda leaf: None, params)  # it keeps the order, and what is empty
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "structure": structure,
        "meta": remembered,
        "sha256": _digest(leaves, structure, remembered),
    }
    buffer = io.BytesIO()
    with _Archive(buffer, "w") as archive:
        archive.writestr(_member(_HEADER), json.dumps(header))
        for name, leaf in leaves:
            with archive.open(_member(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, leaf, allow_pickle=False)
    with buffer.getbuffer() as content:
        files.write(where, content)


class _Archive(zipfile.ZipFile):
    """An archive that is not closed while an entry is open: what stopped the writing says why."""

    def close(self) -> None:
        try:
            super().close()
        except ValueError:
            if self.fp is None:  # no entry was open, so that the archive was being closed
                raise


@checks.named
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
        The tree, in the machine's byte order, and what was remembered with it.

    Raises
    ------
    ValueError
        For a file that is cut short, altered, not a checkpoint, of a newer version, or does not
        fit `like`. Nothing in it may be compressed: no more is read than the file has bytes.
    OSError
        For a file that cannot be opened.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "net.npz"
    >>> _ = file.write_bytes(b"not a checkpoint")
    >>> load(file)
    Traceback (most recent call last):
    ...
    funcnn.checks.RefusedValue: load: ...net.npz must be a checkpoint: File is not a zip file
    """
    where = files.checked_path(path)
    wanted = None if like is None else dict(arrays(like))
    with files.opened(where) as file, files.whole(where, "a checkpoint"):
        archive = files.Archive(file)
        header = _header(where, archive)
        kept = _kept(header["structure"])
        wanted_names = {_HEADER, *(f"{name}.npy" for name in kept)}
        if wanted_names - archive.names():
            files.refuse(where, _ALTERED)
        if strangers := archive.names() - wanted_names:
            raise ValueError(f"its header does not name {checks.shown(min(strangers))}")
        leaves = [(name, archive.array(f"{name}.npy")) for name in kept]
        if header["sha256"] != _digest(leaves, header["structure"], header["meta"]):
            files.refuse(where, _ALTERED)
        found = dict(leaves)
        params = tree.map_with_path(lambda name, _: found[name], header["structure"])
        meta = files.json_object(header["meta"].encode(), finite=False)
        _if_saved(check_meta, meta)
    if wanted is not None:
        _compare(where, found, wanted)
    return params, meta


@checks.named
def write_whole(path: str | PathLike[str], content: bytes | memoryview) -> None:
    """Write a file, so that a crash or a full disk leaves the old file or the new one.

    Parameters
    ----------
    path : path
        Where to. A link is followed: what it points to is written, and it stays a link.
    content : bytes
        All of the file.

    Raises
    ------
    TypeError
        For content that is no bytes.
    ValueError
        For what is there and is no file: a device or a pipe would be replaced.
    OSError
        Where the file cannot be written; what was there before is untouched.

    Notes
    -----
    It is written beside the file, forced to the disk, and renamed: a second name of the old file (a
    hard link) keeps what it had. The new file keeps who may read and write the old one and, where the
    process may give files away, its owner. A process that is killed on the way
    leaves ``.name.<8 digits>.partial`` behind, which nobody reads.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "notes.txt"
    >>> write_whole(file, b"whole")
    >>> file.read_text()
    'whole'
    """
    where = files.checked_path(path)
    try:
        whole = memoryview(content)
    except TypeError:
        checks.refuse_type(f"`content` must be bytes, got {checks.shown(content)}")
    if not whole.c_contiguous:
        checks.refuse("`content` must be bytes in one piece")
    files.write(where, whole)


def _digest(leaves: list[tuple[str, Array]], structure: Any, remembered: str) -> str:
    """SHA-256 over names, dtypes, shapes and little-endian values."""
    sha = hashlib.sha256(f"{json.dumps(structure)}\n{remembered}\n".encode())
    for name, leaf in leaves:
        little = np.ascontiguousarray(leaf, leaf.dtype.newbyteorder("<"))
        sha.update(f"{name} {little.dtype.str} {little.shape}\n".encode())
        sha.update(little.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _DATE)
    member.create_system = 3  # Unix, on every system
    return member


def _header(path: str, archive: files.Archive) -> dict[str, Any]:
    if _HEADER not in archive.names():
        files.refuse(path, f"must be a checkpoint of funcnn: it has no {_HEADER}")
    header = files.json_object(archive.text(_HEADER))
    if header.get("format") != _FORMAT:
        files.refuse(path, "must be a checkpoint of funcnn: its header is another's")
    version = header.get("version")
    if type(version) is not int or not 1 <= version <= _VERSION:
        newer = "a newer funcnn wrote it"
        files.refuse(path, f"must have version {_VERSION} or older, got {version}: {newer}")
    for name, kind in (("structure", dict), ("meta", str), ("sha256", str)):
        if not isinstance(header.get(name), kind):
            files.refuse(path, f"must be a checkpoint of funcnn: its header has no {name}")
    return header


def _kept(structure: dict[str, Any]) -> list[str]:
    """The paths of a structure's leaves, sorted, if `save` can have written it."""
    _if_saved(check_names, structure)
    leaves = tree.leaves(structure)
    if any(leaf is not None for _, leaf in leaves):
        raise ValueError("its structure holds more than names")
    return [name for name, _ in leaves]


def _if_saved(check: Callable[[Any], None], value: Any) -> None:
    """Refuse a file with what `save` refuses."""
    try:
        check(value)
    except checks.Refusal as problem:
        raise ValueError(problem.text)


def _compare(path: str, found: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    for name in sorted(wanted.keys() ^ found.keys()):
        files.refuse(path, f"must fit the network: only one of them has {checks.shown(name)}")
    for name, leaf in wanted.items():
        dtype, got = leaf.dtype.newbyteorder("="), found[name]
        if (got.shape, got.dtype) != (leaf.shape, dtype):
            both = f"{dtype} {leaf.shape}, got {got.dtype} {got.shape}"
            files.refuse(path, f"must fit the network: {checks.shown(name)} must be {both}")
