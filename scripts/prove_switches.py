"""Run the tests as on other machines, and print a table of settings and results.

    scripts/prove_switches.py                    # what this interpreter can be told to do without
    scripts/prove_switches.py --full             # the oldest and the newest NumPy and Python, too
    scripts/prove_switches.py -- tests/test_numerics.py -k sums

What follows ``--`` goes to pytest; without it everything but the slow proofs is run. A row takes as
long as `scripts/test`. Exit code 1 if a test fails under any setting.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from funcnn.testing import environments

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = "numpy==2.0.0", "numpy"


class Setting(NamedTuple):
    """Variables of the environment, options of pytest, and an interpreter."""

    variables: dict[str, str] = {}  # noqa: RUF012  # nobody changes it
    options: tuple[str, ...] = ()
    python: str = sys.executable
    one_processor: bool = False


def settings() -> dict[str, Setting]:
    """What needs nothing but this interpreter."""
    found = {"nothing set": Setting()}
    found.update((name, Setting(variables)) for name, variables in environments().items())
    if hasattr(os, "sched_setaffinity"):
        found["1 processor"] = Setting(one_processor=True)
    found["without the neighbours"] = Setting(options=("--without-oracles",))
    found["without Numba"] = Setting(options=("--without-compiled",))
    found["no thread can be started"] = Setting(options=("--without-threads", "-n", "0"))
    return found


def installations(folder: Path, pythons: list[str]) -> Iterator[tuple[str, Setting]]:
    """Interpreters with the oldest and the newest NumPy, as far as they can be installed."""
    wanted = [(sys.executable, OLDEST), (sys.executable, NEWEST)]
    wanted += [(python, NEWEST) for python in pythons]
    for number, (python, numpy) in enumerate(wanted):
        place = folder / str(number)
        inside = str(place / "bin" / "python")
        try:
            for command in (
                [python, "-m", "venv", str(place)],
                [inside, "-m", "pip", "install", "--quiet", numpy, f"{ROOT}[test]"],
                [inside, "-m", "pip", "uninstall", "--quiet", "--yes", "funcnn"],
            ):
                subprocess.run(command, check=True, capture_output=True)
        except (subprocess.CalledProcessError, OSError):
            print(f"left out: {numpy} cannot be installed for {python}")
            continue
        code = "import sys, numpy; print(f'Python {sys.version.split()[0]}, NumPy {numpy.__version__}')"
        label = subprocess.run([inside, "-c", code], check=True, capture_output=True, text=True)
        yield label.stdout.strip(), Setting(python=inside)


def _take_one_processor() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def run(setting: Setting, arguments: list[str]) -> tuple[bool, str, float]:
    """Whether the tests pass, pytest's last line, and the seconds."""
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [setting.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, *arguments, *setting.options], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, **single, "PYTHONPATH": str(ROOT), **setting.variables},
        preexec_fn=_take_one_processor if setting.one_processor else None,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    for line in failed[:10]:
        print(line, file=sys.stderr)
    shown = re.sub(r" in [\d.]+s.*", "", lines[-1]) if lines else f"exit code {done.returncode}"
    return done.returncode == 0, shown, time.perf_counter() - began


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the tests as on other machines.")
    parser.add_argument("--full", action="store_true", help="other NumPy and Python versions, too")
    parser.add_argument("--python", nargs="+", default=[], help="interpreters, beside those on PATH")
    parser.add_argument("--only", default="", help="settings whose names contain this")
    parser.add_argument("tests", nargs="*", help="arguments of pytest, after --")
    options = parser.parse_args(arguments)
    tests = options.tests or ["-n", "2"]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        found = settings()
        if options.full or options.python:
            on_path = [shutil.which(f"python3.{minor}") for minor in range(11, 16)]
            pythons = [*options.python, *(python for python in on_path if python and options.full)]
            found.update(installations(Path(folder), pythons))
        print("| setting | result | seconds |\n|---|---|---|")
        for name, setting in found.items():
            if options.only in name:
                passed, shown, seconds = run(setting, tests)
                failed += not passed
                print(f"| {name} | {shown} | {seconds:.0f} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
