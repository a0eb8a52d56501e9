"""Measure funcnn side by side with PyTorch, JAX and MyGrad on this machine.

    scripts/bench.py                          # networks and processes, the README's table: 5 minutes
    scripts/bench.py networks --only LSTM     # some
    scripts/bench.py operations scaling       # single layers; cost against batch, width, depth
    scripts/bench.py layers                   # every layer against PyTorch: 5 minutes
    scripts/bench.py portable                 # what portable arithmetic costs
    scripts/bench.py profile                  # where the time of our own steps goes
    scripts/bench.py --json FILE --plot FILE

Each framework, and each of its variants, runs in a process of its own; the processes take turns, a
block of calls each, for some rounds. A ratio compares the blocks of one round, so it holds when the
machine's speed drifts; the median over the rounds is shown, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from benchmarks import cases
from benchmarks.layers import layer_rows
from benchmarks.turns import PEERS, Row, Worker, compare, measure, probe

ROOT = Path(__file__).resolve().parent.parent


def table(title: str, rows: list[Row], unit: float = 1e3, word: str = "ms") -> None:
    """Rows as Markdown: ratios below 1 mean that funcnn is faster, or smaller."""
    peers = [peer for peer in PEERS if any(peer in row["ratios"] for row in rows)]
    both = any("compiled" in row for row in rows)  # NumPy's kernels alone, and those compiled
    ours = "NumPy" if both else "funcnn"
    heads = [title, f"{ours}, {word}", *[f"compiled, {word}"] * both]
    for peer in peers:
        heads += [f"{PEERS[peer]}, {word}", f"{ours} / {PEERS[peer]}"]
        heads += [f"compiled / {PEERS[peer]}"] * both
    print(f"\n| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for row in rows:
        cells = [row["name"], f"{row['funcnn'] * unit:.3g}"]
        cells += [f"{row['compiled'] * unit:.3g}" if "compiled" in row else "-"] * both
        for peer in peers:
            found = row["ratios"].get(peer)
            cells += ["-"] * (2 + both) if found is None else [
                f"{found['seconds'] * unit:.3g}",
                f"**{found['median']:.2f}** ({found['least']:.2f}-{found['most']:.2f})",
                *[f"**{found['compiled']:.2f}**" if "compiled" in found else "-"] * both,
            ]  # fmt: skip
        print("| " + " | ".join(cells) + " |", flush=True)


# --- whole processes --------------------------------------------------------------------------------

_LENET = {
    "funcnn": "from benchmarks import of_funcnn as m",
    "torch": "from benchmarks import of_torch as m",
    "jax": "from benchmarks import of_jax as m",
    "mygrad": "from benchmarks import of_mygrad as m",
}
_IMPORT = {
    "funcnn": (  # names are imported when asked for: these are what LeNet's training needs
        "from funcnn import conv, dense, flatten, max_pool, random, relu, serial, sgd_update, "
        "softmax_cross_entropy, value_and_grad"
    ),
    "torch": "import torch",
    "jax": "import jax",
    "mygrad": "import mygrad",
}


def run_code(code: str) -> tuple[float, str]:
    """Wall time and output of a fresh interpreter, which may keep the bytecode that it compiles."""
    path = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
    surroundings = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**surroundings, "PYTHONPATH": path},
    )  # fmt: skip
    return time.perf_counter() - began, done.stdout


def processes(found: dict[str, dict[str, Any]], rounds: int) -> tuple[list[Row], list[Row]]:
    """Import, start-to-trained, and memory; each run in a new process, taking turns."""
    importing: dict[str, list[float]] = {}
    training: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    whole: dict[str, list[float]] = {}
    for name in found:  # brings files into memory, and leaves our bytecode as pip has left the others'
        run_code(_IMPORT[name])
    for _ in range(rounds):
        for name, about in found.items():
            first = "fast" if name == "funcnn" else about["variants"][-1 if name == "jax" else 0]
            for variant in about["variants"]:
                label = f"{name}: {variant}"
                if variant == first:
                    clock = "time.perf_counter()"
                    code = f"import time; t = {clock}; {_IMPORT[name]}; print({clock} - t)"
                    importing.setdefault(label, []).append(float(run_code(code)[1]))
                code = (
                    f"{_LENET[name]}\nfrom benchmarks.cases import NETWORKS\n"
                    "case = next(c for c in NETWORKS if c.name == 'LeNet, batch 32, step')\n"
                    f"step = m.build(case, {variant!r})\nfor _ in range(200): step()"
                )
                training.setdefault(label, []).append(run_code(code)[0])
                peak, rise = map(float, run_code(_MEMORY.format(
                    load=_LENET[name], variant=variant))[1].split())
                memory.setdefault(label, []).append(rise)
                whole.setdefault(label, []).append(peak)
    seconds = [
        compare("import", importing, 0.12),
        compare("process start to 200 LeNet steps, batch 32", training, 0.4),
    ]
    sizes = [
        compare("memory that LeNet steps at batch 256 add", memory, 1.0),
        compare("peak memory of the process, LeNet, batch 256", whole, 1.0),
    ]
    return seconds, sizes


_MEMORY = """
{load}
from benchmarks.cases import NETWORKS
def status(word):
    for line in open("/proc/self/status"):
        if line.startswith(word):
            return int(line.split()[1]) * 1024
