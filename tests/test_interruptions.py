"""What runs in the middle of a kernel, such as the handler of a signal, changes none of its results."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

import funcnn
from funcnn import conv, numerics, random
from funcnn.machine import blas, threads
from funcnn.testing import _values, digest
from funcnn.types import Array
from tests import registry

ON_EVERY_SET_OF_KERNELS = True
KINDS = (
    "attention", "avg_pool", "batch_norm", "conv", "conv1d", "conv3d", "conv_transpose", "dense",
    "depthwise_conv", "embedding_bag", "global_max_pool", "group_norm", "gru", "lp_pool", "lstm",
    "max_pool", "max_unpool", "multi_head_attention", "rnn", "separable_conv", "softmax", "upsample",
)  # fmt: skip
CASES = {case.layer.spec.kind: case for case in registry.layers() if case.layer.spec.kind in KINDS}
ROOMS = tuple(str(Path(funcnn.__file__).parent / room) for room in ("_kernels", "numerics", "machine"))


def _interrupted(run: Callable[[], Any], other: Callable[[], Any]) -> Any:
    """The result of `run`, where `other` runs at the first call from each line of these rooms."""
    lines = set()

    def interrupt(frame: Any, event: str, _: Any) -> None:
        line = frame.f_code, frame.f_lineno
        if event.endswith("call") and frame.f_code.co_filename.startswith(ROOMS) and line not in lines:
            lines.add(line)
            other()

    sys.setprofile(interrupt)
    try:
        return run()
    finally:
        sys.setprofile(None)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("mode", [numerics.fast, numerics.portable])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES.values()])
def test_layers_are_not_changed_by_what_interrupts_them(case: registry.Case, mode: Any) -> None:
    assert len(CASES) == len(KINDS)
    subject = registry.subject(case)
    single = (_values.cast(one, np.float32) for one in (subject.params, subject.x))
    params, x = map(_values.frozen, single)
    half = _values.mapped(lambda leaf: leaf / 2 if leaf.dtype.kind == "f" else leaf, x)
    with mode():
        for name in subject.distinct_modes:
            wanted = subject.fresh(name, params, x)._replace(cache=None)
            found = _interrupted(
                lambda: subject.fresh(name, params, x)._replace(cache=None),  # noqa: B023 - runs at once
                lambda: subject.fresh(name, params, half),  # noqa: B023
            )
            assert digest(found) == digest(wanted)


class _Blas:
    """A library of two threads, limited by a `_Limit` of its own."""

    def __init__(self) -> None:
        self.count, self.lines, self.calls = 2, 0, 0

    def threads(self) -> int:
        return self.count

    def set_threads(self, count: int) -> None:
        self.count = count

    def limited(self, used: int, stopped: int) -> set[int]:
        """The counts within, where one line is another user's and Ctrl-C follows one call."""
        seen: set[int] = set()
        self.lines = self.calls = 0

        def see() -> None:
            seen.add(self.count)

        def use(frame: Any, event: str, _: Any) -> Any:
            self.lines += event == "line" and frame.f_code.co_filename == blas.__file__
            if self.lines == used:
                self.lines += 1
                blas.on_one_blas_thread(see)
            return use

        def stop(frame: Any, event: str, _: Any) -> None:
            self.calls += event != "c_call"
            if self.calls == stopped:
                raise KeyboardInterrupt

        try:
            sys.settrace(use)
            sys.setprofile(stop)
            blas.on_one_blas_thread(see)
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
            sys.settrace(None)
        return seen


def test_who_interrupts_the_limit_of_blas_may_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And Ctrl-C, earlier or later, leaves the number of threads as it was."""
    library = _Blas()
    limit = blas._Limit()
    limit.libraries = [blas._Threads(library.threads, library.set_threads)]
    monkeypatch.setattr(blas, "_limit", limit)
    assert library.limited(0, 0) == {1}
    lines, calls = library.lines, library.calls
    assert min(lines, calls) > 15
    for used in range(lines + 1):
        for stopped in range(2 * calls):
            seen = library.limited(used, stopped)
            assert seen <= {1}, (used, stopped)
            assert (library.count, limit.inside) == (2, {}), (used, stopped)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_a_signals_handler_may_use_the_library() -> None:
    layer = conv(8, 3, padding=1)
    _, params = layer.init(random.key(0), (8, 4, 9, 9))

    def applied(x: Array) -> Array:
        return layer.apply(params, x)[0].copy()

    run, other = (
        partial(applied, random.normal(random.key(batch), (batch, 4, 9, 9))) for batch in (8, 7)
    )
    wanted = run()
    before = signal.signal(signal.SIGALRM, lambda *_: other())
    try:
        for i in range(300):
            signal.setitimer(signal.ITIMER_REAL, 2e-5 + i % 97 * 1e-6)
            np.testing.assert_array_equal(run(), wanted)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.threads
def test_helpers_may_be_asked_while_they_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    start, asked = Thread.start, Event()

    def interrupted(self: Thread) -> None:
        monkeypatch.setattr(Thread, "start", start)
        threads.ask_helpers(2, lambda: lambda: None)
        start(self)

    def ask() -> None:
        threads.ask_helpers(2, lambda: lambda: None)
        asked.set()

    waiting = Thread(target=ask, daemon=True)
    monkeypatch.setattr(threads, "_helpers", [])
    monkeypatch.setattr(Thread, "start", interrupted)
    start(waiting)
    assert asked.wait(20)
