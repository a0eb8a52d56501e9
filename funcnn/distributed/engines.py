"""Who takes part in a computation: one process, or the ranks of an MPI job.

Work is cut into parts by sizes alone, and each rank owns some that lie side by side. What the parts
give meets in their order, whoever has computed them; so no bit depends on the number of ranks. All
ranks ask for the same things in the same order, as MPI wants it.
"""

from __future__ import annotations

import atexit
import pickle
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import Any, NoReturn

from funcnn import checks, files, tree
from funcnn.distributed.exchange import added_up, form, packed, sum_over_ranks, unpacked
from funcnn.distributed.watching import ENDING, is_needed, say, watch
from funcnn.types import P, Params, X, Y

__all__ = ["Engine", "mpi"]

PATIENCE = 3.0  # seconds that a rank which fails waits for others to fail as well
in_sweep = ContextVar("in_sweep", default=False)
"""Whether this process computes a run of a sweep: the other ranks compute theirs."""


@dataclass(frozen=True, repr=False)
class Engine:
    """Who computes: this process alone, or with the other ranks of an MPI communicator; see `mpi`.

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
    failing: Any = None
    """The same ranks once more: where those meet that cannot go on."""
    watcher: Any = None
    """The connection to the process that says when this one is killed."""

    def __post_init__(self) -> None:
        if self.comm is not None and not hasattr(self.comm, "allgather"):
            got = checks.shown(self.comm)
            checks.refuse_type(f"`comm` must be an MPI communicator, got {got}", "engine")

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

    def gathered(self, work: Callable[[], Sequence[X]]) -> list[X]:
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

    def first(self, work: Callable[[], X]) -> X:
        """What work on rank 0 gives, on every rank; the others do none."""
        if self.ranks == 1:
            return work()
        idle: Callable[[], Any] = lambda: None  # noqa: E731
        found: X = self._told(idle if self.rank else work, lambda value: value)[1][0]
        return found

    def agree(self, work: Callable[[], Mapping[str, Any]], same: Callable[[Any, Any], bool]) -> None:
        """Refuse ranks that know other facts than rank 0, each fact by its name."""
        if self.ranks == 1:
            return
        host = platform.node()
        told = self._told(lambda: (host, dict(work())), lambda facts: facts)[1]
        here, wanted = told[0]
        for rank, (there, facts) in enumerate(told):
            for name in wanted:
                if name not in facts or not same(facts[name], wanted[name]):
                    got, want = files.apart(str(facts.get(name)), str(wanted[name]))
                    text = f"rank {rank} on {there} has {got}, rank 0 on {here} {want}"
                    checks.refuse(f"ranks must agree on the {name}: {text}")

    @contextmanager
    def together(self) -> Iterator[None]:
        """An error of some ranks alone ends all of them, which would wait for those for ever."""
        self._check_free()
        try:
            yield
        except BaseException as error:
            if self.ranks > 1 and not self.all_fail():
                self.fail(error)
            raise

    def all_fail(self) -> bool:
        """Whether every rank comes here within a few seconds."""
        everyone, patience = self.failing.Ibarrier(), time.monotonic() + PATIENCE
        while not everyone.Test():
            if time.monotonic() > patience:
                return False
            time.sleep(0.001)
        return True

    def fail(self, error: BaseException) -> NoReturn:
        """End all ranks, because of an error of this one."""
        traceback.print_exception(error)
        words = " ".join(f"{type(error).__name__}: {error}".split())
        self.end(words.removesuffix(":"))

    def leave(self) -> None:
        """End all ranks if this one ends while others still want something of it."""
        from mpi4py import MPI

        if self.comm and not MPI.Is_finalized():
            told = self.comm.allgather(None)
            if told != [None] * self.ranks:
                if told.index(None) == self.rank:
                    self.end("its script has ended, and other ranks wait for it")
                time.sleep(60)

    def end(self, why: str) -> NoReturn:
        """End all ranks, with a line that says why."""
        line = f"funcnn: rank {self.rank} of {self.ranks} on {platform.node()} ends the run: {why}"
        print(files.short(line, 300, 250), file=sys.stderr, flush=True)
        for engine in (self, *_engines.values()):
            say(engine.watcher, ENDING)
        time.sleep(1)  # MPICH drops what its launcher has not read by now
        self.comm.Abort(1)
        time.sleep(60)  # MPICH comes back before it ends this process
        sys.exit(1)

    def _told(self, work: Callable[[], X], tell: Callable[[X], Y]) -> tuple[X, list[Y]]:
        """What work gives here, and what each rank tells of its own; an error of one is all ranks'."""
        self._check_free()
        mine: Any = None
        try:
            mine = work()
            said: Any = tell(mine), None
        except Exception as error:
            if getattr(error, "is_known", False):
                raise  # all ranks raise it, and wait for no word
            said = None, _sent(error)
        told = self.comm.allgather(said)
        if None in told:
            time.sleep(60)  # who leaves ends this rank
            raise RuntimeError(f"rank {told.index(None)} has left")
        for rank, (_, problem) in enumerate(told):
            if problem is not None:
                problem.add_note(f"on rank {rank} of {self.ranks}")
                problem.is_known = True
                raise problem
        return mine, [found for found, _ in told]

    def _check_free(self) -> None:
        if self.ranks > 1 and in_sweep.get():
            checks.refuse(f"`engine` must be left out in a run of a sweep, got {checks.shown(self)}")


def together(function: Callable[P, X]) -> Callable[P, X]:
    """Let an error of some ranks of its ``engine`` end all of them; an error of all is raised."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> X:
        engine = kwargs.get("engine")
        with engine.together() if isinstance(engine, Engine) else nullcontext():
            return function(*args, **kwargs)

    return run


ALONE = Engine()
"""This process alone."""


def check_share(workers: int | None, shards: int | None, engine: object) -> None:
    """Refuse what is no number of threads or of shards, and no engine."""
    for name, value in (("workers", workers), ("shards", shards)):
        if value is not None:
            checks.Integer(1).check(name, value)
    if engine is not None:
        checks.Instance(Engine, "an engine, such as distributed.mpi()").check("engine", engine)


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
        Without the package ``mpi4py``, or without an MPI library.

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
        except RuntimeError:  # of mpi4py, which finds no library
            raise ImportError("mpich is needed: pip install mpich, or another MPI") from None
        comm = MPI.COMM_WORLD
    alone = Engine(comm)
    if alone.ranks == 1:
        return alone
    if comm.handle not in _engines:
        watcher = watch(comm) if is_needed() else None
        _engines[comm.handle] = engine = Engine(comm, comm.Dup(), watcher)
        sys.excepthook = _ending(engine, sys.excepthook)
        atexit.register(engine.leave)
    return _engines[comm.handle]


_engines: dict[int, Engine] = {}  # by the handles of their communicators

_Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


def _ending(engine: Engine, before: _Hook) -> _Hook:
    """What is done with an error that nobody has caught: one of all ranks is said once."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not engine.all_fail():
            engine.fail(error)
        elif engine.rank == 0:
            before(kind, error, trace)

    return hook
