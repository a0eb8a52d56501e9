"""Tasks on several threads. What the tasks are depends on sizes alone, so that the bits do as well.

Whoever runs on one thread but has others to spare says so with `in_team`; a kernel deep inside may
then share out a large piece of work, by `share`. A task has no team of its own.

Ctrl-C may fall between any two instructions of the main thread. So nothing is kept there that would
have to be put back: contexts are copies, and what helpers do is counted by themselves.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import cache, partial
from pathlib import Path
from queue import SimpleQueue
from threading import RLock, Thread
from typing import TypeVar

import numpy as np

T = TypeVar("T")

UNSTARTED = (RuntimeError, OSError, MemoryError)
"""What `Thread.start` raises where there can be no more threads, or none at all, as in a browser."""

_team: ContextVar[int | None] = ContextVar("team", default=1)
workers = _team.get
"""The number of threads that `in_team` was given."""


def in_team(workers: int | None, work: Callable[[], T]) -> T:
    """Let kernels inside share their work with so many threads; None: one for each processor."""

    context = copy_context()
    context.run(_team.set, workers)
    return context.run(work)


def share(task: Callable[[int], T], count: int) -> list[T]:
    """``[task(0), ..., task(count - 1)]``, on as many threads as the team in force has."""
    return run_tasks(task, count, _team.get())


def team() -> int:
    """How many threads `share` has: for tasks whose number is in no bit of their results."""
    return _team.get() or processors()


def run_tasks(task: Callable[[int], T], count: int, workers: int | None) -> list[T]:
    """``[task(0), ..., task(count - 1)]``, on this thread and up to ``workers - 1`` others.

    Each thread takes the next task until none is left. A helper that comes late, because it was busy
    with another call, finds none; so nobody waits for a thread that waits for him. After an error, or
    Ctrl-C, the rest is not begun, and what has begun is waited for: no task outlives the call.
    """
    threads = min(workers or processors(), count)
    if threads < 2:
        return list(map(task, range(count)))
    left = deque(range(count))
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    begun: list[None] = []  # one for each helper; each counts itself, before it announces its end
    done: list[None] = []
    ended = SimpleQueue[None]()

    def work() -> None:
        _team.set(1)
        while not errors:
            try:
                i = left.popleft()
            except IndexError:
                return
            try:
                results[i] = task(i)
            except BaseException as error:
                errors.append(error)

    def help() -> None:
        begun.append(None)
        work()
        done.append(None)
        ended.put(None)

    try:
        ask_helpers(threads - 1, lambda: partial(copy_context().run, help))
        bell[0] += 1  # behind the jobs: whoever heard it finds them
        copy_context().run(work)
    except BaseException as error:
        errors.append(error)
    while True:
        try:
            left.clear()  # whoever has not taken a task by now finds none
            while len(done) < len(begun):
                ended.get()
            break
        except KeyboardInterrupt as error:
            errors.append(error)
    if errors:
        raise min(errors, key=lambda error: isinstance(error, Exception))  # Ctrl-C before others
    return [results[i] for i in range(count)]


_jobs = SimpleQueue[Callable[[], None]]()
_helpers: list[Thread] = []  # they end with the process
_growing = RLock()  # whom a signal's handler interrupts may hold it
bell = np.zeros(1, np.int64)
"""Another number with each task: a helper who does something that can wait looks at it."""


def ask_helpers(count: int, job: Callable[[], Callable[[], None]], others: int = 0) -> None:
    """Give one job to each of so many helpers beside others, or to as many as there can be."""
    if len(_helpers) < count + others:
        _grow(count + others)
    for _ in range(min(count, len(_helpers))):
        _jobs.put(job())


def is_asked() -> bool:
    """Whether a job waits for a helper."""
    return not _jobs.empty()


def _grow(count: int) -> None:
    with _growing:
        while len(_helpers) < count:
            thread = Thread(target=_serve, args=(_jobs,), name="funcnn", daemon=True)
            try:
                thread.start()
            except UNSTARTED:
                return
            _helpers.append(thread)  # when it runs, should Ctrl-C fall in between


def _serve(jobs: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        jobs.get()()


def _forked() -> None:
    """A forked child has none of its parent's threads."""
    global _jobs, _helpers, _growing
    _jobs, _helpers, _growing = SimpleQueue(), [], RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds in so many


@cache
def processors() -> int:
    """How many processors this process may use."""
    is_known = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if is_known else os.cpu_count() or 1
    try:
        quota, period = map(int, _QUOTA.read_text().split())
    except (OSError, ValueError):  # there is none, or it says "max"
        return count
    return max(1, min(count, quota // period))
