"""Worker processes, the turns that they take, and the ratios between them."""

from __future__ import annotations

import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.cases import Case

PEERS = {"funcnn": "funcnn", "torch": "PyTorch", "jax": "JAX", "mygrad": "MyGrad"}
SCRIPTS = Path(__file__).resolve().parent.parent
Row = dict[str, Any]


# --- workers ----------------------------------------------------------------------------------------


def serve(framework: str, variant: str) -> None:
    """A worker: builds what it is told to, times blocks of calls, until its input ends."""
    module = importlib.import_module(f"benchmarks.of_{framework}")
    work = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if "case" in order:
                work = module.build(Case(*_tuples(order["case"])), variant)
                work(), work()
            else:
                assert work is not None
                answer["seconds"], answer["processor"] = _block(work, order["seconds"])
        except Exception as problem:
            answer["error"] = f"{type(problem).__name__}: {problem}"
        print(json.dumps(answer), flush=True)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _block(work: Any, seconds: float) -> tuple[float, float]:
    """The median time of a call, over a block of calls: elapsed, and of all its processors."""
    times: list[float] = []
    busy: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        began, spent = time.perf_counter(), time.process_time()
        work()
        times.append(time.perf_counter() - began)
        busy.append(time.process_time() - spent)
    return statistics.median(times), statistics.median(busy)


class Worker:
    """One framework's process."""

    def __init__(self, framework: str, variant: str) -> None:
        self.framework, self.variant = framework, variant
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.turns", framework, variant],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPTS), *sys.path])},
        )  # fmt: skip

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def probe(framework: str) -> dict[str, Any] | None:
    """Version and variants of a framework, asked in a process of its own; None where missing."""
    code = (
        f"import sys, json; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        f"import benchmarks.of_{framework} as m\n"
        "print(json.dumps({'version': m.version(), 'variants': m.variants()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- taking turns -----------------------------------------------------------------------------------


def measure(
    case: Case, workers: list[Worker], rounds: int, seconds: float, clock: str = "seconds"
) -> dict[str, list[float]]:
    """Seconds a call for each worker, round by round; workers that cannot do it are left out.

    The clock may be ``"processor"``: what other processes do then shows less.
    """
    order = {"case": case._replace(most=None)}
    able = [w for w in workers if "error" not in w.ask(order)]
    times: dict[str, list[float]] = {f"{w.framework}: {w.variant}": [] for w in able}
    for _ in range(rounds):
        for worker in able:
            answer = worker.ask({"seconds": seconds})
            times[f"{worker.framework}: {worker.variant}"].append(answer.get(clock, math.nan))
    return times


def compare(name: str, times: dict[str, list[float]], most: float | None = None) -> Row:
    """A row: our time, and the ratio to each peer's fastest variant; compiled, too, if measured."""
    ours, compiled = times["funcnn: fast"], times.get("funcnn: compiled")
    row: Row = {"name": name, "most": most, "funcnn": statistics.median(ours), "ratios": {}}
    if compiled is not None:
        row["compiled"] = statistics.median(compiled)
    for framework in PEERS:
        variants = {key: t for key, t in times.items() if key.split(":")[0] == framework}
        if framework == "funcnn" or not variants:
            continue
        best = min(variants, key=lambda key: statistics.median(variants[key]))
        ratios = [a / b for a, b in zip(ours, variants[best], strict=True)]
        row["ratios"][framework] = {
            "median": statistics.median(ratios),
            "least": min(ratios),
            "most": max(ratios),
            "seconds": statistics.median(variants[best]),
            "variant": best.split(": ", 1)[1],
        }
        if compiled is not None:
            ratios = [a / b for a, b in zip(compiled, variants[best], strict=True)]
            row["ratios"][framework]["compiled"] = statistics.median(ratios)
    return row


if __name__ == "__main__":
    serve(*sys.argv[1:])
