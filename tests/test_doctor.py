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
from funcnn.machine import trial
from tests.elsewhere import environment

AS_COMMAND = "import runpy; runpy.run_module('funcnn.doctor', run_name='__main__')"
AS_FUNCTION = (
    "import sys, funcnn; health = funcnn.doctor(); print(health); sys.exit(bool(health.faults))"
)
WRONG_ROOTS = """
import numpy as np
root = np.sqrt
np.sqrt = lambda x: root(x) * x.dtype.type(1 + 2.0**-20 * (x.dtype == np.float32))
"""


def _run(planted: str, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a fresh process says whose machine, or environment, is wrong."""
    command = [sys.executable, "-W", "error", "-c", planted + code]
    return subprocess.run(
        command, env=environment(**variables), capture_output=True, text=True, check=False
    )


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
    done = _run(
        """
from funcnn.machine import trial
trial.faults = lambda: ([], ["float32 products by matmul are wrong"])
""",
        AS_COMMAND,
    )
    assert done.returncode == 1
    assert "arithmetic     float32 products by matmul are wrong\n" in done.stdout
    assert "fast mode      nothing: the products of this BLAS are wrong" in done.stdout
    assert "portable mode  refused" in done.stdout


@pytest.mark.parametrize("ask", [AS_COMMAND, AS_FUNCTION])
def test_it_speaks_where_the_environment_asks_for_a_mode_that_is_refused(ask: str) -> None:
    done = _run(WRONG_ROOTS, ask, FUNCNN_NUMERICS="portable")
    assert done.stderr == ""
    assert done.returncode == 1
    fault = "float32 roots are not rounded correctly"
    assert f"arithmetic     {fault}\n" in done.stdout
    assert "portable mode  refused" in done.stdout
    row = f"mode           none: numerics: portable mode is not possible on this machine: {fault}\n"
    assert row in done.stdout
    refused = _run(WRONG_ROOTS, "import funcnn; funcnn.dense(3)", FUNCNN_NUMERICS="portable")
    assert refused.stderr.endswith(f"portable mode is not possible on this machine: {fault}\n")


@pytest.mark.parametrize("mode", ["portable", "fast", "exact"])
def test_it_says_which_mode_the_environment_chose(mode: str) -> None:
    done = _run("", AS_COMMAND, FUNCNN_NUMERICS=mode)
    assert (done.returncode, done.stderr) == (0, "")
    wrong = "none: numerics: `FUNCNN_NUMERICS` must be one of 'fast', 'portable', got 'exact'"
    assert f"mode           {wrong if mode == 'exact' else mode}" in done.stdout


def test_rounding_matters_to_portable_mode_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "faults", lambda: (["float32 roots are not rounded correctly"], []))
    health = funcnn.doctor()
    assert health.faults == ("float32 roots are not rounded correctly",)
    assert health.promises["portable"].startswith("refused")
    assert health.promises["fast"].startswith("the same bits again")


@pytest.mark.parametrize("error", [RuntimeError, BlockingIOError, MemoryError])
def test_where_blas_is_unknown_and_no_thread_can_be_started(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise error

    monkeypatch.setattr(threadpoolctl, "threadpool_info", list)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    health = funcnn.doctor()
    assert health.machine["BLAS"] == "not known to threadpoolctl"
    assert health.machine["threads"].startswith("none can be started")
    funcnn.show_config()
    assert "none can be started" in capsys.readouterr().out


def test_the_module_does_not_hide_the_function() -> None:
    module: Any = importlib.import_module("funcnn.doctor")
    assert module().machine == funcnn.doctor().machine == module.doctor().machine
