"""Digests: whether two trees are the same, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import numpy as np

from funcnn.checks import refuse, refuse_type

__all__ = ["digest"]

_DEEPEST = 500  # levels, each a frame of Python: as deep as a checkpoint may be


def _described(tree: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str, bytes]]:
    """Each leaf's path with all that makes it what it is; empty containers count as leaves."""
    if len(path) > _DEEPEST:
        refuse(f"a tree must have at most {_DEEPEST} levels: does it hold itself?", "digest")
    if isinstance(tree, dict) and tree:
        for name in sorted(tree, key=lambda name: (type(name).__name__, name)):
            yield from _described(tree[name], (*path, name))
    elif isinstance(tree, (tuple, list)) and tree:
        for index, part in enumerate(tree):
            yield from _described(part, (*path, index))
    elif isinstance(tree, (np.ndarray, np.generic)):
        leaf = np.asarray(tree)
        if leaf.dtype.hasobject:
            refuse_type(f"leaves must be numbers or strings, got {leaf.dtype}", "digest")
        # astype with a byte order copies to C order, whatever the order in memory
        data = np.ascontiguousarray(leaf.astype(leaf.dtype.newbyteorder("<"), copy=False))
        head = f"{leaf.dtype.newbyteorder('<').str} {leaf.shape} "
        yield repr(path), head.encode() + data.tobytes()
    elif isinstance(tree, (bool, int, float, complex, str, bytes, dict, tuple, list, type(None))):
        yield repr(path), f"{type(tree).__name__} {tree!r}".encode()
    else:
        refuse_type(f"leaves must be arrays or plain data, got {type(tree).__name__}", "digest")


def leaf_digests(tree: Any) -> dict[str, str]:
    """SHA-256 of each leaf, by its path."""
    return {path: sha256(content).hexdigest() for path, content in _described(tree, ())}


def digest(tree: Any) -> str:
    """Hash a tree: the same digest for the same bits, on every machine.

    Parameters
    ----------
    tree : dict, list, tuple, array or plain data
        Nested at will.

    Returns
    -------
    str
        SHA-256, as 64 hexadecimal digits, over the sorted paths and each leaf's dtype, shape and
        bytes, little-endian and in C order, whatever their order in memory.

    Raises
    ------
    TypeError
        For a leaf that is neither an array nor plain data.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.tree import digest
    >>> digest({"a": np.arange(3.0), "b": 1}) == digest({"b": 1, "a": np.arange(3.0)})
    True
    >>> digest(np.zeros(2)) == digest(-np.zeros(2))
    False
    """
    return total_digest(leaf_digests(tree))


def total_digest(leaves: dict[str, str]) -> str:
    """SHA-256 of them all."""
    total = sha256()
    for path, leaf in leaves.items():
        total.update(f"{path} {leaf}\n".encode())
    return total.hexdigest()
