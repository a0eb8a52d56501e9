"""Kernels whose work several threads share: nobody is forgotten, held up or waited for in vain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed", exc_type=ImportError)

from funcnn import numerics
from funcnn.machine import threads
from funcnn.machine.threads import in_team, run_tasks
from funcnn.numerics import handover, jit
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import In, Out
from funcnn.testing import _values, digest
from funcnn.types import Array
from tests import registry
from tests.registry import Case

ROOT = Path(__file__).parent.parent


@divided
def count(times: Out, size: int, low: int, high: int) -> None:
    for i in range(low, high):
        for j in range(i * size, (i + 1) * size):
            times[j] += 1


@divided
def crowd(out: Out, x: In, size: int, low: int, high: int) -> None:
    more = np.empty(size, np.float64)
    for i in range(low, high):
        more[0] = x[i]
        out[i] = more[0] + 1


def counted(parts: int, size: int = 64) -> Array:
    times = np.zeros(parts * size, np.float32)
    count(times, size, 0, parts)
    return times


def test_a_kernel_is_compiled_ahead_in_one_form() -> None:
    assert [one.function.__name__ for one in jit.every].count("crowd") == 1


@pytest.fixture(autouse=True)
def _awake() -> None:
    """Somebody helps."""
    counted(1)
    in_team(2, lambda: counted(8))
    time.sleep(0.002)


@pytest.mark.parametrize("workers", [1, 2, 3, 20])
@pytest.mark.parametrize("parts", [0, 1, 2, 7, 8, 9, 100])
def test_each_part_is_done_once(parts: int, workers: int) -> None:
    for _ in range(200):
        assert (in_team(workers, lambda: counted(parts)) == 1).all()


def test_a_range_need_not_begin_at_0() -> None:
    times = np.zeros(16, np.float32)
    in_team(2, lambda: count(times, 1, 5, 11))
    assert times.tolist() == [0] * 5 + [1] * 6 + [0] * 5


def test_several_threads_may_each_own_a_job() -> None:
    right: list[bool] = []

    def own() -> None:
        right.append(all((in_team(2, lambda: counted(8, 16)) == 1).all() for _ in range(2000)))

    owners = [threading.Thread(target=own) for _ in range(4)]
    for owner in owners:
        owner.start()
    for owner in owners:
        owner.join()
    assert right == [True] * 4


def test_a_helper_who_is_awake_takes_other_jobs() -> None:
    """While somebody hands over one kernel after the other."""
    until = time.monotonic() + 1
    rounds = 0
    while time.monotonic() < until:
        in_team(2, lambda: counted(8, 1))
        assert run_tasks(lambda i: threading.get_ident() and i, 4, 2) == [0, 1, 2, 3]
        rounds += 1
    assert rounds > 20


def test_missing_memory_is_an_error_of_the_caller() -> None:
    x, out = np.zeros(8, np.float32), np.zeros(8, np.float32)
    in_team(2, lambda: crowd(out, x, 8, 0, 8))
    assert (out == 1).all()
    for workers in (1, 2):
        with pytest.raises(MemoryError):
            in_team(workers, lambda: crowd(out, x, 1 << 50, 0, 8))
    assert (in_team(2, lambda: counted(8)) == 1).all()


@pytest.fixture
def _many_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "processors", lambda: 8)


def asleep() -> bool:
    """Whether everybody is, soon."""
    until = time.monotonic() + 10
    while handover._channel.awake and time.monotonic() < until:
        time.sleep(0.001)
    return not handover._channel.awake


@pytest.mark.usefixtures("_many_processors")
def test_helpers_come_and_go_as_they_like() -> None:
    """None is lost, whoever takes turns when."""
    before, errors = sys.getswitchinterval(), list[object]()
    hook, threading.excepthook = threading.excepthook, errors.append

    def own() -> None:
        for i in range(300):
            in_team(3, lambda: counted(8, 1))
            run_tasks(lambda i: i, 4, 3)
            time.sleep(0.0011 if i % 3 == 0 else 0)

    sys.setswitchinterval(1e-6)
    try:
        owners = [threading.Thread(target=own) for _ in range(3)]
        for owner in owners:
            owner.start()
        for owner in owners:
            owner.join()
    finally:
        sys.setswitchinterval(before)
        threading.excepthook = hook
    assert not errors
    assert asleep()
    assert all(helper.is_alive() for helper in threads._helpers)


def someone_wakes() -> bool:
    until = time.monotonic() + 10
    while not handover._channel.awake and time.monotonic() < until:
        in_team(2, lambda: counted(8))
    return bool(handover._channel.awake)


@pytest.mark.usefixtures("_many_processors")
@pytest.mark.parametrize("late", [False, True])
def test_ctrl_c_while_a_helper_is_asked_loses_nobody(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object) -> None:
        if late:  # the helper has come and gone
            handover._channel.listen()
        raise KeyboardInterrupt

    assert asleep()
    with monkeypatch.context() as patch:
        patch.setattr(handover, "ask_helpers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            in_team(2, lambda: counted(8))
    assert not handover._channel.awake
    assert someone_wakes()


@pytest.mark.usefixtures("_many_processors")
def test_as_many_are_awake_as_a_team_has() -> None:
    """Though fewer were before."""
    assert asleep()
    assert someone_wakes()
    until = time.monotonic() + 10
    while len(handover._channel.awake) < 4 and time.monotonic() < until:
        in_team(5, lambda: counted(8))
    assert len(handover._channel.awake) == 4


def test_nobody_looks_without_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asleep()
    monkeypatch.setattr(handover, "processors", lambda: 1)
    for workers in (2, None):
        in_team(workers, lambda: counted(8))
    assert not handover._channel.awake


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_an_interrupt_falls_between_two_kernels() -> None:
    class Alarm(BaseException):
        pass

    def ring(number: int, frame: object) -> None:
        raise Alarm

    times, rung, before = np.zeros(1 << 12, np.float32), 0, signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while rung < 200:
            try:
                in_team(2, lambda: count(times, 1 << 9, 0, 8))
            except Alarm:
                rung += 1
    except Alarm:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung
    assert (times == times[0]).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_helpers_of_its_own() -> None:
    stopped = threading.Event()

    def own() -> None:
        while not stopped.is_set():
            in_team(2, lambda: counted(8))

    owner = threading.Thread(target=own)
    owner.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                right = all((in_team(2, lambda: counted(8)) == 1).all() for _ in range(100))
                os._exit(0 if right else 1)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stopped.set()
        owner.join()


@pytest.mark.slow
@pytest.mark.usefixtures("_many_processors")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [pytest.param(c, id=c.id) for c in registry.compiled_layers()])
def test_any_number_of_threads_gives_the_bits_of_one(
    case: Case, dtype: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each layer, forward and back, though its arrays be small."""
    for one in jit.every:
        if isinstance(one, handover.Divided):
            monkeypatch.setattr(one, "least", 0)
    subject = registry.subject(case)
    params, x = _values.cast((subject.params, subject.x), dtype)
    for mode in subject.distinct_modes:
        with numerics.compiled("require"):
            dout = _values.cast(subject.fresh(mode, params, x).dout, dtype)
            both = partial(subject.fresh, mode, params, x, dout)
            runs = [in_team(workers, both) for workers in (1, *[2, 3] * 4)]
        assert len({digest((run.out, run.dparams, run.dx)) for run in runs}) == 1


ENDING = """
import sys
sys.path.insert(0, {root!r})
from tests.test_handover import counted, in_team
for _ in range(50):
    assert (in_team(2, lambda: counted(8)) == 1).all()
{end}
"""


ASLEEP = "import threading; threading.Event().wait(0.001)"


@pytest.mark.parametrize("end", ["", "raise SystemExit(0)", ASLEEP])
def test_a_process_ends_while_a_helper_is_awake(end: str) -> None:
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", ENDING.format(root=str(ROOT), end=end)], capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
