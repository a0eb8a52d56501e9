"""Threads: one pool, none where none can be had; and Ctrl-C, which changes nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    conv,
    dense,
    flatten,
    mean_squared_error,
    predict,
    random,
    relu,
    serial,
    softmax_cross_entropy,
    value_and_grad,
)
from funcnn.machine import threads
from funcnn.machine.threads import run_tasks
from funcnn.testing import check_layer, check_loss
from funcnn.testing._laws import at_once
from tests.elsewhere import environment


@pytest.fixture
def no_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has started none yet."""
    monkeypatch.setattr(threads, "_helpers", [])
    monkeypatch.setattr(threads, "_jobs", type(threads._jobs)())


def started() -> int:
    return sum(thread.name == "funcnn" for thread in threading.enumerate())


@pytest.mark.threads
@pytest.mark.usefixtures("no_helpers")
def test_there_is_one_pool_as_large_as_was_asked_for_at_most() -> None:
    before = started()
    for workers in (2, 5, 3, 64, 17, 5):
        for count in (1, 2, 7, 40):
            assert run_tasks(lambda i: i, count, workers) == list(range(count))
            assert started() - before == len(threads._helpers) <= 39
    assert len(threads._helpers) == 39  # 64 workers for 40 tasks: this thread and 39 others
    net = dense(2)
    _, params = net.init(random.key(0), (1, 3))
    for length in range(1, 4001, 333):
        predict(net, params, np.ones((length, 3), np.float32), workers=64)
    assert started() - before == len(threads._helpers)


