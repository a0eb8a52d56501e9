"""The proof that a function gives the same bits every time."""

from __future__ import annotations

import pickle
import random as python_random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import numpy as np

from funcnn.checks import Function, Integer, refuse, shown, takes
from funcnn.tree.digests import digest, leaf_digests

__all__ = ["assert_reproducible", "digest"]


def _digests_of(pickled: bytes) -> dict[str, str]:
    """What another process does: load the function, run it, describe the result."""
    return leaf_digests(pickle.loads(pickled)())


def _disturb(run: int) -> None:
    """Other random calls, and other leftovers in the memory that is handed out next."""
    np.random.random(7)  # noqa: NPY002 - the global state is what is to be disturbed
    python_random.random()
    sizes = [2**power for power in range(4, 21)] * 4
    leftovers = [np.full(size, run % 251, np.uint8) for size in sizes]
    del leftovers


@takes(fn=Function(0), runs=Integer(1), processes=Integer(0))
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
    if runs + processes < 2:
        refuse(f"`runs` and `processes` must make at least 2 results, got {runs + processes}", who)
    pickled = _importable(who, fn) if processes else b""
    first = leaf_digests(fn())
    for run in range(2, runs + 1):
        _disturb(run)
        _same(f"run {run}, after other random calls", first, leaf_digests(fn()))
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


def _importable(who: str, fn: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps(fn)
    except Exception as error:
        refuse(
            "`fn` must be a function at the top of a module, for other processes to import it, "
            f"or `processes` must be 0, got {error}",
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
