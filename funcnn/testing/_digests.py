"""Digests of trees, and the proof that a function gives the same bits every time."""

from __future__ import annotations

import pickle
import random as python_random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256
from multiprocessing import get_context
from typing import Any

import numpy as np

from funcnn.checks import Integer, named, refuse, refuse_type, shown

__all__ = ["assert_reproducible", "digest"]


def _described(tree: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str, bytes]]:
    """Each leaf's path with all that makes it what it is; empty containers count as leaves."""
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


def _leaf_digests(tree: Any) -> dict[str, str]:
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
    >>> from funcnn.testing import digest
    >>> digest({"a": np.arange(3.0), "b": 1}) == digest({"b": 1, "a": np.arange(3.0)})
    True
    >>> digest(np.zeros(2)) == digest(-np.zeros(2))
    False
    """
    return _total(_leaf_digests(tree))


def _total(leaves: dict[str, str]) -> str:
    total = sha256()
    for path, leaf in leaves.items():
        total.update(f"{path} {leaf}\n".encode())
    return total.hexdigest()


def _digests_of(pickled: bytes) -> dict[str, str]:
    """What another process does: load the function, run it, describe the result."""
    return _leaf_digests(pickle.loads(pickled)())


def _disturb(run: int) -> None:
    """Other random calls, and other leftovers in the memory that is handed out next."""
    np.random.random(7)  # noqa: NPY002 - the global state is what is to be disturbed
    python_random.random()
    sizes = [2**power for power in range(4, 21)] * 4
    leftovers = [np.full(size, run % 251, np.uint8) for size in sizes]
    del leftovers


@named
def assert_reproducible(fn: Callable[[], Any], runs: int = 2, processes: int = 1) -> None:
    """Prove that a function gives the same bits each time.

    Parameters
    ----------
    fn : callable
        ``() -> tree`` of arrays and plain data: for instance trains a network, and returns its
        parameters. For other processes it must be importable: a function at the top of a module.
    runs : int
        How often it is run in this process; between the runs come other random calls.
    processes : int
        In how many fresh processes it is run as well.

    Raises
    ------
    AssertionError
        If two results differ; the message has the first leaf that does.
    ValueError, TypeError
        For a function that other processes cannot import, unless `processes` is 0; for less than
        two results to compare.

    Examples
    --------
    >>> from funcnn import dense, random
    >>> from funcnn.testing import assert_reproducible
    >>> assert_reproducible(lambda: dense(3).init(random.key(0), (1, 2)), processes=0)
    """
    who = "assert_reproducible"
    runs = Integer(1).check("runs", runs)
    processes = Integer(0).check("processes", processes)
    if runs + processes < 2:
        refuse(f"`runs` and `processes` must make at least 2 results, got {runs + processes}", who)
    pickled = _importable(who, fn, ", or `processes` must be 0") if processes else b""
    first = _leaf_digests(fn())
    for run in range(2, runs + 1):
        _disturb(run)
        _same(f"run {run}, after other random calls", first, _leaf_digests(fn()))
    for number in range(1, processes + 1):
        # One pool for each: a process that has run before is no fresh one.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                found = pool.submit(_digests_of, pickled).result()
            except (BrokenProcessPool, AttributeError, ImportError) as error:
                refuse(
                    "`fn` must be importable by another process, and its module must do nothing "
                    f"else when it is imported (if __name__ == '__main__':), got {shown(error)}",
                    who,
                )
        _same(f"process {number}", first, found)


def _importable(who: str, fn: Callable[[], Any], otherwise: str = "") -> bytes:
    try:
        return pickle.dumps(fn)
    except Exception as error:
        refuse(
            "`fn` must be a function at the top of a module, for other processes to import it"
            f"{otherwise}, got {error}",
            who,
        )


def _same(where: str, expected: dict[str, str], found: dict[str, str]) -> None:
    for path in (*expected, *found):
        if expected.get(path) != found.get(path):
            here, there = (part.get(path, "nothing")[:12] for part in (expected, found))
            raise AssertionError(
                f"not reproducible: in {where}, the leaf at {path} has other bits than in run 1: "
                f"expected {here}, got {there}"
            )
