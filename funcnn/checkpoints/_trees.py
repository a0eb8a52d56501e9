"""Which trees a file can keep: both formats ask here, when they write and when they read."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from funcnn import checks, tree
from funcnn.files import NUMBERS, short
from funcnn.types import Array

_DEEPEST = 500  # levels: JSON's reader takes a call for each
_LONGEST = 60_000  # bytes of a path, of the 65,535 that an archive has for a name


def check_names(params: Any) -> None:
    """Refuse what is no tree of dicts, and keys that a file would change."""
    if not isinstance(params, dict):
        checks.refuse_type(f"`params` must be a dict, got {type(params).__name__}")
    todo = [(params, "", 0)]
    while todo:
        node, path, depth = todo.pop()
        if depth > _DEEPEST:
            checks.refuse(f"`params` must have at most {_DEEPEST} levels")
        for key, value in node.items():
            got = f"got {checks.shown(key)}"
            if not isinstance(key, str) or "/" in key or "." in key or not key:
                checks.refuse_type(f"every key must be a str without '/' and '.', {got}")
            if "\0" in key or "\\" in key or key != key.encode(errors="replace").decode():
                checks.refuse_type(f"every key must be text, {got}")
            here = f"{path}/{key}"
            if len(here.encode()) > _LONGEST:
                checks.refuse(f"every path must have at most {_LONGEST} bytes")
            if isinstance(value, dict):
                todo.append((value, here, depth + 1))
            elif isinstance(value, tuple):
                _refuse_leaf(here[1:], checks.shown(value))


def arrays(params: Any) -> list[tuple[str, Array]]:
    """The leaves of a tree as little-endian arrays of numbers, so that all machines write one file."""
    check_names(params)
    return [(name, _plain(name, leaf)) for name, leaf in tree.leaves(params)]


def _plain(name: str, leaf: Any) -> Array:
    if isinstance(leaf, np.generic):
        leaf = np.asarray(leaf)
    if not isinstance(leaf, np.ndarray):
        _refuse_leaf(name, checks.shown(leaf))
    if type(leaf) not in (np.ndarray, np.memmap):  # a mask, say, would be lost
        _refuse_leaf(name, type(leaf).__name__)
    if leaf.dtype.str[1:] not in NUMBERS:
        _refuse_leaf(name, f"an array of {leaf.dtype}")
    return np.asarray(leaf.astype(leaf.dtype.newbyteorder("<"), copy=False))


def _refuse_leaf(name: str, got: str) -> NoReturn:
    where = short(repr(name))
    checks.refuse_type(f"every leaf must be an array of numbers, got {got} at {where}")
