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
from typing import Any, TypeVar

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


class _Limit:
    """Limits BLAS when the first one enters and restores it when the last one leaves.

    Both may be interrupted anywhere and done again.
    """

    def __init__(self) -> None:
        self.lock = RLock()  # which, unlike a Lock, knows whether this thread holds it
        self.inside: dict[_Token, None] = {}
        self.libraries: list[Any] | None = None
        self.before: list[tuple[Any, int]] | None = None

    def enter(self, token: _Token) -> None:
        try:
            self.lock.acquire()
            if not self.inside:
                if self.libraries is None:
                    self.libraries = _blas_libraries()
                if self.before is None:
                    self.before = [
                        (library, count)
                        for library in self.libraries
                        if (count := library.get_num_threads()) != 1
                    ]
                for library, _ in self.before:
                    _set_threads(library, 1)
            self.inside[token] = None
        finally:
            try:  # noqa: SIM105  # Ctrl-C could fall into the call of another function
                self.lock.release()
            except RuntimeError:  # interrupted while it waited
                pass

    def leave(self, token: _Token) -> None:
        try:
            self.lock.acquire()
            self.inside.pop(token, None)
            if not self.inside and self.before is not None:
                for library, count in self.before:
                    _set_threads(library, count)
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


def _set_threads(library: Any, count: int) -> None:
    """Set the number for the process, from whatever thread.

    Newer versions of threadpoolctl silently ignore all threads but the first that ever set it, until
    that one is cleared; cleared it must be afterwards, too, or the caller's own limits are ignored.
    """
    clear = getattr(library, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)
    library.set_num_threads(count)
    if clear is not None:
        clear(force=True)


def _blas_libraries() -> list[Any]:
    """Handles of the BLAS libraries that this process has loaded."""
    from threadpoolctl import ThreadpoolController  # deferred: searching costs a millisecond

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
