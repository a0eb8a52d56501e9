"""Who computes the runs of a sweep: this process, some others, or ranks.

A process computes one task at a time, over a pipe of its own. So one that is killed costs that task
alone, and Ctrl-C ends them all; an executor of `concurrent.futures` gives up all tasks with one.
"""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from funcnn import checks, files
from funcnn.distributed.engines import in_sweep

Run = Callable[[Any], Any]
Tasks = dict[int, bytes]  # pickled settings by their places
Outcomes = Generator[tuple[int, bytes], None, None]  # pickled (result, error, seconds)


def _attempt(run: Run, task: bytes) -> bytes:
    """What a run gives, or why it fails, for another process."""
    result, error, start = None, None, time.perf_counter()
    try:
        result = run(pickle.loads(task))
    except (Exception, SystemExit) as problem:
        error = words(problem)
    seconds = time.perf_counter() - start
    try:
        return pickle.dumps((result, error, seconds))
    except Exception as problem:
        return pickle.dumps((None, f"the result cannot be pickled: {words(problem)}", seconds))


def words(problem: BaseException) -> str:
    """An error on one line."""
    return files.short(" ".join(f"{type(problem).__name__}: {problem}".split()), 290, 200)


def here(run: Run, tasks: Tasks) -> Outcomes:
    for index, task in tasks.items():
        yield index, _attempt(run, task)


def _attempt_alone(run: Run, task: bytes) -> bytes:
    """The same, where others who share a sweep do the same: this process alone has this run."""
    before = in_sweep.set(True)
    try:
        return _attempt(run, task)
    finally:
        in_sweep.reset(before)


def on_ranks(run: Run, tasks: Tasks, comm: Any) -> Outcomes:
    """Rank 0 hands out the tasks; the others compute, and learn of no outcome."""
    from mpi4py import futures

    executor: Any
    with futures.MPICommExecutor(comm, root=0) as executor:
        if executor is not None:
            running = {
                executor.submit(_attempt_alone, run, task): index for index, task in tasks.items()
            }
            for future in futures.as_completed(running):
                yield running[future], future.result()


class _Worker:
    """A process that computes one task after another."""

    def __init__(self, run: Run) -> None:
        import multiprocessing  # not on every platform

        context = multiprocessing.get_context("spawn")
        self.line, there = context.Pipe()
        self.busy, self.start = False, 0.0
        self.process = context.Process(target=_serve, args=(there, run))
        with _no_interrupts():
            self.process.start()
        there.close()

    def give(self, task: bytes) -> None:
        self.busy, self.start = True, time.perf_counter()
        with suppress(OSError):  # it has died: so we hear when we take
            self.line.send_bytes(task)

    def take(self) -> bytes:
        """The outcome; or how the process has ended, and it stays busy for ever."""
        try:
            outcome = self.line.recv_bytes()
        except (EOFError, OSError):
            self.line.close()
            self.process.join()
            code = self.process.exitcode or 0
            killed = code < 0
            how = f"was killed by {signal.Signals(-code).name}" if killed else f"ended with code {code}"
            return pickle.dumps((None, f"the process {how}", time.perf_counter() - self.start))
        self.busy = False
        return outcome

    def end(self) -> None:
        """It hears that there is nothing more to do, or is killed."""
        self.line.close()
        if self.busy:
            self.process.kill()
        self.process.join()


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ctrl-C waits, where systems can do that; a process that is started meanwhile never sees it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(line: Any, run: Run) -> None:
    """What a worker does; Ctrl-C is for who has started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        while True:
            line.send_bytes(_attempt_alone(run, line.recv_bytes()))


def in_processes(run: Run, tasks: Tasks, count: int) -> Outcomes:
    from multiprocessing.connection import wait

    left, workers = deque(tasks.items()), list[_Worker]()
    idle, working = list[_Worker](), dict[Any, tuple[int, _Worker]]()
    try:
        while left or working:
            while left and len(working) < count:
                if not idle:
                    workers.append(_Worker(run))
                    idle.append(workers[-1])
                worker, (index, task) = idle.pop(), left.popleft()
                worker.give(task)
                working[worker.line] = index, worker
            for line in wait(list(working)):
                index, worker = working.pop(line)
                outcome = worker.take()
                if not worker.busy:
                    idle.append(worker)
                yield index, outcome
    finally:
        for worker in workers:
            worker.end()


# --- what cannot be shared ----------------------------------------------------------------------------


def check_run(run: Any, processes: int) -> None:
    """Refuse a function that other processes cannot import, and a script that they may not."""
    name = files.short(str(getattr(run, "__qualname__", checks.shown(run))), 80)
    else_ = "write it at the top level of a module, or processes=0"
    try:
        packed = pickle.dumps(run)
        pickle.loads(packed)
    except Exception:
        checks.refuse(f"`run` must be a function that other processes can import, got {name}: {else_}")
    main = sys.modules["__main__"]
    path = str(getattr(main, "__file__", None) or "")
    spec = getattr(main, "__spec__", None)
    if not processes:
        return
    alone = not path or str(getattr(spec, "name", "")).endswith("__main__")  # nobody imports it
    if alone or not os.path.isfile(path):
        if not alone or b"__main__" in packed:  # Python's own processes ask for a file `<stdin>`
            text = f"`run` must stand in a file that other processes can import, got {name}"
            checks.refuse(f"{text} of a notebook or a prompt: {else_}")
    elif line := _unguarded(path):
        where = f"line {line} of {files.short_path(path)}"
        text = f'a sweep of {name} must start below `if __name__ == "__main__":`, not at {where}'
        checks.refuse(f"{text}: its processes import that file")


def _unguarded(path: str) -> int:
    """The line of the script that starts a sweep wherever it is imported; 0 if there is none."""
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        is_main = code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__"
        if is_main and os.path.realpath(code.co_filename) == os.path.realpath(path):
            break
        frame = frame.f_back
    if frame is None:
        return 0
    line = frame.f_lineno
    for node in ast.walk(ast.parse(Path(path).read_bytes())):
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            guarded = node.lineno <= line <= (node.end_lineno or 0)
            if guarded:
                return 0
    return line
