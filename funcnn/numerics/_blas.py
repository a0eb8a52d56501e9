"""One BLAS thread at a time, for as long as somebody asks for it.

A product split over BLAS threads is summed in another order, so its bits depend on their number;
and for the small products of small networks the threads cost more than they bring. Whoever shards
its work over threads of its own asks for single BLAS threads meanwhile.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from threading import Lock, get_ident
from types import TracebackType
from typing import Any


class _SingleThread(AbstractContextManager[None]):
    """Limits BLAS on the first entry and restores it on the last exit, whatever the thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside: list[int] = []  # which threads
        self._libraries: list[Any] | None = None
        self._before: list[tuple[Any, int]] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                if self._libraries is None:
                    self._libraries = _blas_libraries()
                found = [(library, library.get_num_threads()) for library in self._libraries]
                self._before = [(library, count) for library, count in found if count != 1]
                for library, _ in self._before:
                    _set_threads(library, 1)
            self._inside.append(get_ident())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside.remove(get_ident())
            if not self._inside:
                self._restore()

    def _restore(self) -> None:
        for library, count in self._before:
            _set_threads(library, count)

    def before_fork(self) -> None:
        """Wait until no thread is halfway in or out."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let them go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """A forked child has none of its parent's threads but one: the others will never leave."""
        self._lock.release()
        before, self._inside = self._inside, [own for own in self._inside if own == get_ident()]
        if before and not self._inside:
            self._restore()


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


single_blas_thread = _SingleThread()
"""``with single_blas_thread:`` products inside are computed by one BLAS thread each."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=single_blas_thread.before_fork,
        after_in_parent=single_blas_thread.after_fork_in_parent,
        after_in_child=single_blas_thread.after_fork_in_child,
    )