@pytest.mark.usefixtures("no_helpers")
def test_users_in_several_threads_share_the_pool() -> None:
    before = started()
    users = [threading.Thread(target=run_tasks, args=(float, 8, 4)) for _ in range(20)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert started() - before == len(threads._helpers) == 3


def _trained(workers: int | None) -> Any:
    net = serial(conv(2, 3), relu(), flatten(), dense(3))
    x, y = random.normal(random.key(1), (64, 1, 9, 9)), np.arange(64) % 3
    step = value_and_grad(net, softmax_cross_entropy(), workers=workers)
    return step(net.init(random.key(0), x.shape)[1], x, y)


_NO_MORE = [
    RuntimeError("can't start new thread"),
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    MemoryError(),
]


@pytest.mark.threads
@pytest.mark.usefixtures("no_helpers")
@pytest.mark.parametrize("error", _NO_MORE, ids=repr)
@pytest.mark.parametrize("possible", [0, 1, 3])
def test_where_threads_cannot_be_started_there_are_fewer(
    possible: int, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("funcnn.training.gradients._SMALL", 50)
    expected = _trained(1)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if len(threads._helpers) >= possible:
            raise error
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for workers in (8, 16, 8, None, 4, 2, 1):
        value, grads = _trained(workers)
        assert value == expected[0]
        np.testing.assert_array_equal(grads["dense1"]["weight"], expected[1]["dense1"]["weight"])
        assert len(threads._helpers) == possible
    assert not threads._jobs.qsize() or possible


@pytest.mark.threads
@pytest.mark.parametrize("error", _NO_MORE, ids=repr)
@pytest.mark.parametrize("possible", [0, 1, 2])
def test_laws_hold_where_threads_cannot_be_started(
    possible: int, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a thread that has begun alone does not wait for ever for the other one."""
    start, started = threading.Thread.start, 0

    def refuse(thread: threading.Thread) -> None:
        nonlocal started
        if started >= possible:
            raise error
        started += 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert at_once([lambda: 1, lambda: 2]) == ([1, 2] if possible == 2 else [])
    check_layer(dense(2), (3, 4))
    check_loss(mean_squared_error(), np.ones((3, 2)), np.zeros((3, 2)))


def test_a_late_helper_finds_nothing_to_do() -> None:
    """While all helpers are held up, calls go on without them."""
    held = threading.Event()
    blocked = threading.Thread(target=run_tasks, args=(lambda i: held.wait(30), 2, 2))
    blocked.start()
    try:
        for _ in range(50):
            assert run_tasks(lambda i: i, 4, 2) == [0, 1, 2, 3]
    finally:
        held.set()
        blocked.join()


@pytest.mark.threads
@pytest.mark.parametrize("where", ["task", "helper"])
def test_ctrl_c_comes_before_other_errors(where: str) -> None:
    meeting = threading.Barrier(2, timeout=10)

    def task(i: int) -> None:
        meeting.wait()
        main = threading.current_thread() is threading.main_thread()
        if main == (where == "task"):
            raise KeyboardInterrupt
        raise ValueError

    with pytest.raises(KeyboardInterrupt):
        run_tasks(task, 2, 2)


# --- Ctrl-C ---------------------------------------------------------------------------------------

INTERRUPTED = """
import faulthandler, os, random as chance, signal, sys, threading, time
import numpy as np
import funcnn, funcnn.training.gradients
from funcnn import numerics, random
from funcnn.machine import blas, threads
from funcnn.testing import digest
from threadpoolctl import threadpool_info
from threading import get_ident

calls, kind = int(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
faulthandler.dump_traceback_later(60 + calls // 5, exit=True)
funcnn.training.gradients._SMALL = 50  # so that small batches are shared out
net = funcnn.serial(funcnn.conv(2, 3), funcnn.relu(), funcnn.flatten(), funcnn.dense(3))
x, y = random.normal(random.key(1), (96, 1, 9, 9)), np.arange(96) % 3
_, params = net.init(random.key(0), x.shape)
coupled = funcnn.serial(funcnn.dense(16), funcnn.batch_norm(), funcnn.dense(3))
rows = x.reshape(96, -1)
_, weights = coupled.init(random.key(0), rows.shape)
loss = funcnn.softmax_cross_entropy()
step = funcnn.value_and_grad(net, loss, workers=3)
single = funcnn.value_and_grad(coupled, loss, workers=3)

def fit():
    train = funcnn.data.Dataset(x, y)
    return funcnn.fit(net, loss, funcnn.adam(0.1), train, key=random.key(1), epochs=1, batch_size=48,
                      mode="portable", progress=False, workers=3).params

work = {
    "steps": lambda: step(params, x, y),
    "one shard": lambda: single(weights, rows, y),
    "predictions": lambda: funcnn.predict(net, params, np.concatenate([x] * 30), workers=3),
    "fits": fit,
}[kind]

def state():
    limits = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    helpers = sum(thread.name == "funcnn" for thread in threading.enumerate())
    own = threads._team.get(), numerics.mode(), np.geterr()["over"], np.geterr()["invalid"]
    return limits, helpers, own, len(blas._limit.inside), signal.getsignal(signal.SIGINT)

expected = digest(work())
before = state()
began = time.perf_counter()
work()
length = time.perf_counter() - began
main, go = get_ident(), threading.Semaphore(0)

def disturb():
    while go.acquire():
        time.sleep(chance.random() * 2 * length)
        signal.pthread_kill(main, signal.SIGINT)

threading.Thread(target=disturb, daemon=True).start()
for call in range(calls):
    try:
        go.release()
        while True:
            work()
    except KeyboardInterrupt:
        pass
    assert state() == before, (call, state(), before)
    if call % 10 == 0:
        assert digest(work()) == expected, call
assert digest(work()) == expected
print("as before")
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals cannot be aimed here")
@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        ("steps", 100),
        ("one shard", 100),
        ("predictions", 50),
        ("fits", 20),
        pytest.param("steps", 2000, marks=pytest.mark.slow),
        pytest.param("one shard", 2000, marks=pytest.mark.slow),
        pytest.param("predictions", 1000, marks=pytest.mark.slow),
        pytest.param("fits", 1000, marks=pytest.mark.slow),
    ],
)
def test_interrupts_at_random_moments_leave_nothing_changed(kind: str, calls: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(calls), kind],
        env=environment(OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "as before\n", done.stderr[-3000:]


@pytest.mark.threads
def test_what_has_begun_is_waited_for_after_ctrl_c() -> None:
    running: list[int] = []
    begun = threading.Event()

    def task(i: int) -> None:
        if threading.current_thread() is threading.main_thread():
            begun.wait(10)
            raise KeyboardInterrupt
        running.append(i)
        begun.set()
        time.sleep(0.05)
        running.remove(i)

    with pytest.raises(KeyboardInterrupt):
        run_tasks(task, 2, 2)
    assert running == []


@pytest.mark.parametrize(
    ("text", "count"), [("max 100000\n", 4), ("250000 100000\n", 2), ("50000 100000\n", 1), ("", 4)]
)
def test_a_container_may_have_fewer_processors(
    text: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    monkeypatch.setattr(threads, "_QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert threads.processors.__wrapped__() == count
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "none")
    assert threads.processors.__wrapped__() == 4