tiny = next(c for c in NETWORKS if c.name == "LeNet, batch 1, step")
case = next(c for c in NETWORKS if c.name == "LeNet, batch 256, step")
warm = m.build(tiny, {variant!r})
warm(), warm()
step = m.build(case, {variant!r})
before = status("VmRSS")
for _ in range(5):
    step()
peak = status("VmHWM")
print(peak, max(peak - before, 1))
"""


# --- the command ------------------------------------------------------------------------------------


def scaling_table(workers: list[Worker], rounds: int, seconds: float) -> list[Row]:
    """How cost grows along each axis: the slope on log-log axes."""
    rows: list[Row] = []
    print("\n| cost against | framework | sizes | ms | slope |\n|---|---|---|---|---|")
    for axis, points in cases.scaling().items():
        taken = [(size, measure(case, workers, rounds, seconds)) for size, case in points]
        for label in taken[0][1]:
            sizes = [size for size, times in taken if label in times]
            cost = [statistics.median(times[label]) for _, times in taken if label in times]
            slope = _slope([math.log(s) for s in sizes], [math.log(c) for c in cost])
            rows.append({"axis": axis, "label": label, "sizes": sizes, "cost": cost, "slope": slope})
            shown = ", ".join(f"{c * 1e3:.2f}" for c in cost)
            listed = ", ".join(map(str, sizes))
            print(f"| {axis} | {label} | {listed} | {shown} | {slope:.2f} |", flush=True)
    return rows


def _slope(x: list[float], y: list[float]) -> float:
    """Least squares."""
    return statistics.linear_regression(x, y).slope


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw the ratios as bars, and the scaling as lines."""
    from matplotlib.figure import Figure

    named = {"networks", "operations", "seconds", "sizes"}
    rows = [row for part, found in results.items() if part in named for row in found]
    rows = [row for row in rows if "torch" in row["ratios"]]
    growth = results.get("scaling", [])
    axes_names = sorted({row["axis"] for row in growth})
    panels = bool(rows) + len(axes_names)
    figure = Figure(figsize=(6 * max(panels, 1), max(4, 0.35 * len(rows) + 1)), layout="constrained")
    axes = list(figure.subplots(1, max(panels, 1), squeeze=False)[0])
    if rows:
        panel = axes.pop(0)
        values = [row["ratios"]["torch"]["median"] for row in rows]
        spread = [
            [v - row["ratios"]["torch"]["least"] for v, row in zip(values, rows, strict=True)],
            [row["ratios"]["torch"]["most"] - v for v, row in zip(values, rows, strict=True)],
        ]
        colours = ["#0072b2" if value <= 1 else "#d55e00" for value in values]
        panel.barh([row["name"] for row in rows], values, xerr=spread, color=colours)
        panel.axvline(1, color="black", linewidth=1)
        panel.invert_yaxis()
        panel.set_xlabel("funcnn / PyTorch's best (below 1: funcnn wins)")
    for panel, axis in zip(axes, axes_names, strict=False):
        for row in growth:
            if row["axis"] == axis:
                milliseconds = [cost * 1e3 for cost in row["cost"]]
                label = f"{row['label']} ({row['slope']:.2f})"
                panel.loglog(row["sizes"], milliseconds, "o-", label=label)
        panel.set_xlabel(axis)
        panel.set_ylabel("ms a step")
        panel.legend(fontsize="small")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure funcnn side by side with its peers.")
    parts = ["networks", "processes", "operations", "scaling", "layers", "portable", "profile"]
    parser.add_argument("parts", nargs="*", help=f"what to measure: {', '.join(parts)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.2, help="of a block of calls")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args()
    chosen = options.parts or ["networks", "processes"]
    if unknown := [part for part in chosen if part not in parts]:
        parser.error(f"unknown part {unknown[0]}: choose from {', '.join(parts)}")

    found = {}
    for framework, name in PEERS.items():
        about = probe(framework)
        print(f"{name}: {about['version'] if about else 'missing: it is left out'}")
        if about:
            found[framework] = about
    print(f"{len(os.sched_getaffinity(0))} processors, Python {sys.version.split()[0]}")

    results: dict[str, Any] = {"versions": {name: about["version"] for name, about in found.items()}}
    workers = []
    if not {"networks", "operations", "scaling"}.isdisjoint(chosen):  # idle ones would disturb others
        workers = [Worker(name, one) for name, about in found.items() for one in about["variants"]]
    try:
        for part, listed in (("networks", cases.NETWORKS), ("operations", cases.operations())):
            if part in chosen:
                kept = [case for case in listed if options.only in case.name]
                taken = [measure(c, workers, options.rounds, options.seconds) for c in kept]
                results[part] = [
                    compare(case.name, times, case.most)
                    for case, times in zip(kept, taken, strict=True)
                ]
                table(part, results[part])
        if "scaling" in chosen:
            results["scaling"] = scaling_table(workers, options.rounds, options.seconds)
    finally:
        for worker in workers:
            worker.close()
    if "processes" in chosen:
        results["seconds"], results["sizes"] = processes(found, max(3, options.rounds // 2))
        table("whole processes", results["seconds"], 1, "s")
        table("memory", results["sizes"], 1 / 2**20, "MiB")
    if "portable" in chosen:
        results["portable"] = portable_table(
            found, options.rounds, options.seconds, options.only
        )
    if "profile" in chosen:
        results["profile"] = profile_table(options.rounds * options.seconds, options.only)
    if "layers" in chosen:
        results["layers"] = layer_rows(options.rounds, options.seconds, options.only)
        table("layers, forward and backward, batch 32", results["layers"])
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    if options.plot:
        plot(results, options.plot)


def portable_table(
    found: dict[str, dict[str, Any]], rounds: int, seconds: float, only: str
) -> list[Row]:
    """Steps in portable mode, of NumPy's kernels and of those compiled: against the same kernels' steps
    in fast mode in processor time, and compiled against PyTorch's best in elapsed time."""
    ours = ["fast", "portable"]
    if "compiled" in found["funcnn"]["variants"]:
        ours += ["compiled", "portable, compiled"]
    team = [Worker("funcnn", variant) for variant in ours]
    peers = [Worker("torch", variant) for variant in found.get("torch", {}).get("variants", ())]
    heads = ["portable", "NumPy, fast, ms", "NumPy, portable, ms", "NumPy, portable / fast"]
    heads += ["compiled, fast, ms", "compiled, portable, ms", "compiled, portable / fast"]
    heads += ["compiled, portable / PyTorch"]
    print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    rows: list[Row] = []
    try:
        for case in cases.NETWORKS:
            if case.work in {"step", "model"} and only in case.name:
                times = measure(case, team, rounds, seconds, "processor")
                rows.append({"name": case.name})
                cells = []
                for fast, portable in zip(ours[::2], ours[1::2], strict=True):
                    pair = times[f"funcnn: {fast}"], times[f"funcnn: {portable}"]
                    cells += [_median(rows[-1], fast, pair[0]), _median(rows[-1], portable, pair[1])]
                    cells += [_ratio(rows[-1], f"{portable} / {fast}", pair[1], pair[0])]
                if len(ours) > 2 and peers:
                    turns = measure(case, [team[3], *peers], rounds, seconds)
                    mine = turns.pop("funcnn: portable, compiled")
                    best = min(turns.values(), key=statistics.median)
                    cells += [_ratio(rows[-1], "portable, compiled / torch", mine, best)]
                cells += ["-"] * (len(heads) - 1 - len(cells))
                print(f"| {case.name} | {' | '.join(cells)} |", flush=True)
    finally:
        for worker in team + peers:
            worker.close()
    return rows


def _median(row: Row, name: str, times: list[float]) -> str:
    row[name] = statistics.median(times)
    return f"{row[name] * 1e3:.3g}"


def _ratio(row: Row, name: str, times: list[float], others: list[float]) -> str:
    """The median of each round's own."""
    ratios = [one / other for one, other in zip(times, others, strict=True)]
    row[name] = statistics.median(ratios)
    return f"**{row[name]:.2f}** ({min(ratios):.2f}-{max(ratios):.2f})"


def profile_table(seconds: float, only: str) -> list[Row]:
    """Where the time of our own steps goes, on one thread."""
    from benchmarks.profile import PARTS, profile_row, rate, torch_rate

    print("\n| profile of NumPy's kernels, one thread | ms | " + " | ".join(PARTS) + " | products at |")
    print("|---" * (3 + len(PARTS)) + "|")
    rows: list[Row] = []
    for case in cases.NETWORKS:
        if case.work in {"step", "model"} and only in case.name:
            rows.append(profile_row(case, seconds))
            shares = " | ".join(f"{rows[-1][part]:.0%}" for part in PARTS)
            print(f"| {case.name} | {rows[-1]['seconds'] * 1e3:.3g} | {shares} | "
                  f"{rows[-1]['gflops']:.0f} GFLOP/s |", flush=True)
    print(f"\n(512, 512) @ (512, 512), one thread: {rate(512):.0f} GFLOP/s", end="")
    theirs = torch_rate(512)
    print(f", PyTorch's {theirs:.0f}" if theirs else "")
    return rows


if __name__ == "__main__":
    main()
