"""Shards of one batch, each on a thread of its own, that wait for each other where they need a sum.

A layer that couples the examples of a batch asks for `current`: None, or the shard that it computes.
What it has of its own shard it gives to `Shard.everyones`, and gets what all shards give, in their
order. All shards ask equally often, for the same things, since one network runs on each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from functools import partial
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any, TypeVar

from funcnn import checks
from funcnn.machine.threads import UNSTARTED, in_team, processors

T = TypeVar("T")

_current: ContextVar[Shard | None] = ContextVar("shard", default=None)


class Shard:
    """One of the shards of a batch that is being computed."""

    def __init__(self, place: int, said: SimpleQueue[Any], running: Semaphore) -> None:
        self._place, self._said, self._running = place, said, running
        self.heard = SimpleQueue[Any]()

    def everyones(self, value: T) -> list[T]:
        """What all shards of the batch give here, in their order."""
        self._running.release()
        try:
            self._said.put((self._place, lambda: value, False))
            found = self.heard.get()
        finally:
            self._running.acquire()
        if isinstance(found, BaseException):
            raise found
        answer: list[T] = found
        return answer

    def run(self, task: Callable[[int], Any]) -> None:
        """Do the task of this shard, and say what comes of it."""
        _current.set(self)
        try:
            with self._running:
                result = in_team(1, partial(task, self._place))
            self._said.put((self._place, lambda: result, True))
        except BaseException as error:
            self._said.put((self._place, partial(_raise, error), True))


def _raise(error: BaseException) -> Any:
    raise error


def current() -> Shard | None:
    """The shard that is computed here, if a batch is cut."""
    return _current.get()


def in_lockstep(
    task: Callable[[int], T],
    count: int,
    workers: int | None,
    meet: Callable[[Callable[[], list[Any]]], list[Any]],
) -> list[T]:
    """``[task(0), ..., task(count - 1)]``, at once; of the threads, so many compute at a time.

    Where the tasks meet, ``meet`` is given a function that gives what they say, or raises what one of
    them has raised; what it gives, with that of shards elsewhere, they all hear.
    """
    said, running = SimpleQueue[Any](), Semaphore(workers or processors())
    shards = [Shard(place, said, running) for place in range(count)]
    threads = [Thread(target=copy_context().run, args=(s.run, task), daemon=True) for s in shards]
    begun: list[Thread] = []
    try:
        for thread in threads:
            thread.start()
            begun.append(thread)
        while True:
            came = sorted((said.get() for _ in shards), key=lambda one: one[0])
            if all(ended for _, _, ended in came):
                return _values(came)
            found = meet(partial(_values, came))
            for shard in shards:
                shard.heard.put(found)
    except UNSTARTED as error:
        if len(begun) == count:
            raise
        checks.refuse(f"`shards` of a network that couples its batch need a thread each: {error}")
    finally:
        for shard in shards:  # whoever still waits does so in vain
            shard.heard.put(RuntimeError("another shard has failed"))
        for thread in begun:
            thread.join()


def _values(came: Sequence[tuple[int, Callable[[], T], bool]]) -> list[T]:
    values = [value() for _, value, _ in came]
    if len({ended for _, _, ended in came}) > 1:
        raise RuntimeError("shards must meet equally often")
    return values
