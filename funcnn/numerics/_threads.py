"""Tasks on several threads. What the tasks are depends on sizes alone, so that the bits do as well.

Whoever runs on one thread but has others to spare says so with `team`; a kernel deep inside may then
share out a large piece of work, by `share`. A task has no team of its own.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import cache, partial
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

_team: ContextVar[int | None] = ContextVar("team", default=1)


class team:
    """Let kernels inside share their work with so many threads; None: one for each processor."""

    def __init__(self, workers: int | None) -> None:
        self._workers = workers

    def __enter__(self) -> None:
        self._token = _team.set(self._workers)

    def __exit__(self, *_: object) -> None:
        _team.reset(self._token)


def share(task: Callable[[int], T], count: int) -> list[T]:
    """``[task(0), ..., task(count - 1)]``, on as many threads as the team in force has."""
    return run_tasks(task, count, _team.get())


def run_tasks(task: Callable[[int], T], count: int, workers: int | None) -> list[T]:
    """``[task(0), ..., task(count - 1)]``, on this thread and up to ``workers - 1`` others.

    Each thread takes the next task until none is left. A helper that comes late, because it was busy
    with another call, finds none; so nobody waits for a thread that waits for him. After an error the
    rest is not begun, and what has begun is waited for: no task outlives the call.
    """
    threads = min(workers or _processors(), count)
    if threads < 2:
        return [task(i) for i in range(count)]
    left, finished = deque(range(count)), SimpleQueue[int]()
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def work() -> None:
        with team(1):
            while left:
                try:
                    i = left.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    if not errors:
                        results[i] = task(i)
                except BaseException as error:
                    errors.append(error)
                finally:
                    finished.put(i)

    helpers = _helpers(threads - 1)
    for _ in range(threads - 1):
        helpers.put(partial(copy_context().run, work))
    work()
    waiting = count
    while waiting:
        try:
            finished.get()
            waiting -= 1
        except KeyboardInterrupt as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return [results[i] for i in range(count)]


@cache
def _helpers(threads: int) -> SimpleQueue[Callable[[], None]]:
    """Where so many threads, which end with the process, get their work from."""
    queue = SimpleQueue[Callable[[], None]]()

    def serve() -> None:
        while True:
            queue.get()()

    for _ in range(threads):
        Thread(target=serve, name="funcnn", daemon=True).start()
    return queue


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_helpers.cache_clear)


@cache
def _processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
