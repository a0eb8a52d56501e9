"""Ranks as threads of one process: what they say to each other, without MPI."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import numpy as np

from funcnn.distributed import Engine

T = TypeVar("T")


class _Board:
    """Where the ranks of a communicator lay down what they say."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.said: list[Any] = [None] * size


class Comm:
    """As much of `mpi4py.MPI.Intracomm` as an engine uses."""

    def __init__(self, board: _Board, rank: int) -> None:
        self._board, self.rank, self.size = board, rank, len(board.said)

    def allgather(self, value: Any) -> list[Any]:
        self._board.said[self.rank] = pickle.dumps(value)
        self._board.barrier.wait()
        found = list(map(pickle.loads, self._board.said))
        self._board.barrier.wait()
        return found

    def Alltoallv(self, sent: Any, received: Any) -> None:
        flat, counts = sent
        assert flat.size == sum(counts)
        ends = [0, *accumulate(counts)]
        everything = self.allgather([flat[a:b] for a, b in pairwise(ends)])
        mine = [parts[self.rank] for parts in everything]
        assert [part.size for part in mine] == list(received[1])
        received[0].reshape(-1)[:] = np.concatenate(mine)

    def Allgatherv(self, sent: Any, received: Any) -> None:
        parts = self.allgather(sent)
        assert [part.size for part in parts] == list(received[1])
        received[0][:] = np.concatenate(parts)


class _AllFail:
    """Where every rank is sure to come."""

    def Ibarrier(self) -> _AllFail:
        return self

    def Test(self) -> bool:
        return True


def on_ranks(count: int, work: Callable[[Engine], T]) -> list[T]:
    """What work gives on each of so many ranks; an error of any is raised."""
    board, found, errors = _Board(count), dict[int, T](), dict[int, BaseException]()

    def run(rank: int) -> None:
        try:
            found[rank] = work(Engine(Comm(board, rank), _AllFail()))
        except BaseException as error:
            errors[rank] = error
            board.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _, error in sorted(errors.items()):
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return [found[rank] for rank in range(count)]
