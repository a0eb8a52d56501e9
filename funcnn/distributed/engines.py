"""Who takes part in a computation: one process, or the ranks of an MPI job.

Work is cut into parts by sizes alone, and each rank owns some that lie side by side. What the parts
give meets in their order, whoever has computed them; so no bit depends on the number of ranks. All
ranks ask for the same things in the same order, as MPI wants it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from funcnn import checks, tree
from funcnn.distributed.exchange import added_up, form, packed, sum_over_ranks, unpacked
from funcnn.types import Params

__all__ = ["Engine", "mpi"]

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, repr=False)
class Engine:
    """Who computes: this process alone, or with the other ranks of an MPI communicator.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, optional
        Whose ranks take part; by default this process alone.

    Examples
    --------
    >>> from funcnn.distributed import Engine
    >>> alone = Engine()
    >>> alone, alone.rank, alone.ranks, alone.own(8)
    (rank 0 of 1, 0, 1, range(0, 8))
    """

    comm: Any = None

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return 0 if self.comm is None else int(self.comm.rank)

    @property
    def ranks(self) -> int:
        """How many processes take part."""
        return 1 if self.comm is None else int(self.comm.size)

    def __repr__(self) -> str:
        return f"rank {self.rank} of {self.ranks}"

    def own(self, count: int) -> range:
        """Which of so many parts are this rank's; part 0 is always rank 0's."""
        first, end = (-(-count * rank // self.ranks) for rank in (self.rank, self.rank + 1))
        return range(first, end)

    def gathered(self, work: Callable[[], Sequence[T]]) -> list[T]:
        """The trees that every rank's work gives for its own parts, in order, on every rank."""
        if self.ranks == 1:
            return list(work())
        told = self._told(work, lambda parts: [tree.map(packed, part) for part in parts])[1]
        return [tree.map(unpacked, part) for parts in told for part in parts]

    def added(self, work: Callable[[], Sequence[Params]]) -> Params:
        """The sum of the trees of all parts, first to last, on every rank."""
        if self.ranks == 1:
            return added_up(work())
        own, told = self._told(work, lambda grads: (len(grads), [form(tree_) for tree_ in grads[:1]]))
        return sum_over_ranks(self.comm, own, [count for count, _ in told], told[0][1][0])

    def first(self, work: Callable[[], T]) -> T:
        """What work on rank 0 gives, on every rank; the others do none."""
        if self.ranks == 1:
            return work()
        idle: Callable[[], Any] = lambda: None  # noqa: E731
        found: T = self._told(idle if self.rank else work, lambda value: value)[1][0]
        return found

    def _told(self, work: Callable[[], T], tell: Callable[[T], U]) -> tuple[T, list[U]]:
        """What work gives here, and what each rank tells of its own; an error of one is all ranks'."""
        mine: Any = None
        try:
            mine = work()
            said: Any = tell(mine), None
        except Exception as error:
            said = None, _sent(error)
        told = self.comm.allgather(said)
        for rank, (_, problem) in enumerate(told):
            if problem is not None:
                problem.add_note(f"on rank {rank} of {self.ranks}")
                raise problem
        return mine, [found for found, _ in told]


def _sent(error: Exception) -> Exception:
    """An error that other processes can be told of."""
    try:
        again: Exception = pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return again


@checks.named
def mpi(comm: Any = None) -> Engine:
    """Make an engine of all processes that ``mpiexec`` or ``srun`` has started.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, optional
        Another communicator than that of all processes.

    Returns
    -------
    Engine
        For ``engine=`` of `funcnn.fit`, `funcnn.value_and_grad`, `funcnn.evaluate` and
        `funcnn.predict`. Started without ``mpiexec``, the script runs alone.

    Raises
    ------
    ImportError
        Without the package ``mpi4py``.

    Examples
    --------
    >>> from funcnn import distributed
    >>> distributed.mpi()  # fit(..., engine=distributed.mpi())
    rank 0 of 1
    """
    if comm is None:
        try:
            from mpi4py import MPI
        except ImportError:
            raise ImportError('mpi4py is needed: pip install "funcnn[mpi]"') from None
        comm = MPI.COMM_WORLD
    return Engine(comm)
