"""What `funcnn.doctor` says of this machine, and of one that is wrong."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from typing import Any

import pytest
import threadpoolctl

import funcnn
from funcnn import numerics
from tests.elsewhere import environment


def test_this_machine() -> None:
    health = funcnn.doctor()
    assert health.faults == ()
    assert health.machine["byte order"] == sys.byteorder
    assert health.promises["portable"].startswith("the same bits as on any other machine")
    assert health.promises["fast"].startswith("the same bits again on this machine")
    lines = repr(health).splitlines()
    assert len(lines) == len(health.machine) + 3
    assert all(len(line) < 300 for line in lines)


def test_it_is_printed_and_the_exit_code_says_whether_all_is_well() -> None:
    command = [sys.executable, "-W", "error", "-m", "funcnn.doctor"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "arithmetic     right\n" in done.stdout
    code = """
import runpy, sys
from funcnn import numerics
numerics.faults = lambda: ([], ["float32 products by matmul are wrong"])
runpy.run_module("funcnn.doctor", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "arithmetic     float32 products by matmul are wrong\n" in done.stdout
    assert "fast mode      nothing: the products of this BLAS are wrong" in done.stdout
    assert "portable mode  refused" in done.stdout


def test_rounding_matters_to_portable_mode_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "faults", lambda: (["float32 roots are not rounded correctly"], []))
    health = funcnn.doctor()
    assert health.faults == ("float32 roots are not rounded correctly",)
    assert health.promises["portable"].startswith("refused")
    assert health.promises["fast"].startswith("the same bits again")


def test_where_blas_is_unknown_and_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threadpoolctl, "threadpool_info", list)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    health = funcnn.doctor()
    assert health.machine["BLAS"] == "not known to threadpoolctl"
    assert health.machine["threads"].startswith("none can be started")


def test_the_module_does_not_hide_the_function() -> None:
    module: Any = importlib.import_module("funcnn.doctor")
    assert module().machine == funcnn.doctor().machine == module.doctor().machine
