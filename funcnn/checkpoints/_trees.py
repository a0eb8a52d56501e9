"""What a file can keep and give back: both formats ask here, when they write and when they read."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from funcnn import checks, files, tree
from funcnn.files import NUMBERS, short
from funcnn.types import Array

_DEEPEST = 500  # levels: JSON's reader takes a call for each
_DEEPEST_META = 700  # levels, which leave Python's limit of 1,000 some room for calls
_LARGEST = 14_000  # bits of an int: Python reads no more than 4,300 digits
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
            if type(key) is not str or "/" in key or "." in key or not key:
                checks.refuse_type(f"every key must be a str without '/' and '.', {got}")
            if "\0" in key or "\\" in key or not _is_text(key):
                checks.refuse_type(f"every key must be text, {got}")
            here = f"{path}/{key}"
            if len(here.encode()) > _LONGEST:
                checks.refuse(f"every path must have at most {_LONGEST} bytes")
            if isinstance(value, dict):
                todo.append((value, here, depth + 1))
            elif isinstance(value, tuple):
                _refuse_leaf(here[1:], checks.shown(value))


def _is_text(value: str) -> bool:
    return value == value.encode(errors="replace").decode()


def check_meta(meta: Any) -> None:
    """Refuse what would come back from JSON as something else, or not at all."""
    if type(meta) is not dict:
        checks.refuse_type(f"`meta` must be a dict, got {checks.shown(meta)}")
    todo: list[tuple[Any, str, int]] = [(meta, "", 0)]
    while todo:
        node, path, depth = todo.pop()
        kind = type(node)
        if depth > _DEEPEST_META:
            checks.refuse_type(f"`meta` must be what JSON can hold, of at most {_DEEPEST_META} levels")
        if (
            kind not in (dict, list, str, int, float, bool, type(None))
            or (kind is str and not _is_text(node))
            or (kind is int and node.bit_length() > _LARGEST)
        ):
            got = f"got {checks.shown(node)} at {short(repr(path[1:]))}"
            hint = ": write a list" if isinstance(node, tuple) else ""
            checks.refuse_type(f"`meta` must be what JSON can hold, {got}{hint}")
        for key in node if kind is dict else ():
            if type(key) is not str or not _is_text(key):
                got = f"got {checks.shown(key)} in {short(repr(path[1:]))}"
                checks.refuse_type(f"`meta` must have keys that are text, {got}")
        pairs = node.items() if kind is dict else enumerate(node) if kind is list else ()
        todo += [(value, f"{path}/{key}", depth + 1) for key, value in pairs]


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
    if not files.are_booleans(leaf):
        _refuse_leaf(name, files.NO_BOOLEANS)
    known = np.dtype(leaf.dtype.str)  # without remarks of the user's own
    return np.asarray(leaf.view(known).astype(known.newbyteorder("<"), copy=False))


def _refuse_leaf(name: str, got: str) -> NoReturn:
    where = short(repr(name))
    checks.refuse_type(f"every leaf must be an array of numbers, got {got} at {where}")
