"""One BLAS thread at a time, for as long as somebody asks for it.

A product split over BLAS threads is summed in another order, so its bits depend on their number;
and for the small products of small networks the threads cost more than they bring. Whoever shards
its work over threads of its own asks for single BLAS threads meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import copy_context
from threading import RLock, get_ident
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
_Token = tuple[int, object]  # somebody who asks for one BLAS thread: in which thread, and who


def on_one_blas_thread(work: Callable[[], T]) -> T:
    """``work()``; products inside are computed by one BLAS thread each.

    It runs in a copy of the context, so that neither an error nor Ctrl-C, which may fall between any
    two instructions, leaves the number of BLAS threads, the mode or NumPy's error state changed.
    """
    token = get_ident(), object()
    try:
        _limit.enter(token)
        return copy_context().run(work)
    finally:
        try:
            _limit.leave(token)
        except KeyboardInterrupt:
            _limit.leave(token)
            raise


class _Threads(NamedTuple):
    """The functions that say and set the number of a BLAS library's threads."""

    get: Callable[[], int]
    set: Callable[[int], Any]


class _Limit:
    """Limits BLAS when the first one enters and restores it when the last one leaves.

    Both may be interrupted anywhere, by Ctrl-C or by another user in the same thread, and done again.
    """

    def __init__(self) -> None:
        self.lock = RLock()  # which, unlike a Lock, knows whether this thread holds it
        self.inside: dict[_Token, None] = {}
        self.libraries: list[_Threads] | None = None
        self.before: list[tuple[Callable[[int], Any], int]] | None = None
        self.limited = False

    def enter(self, token: _Token) -> None:
        try:
            self.lock.acquire()
            self.inside[token] = None
            if not self.limited:
                if self.libraries is None:
                    self.libraries = _blas_libraries()
                found = [(each.set, n) for each in self.libraries if (n := each.get()) != 1]
                if self.before is None:  # else found by another user meanwhile, or not yet set back
                    self.before = found
                for set_threads, _ in self.before:
                    set_threads(1)
                self.limited = True
        finally:
            try:  # noqa: SIM105  # Ctrl-C could fall into the call of another function
                self.lock.release()
            except RuntimeError:  # interrupted while it waited
                pass

    def leave(self, token: _Token) -> None:
        try:
            self.lock.acquire()
            self.inside.pop(token, None)
            if not self.inside:
                self.limited = False
                before = self.before
                if before is not None:
                    for set_threads, count in before:
                        set_threads(count)
                    self.before = None
        finally:
            try:  # noqa: SIM105
                self.lock.release()
            except RuntimeError:
                pass

    def forked(self) -> None:
        """A forked child has none of its parent's threads but one: the others will never leave."""
        self.lock.release()
        for token in [token for token in self.inside if token[0] != get_ident()]:
            self.leave(token)


_limit = _Limit()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_limit.lock.acquire,  # until no thread is halfway in or out
        after_in_parent=_limit.lock.release,
        after_in_child=_limit.forked,
    )


def _blas_libraries() -> list[_Threads]:
    """The BLAS libraries that this process has loaded; what comes later computes nothing here."""
    from threadpoolctl import ThreadpoolController  # deferred: searching costs a millisecond

    return list(map(_threads, ThreadpoolController().select(user_api="blas").lib_controllers))


def _threads(library: Any) -> _Threads:
    """How a library's threads are counted and set for the process, from whatever thread.

    By OpenBLAS's own functions: newer versions of threadpoolctl silently ignore all threads but the
    first that ever set their number, and take ten times as long.
    """
    if library.internal_api == "openblas" and library.threading_layer != "openmp":
        blas = library.dynlib
        for name in library.check_symbols:  # what one build or another calls the first of them
            if hasattr(blas, name):
                return _Threads(getattr(blas, name), getattr(blas, name.replace("_get_", "_set_")))
    return _Threads(library.get_num_threads, library.set_num_threads)
