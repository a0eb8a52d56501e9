"""What ranks cost and bring: the exchange of gradients, whole steps, and a model of more ranks.

    scripts/cost_of_ranks.py                                   # 2 ranks, and 4
    scripts/cost_of_ranks.py --latency 2e-6 --bandwidth 10e9   # a model of a network of these figures

The exchange is timed beside MPI's own ``Allreduce``, in turns, in the same run; times are medians. On a
machine that is busy, or has fewer processors than ranks, they say little: ranks wait by turning round.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from benchmarks.cases import NETWORKS, arrays
from benchmarks.of_funcnn import network
from prove_ranks import mpiexec

from funcnn import distributed, random, sgd_update, softmax_cross_entropy, tree, value_and_grad
from funcnn.machine.memory import keep_freed_memory

SIZES = (1_000, 60_000, 1_000_000, 10_000_000)  # parameters
STEPS = ("LeNet, batch 256, step", "3x3 stack, 16x16, batch 32, step")
RUNS, ADDING = 15, 4e9  # numbers that one core adds in a second, November 2026, out of memory


def timed(engine: distributed.Engine, *works: Callable[[], Any]) -> list[float]:
    """The median seconds of each, in turns, from one moment on all ranks to the end on the last."""
    seconds: list[list[float]] = [[] for _ in works]
    for turn in range(RUNS + 2):
        for work, times in zip(works, seconds, strict=True):
            engine.comm.Barrier()
            began = time.perf_counter()
            work()
            engine.comm.Barrier()
            if turn > 1:
                times.append(time.perf_counter() - began)
    return [median(times) for times in seconds]


def on_ranks() -> None:
    """Measure, and print on rank 0."""
    engine = distributed.mpi()
    keep_freed_memory()  # as a training does
    found: dict[str, Any] = {"exchange": {}, "step": {}}
    for size in SIZES:
        grads = {"weight": np.ones(size, np.float32)}
        total = np.empty(size, np.float32)

        def ours(grads: Any = grads) -> Any:
            return engine.added(lambda: [grads])

        def theirs(grads: Any = grads, total: Any = total) -> None:
            engine.comm.Allreduce(grads["weight"], total)

        if engine.ranks > 1:
            found["exchange"][size] = timed(engine, ours, theirs)
    for case in (case for case in NETWORKS if case.name in STEPS):
        net, (x, labels) = network(case), arrays(case)
        _, params = net.init(random.key(0), case.shape)
        gradients = value_and_grad(net, softmax_cross_entropy(), workers=1, engine=engine)

        def step(gradients: Any = gradients, params: Any = params, x: Any = x, y: Any = labels) -> None:
            sgd_update(params, gradients(params, x, y)[1], lr=0.01)

        found["step"][case.name] = (*timed(engine, step), tree.count(params))
    if engine.rank == 0:
        print(json.dumps(found))


def modelled(ranks: int, size: int, latency: float, bandwidth: float) -> tuple[float, float]:
    """Seconds of our exchange and of a ring all-reduce, of so many float32, with one shard a rank."""
    sent = 2 * 4 * size * (ranks - 1) / ranks / bandwidth
    words = int(np.ceil(np.log2(ranks)))  # all ranks hear whether all is well
    adding = size * (ranks - 1) / ranks / ADDING
    return (2 * (ranks - 1) + words) * latency + sent + adding, 2 * (
        ranks - 1
    ) * latency + sent + adding


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--latency", type=float, default=2e-6, help="seconds of a message")
    parser.add_argument("--bandwidth", type=float, default=10e9, help="bytes in a second")
    parser.add_argument("--on-ranks", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.on_ranks:
        on_ranks()
        return 0
    runs = {ranks: mpiexec(ranks, __file__, "--on-ranks") for ranks in sorted({1, *args.ranks})}
    found = {ranks: json.loads(run.stdout) for ranks, run in runs.items()}
    print(f"{'parameters':>12}{'ranks':>8}{'exchange':>12}{'Allreduce':>12}")
    for ranks in args.ranks:
        for size, (ours, theirs) in found[ranks]["exchange"].items():
            print(f"{int(size):>12,}{ranks:>8}{ours * 1e3:>9.2f} ms{theirs * 1e3:>9.2f} ms")
    for name, (alone, size) in found[1]["step"].items():
        print(f"\n{name}, {size:,} parameters: {alone * 1e3:.2f} ms on one rank")
        for ranks in args.ranks:
            seconds = found[ranks]["step"][name][0]
            print(f"  {ranks} ranks: {seconds * 1e3:.2f} ms, {alone / seconds:.2f} times as fast")
        for ranks in (8, 64, 512):  # as many examples for each rank, and the same examples shared out
            ours, theirs = modelled(ranks, size, args.latency, args.bandwidth)
            weak, strong = alone / (alone + ours), alone / ranks / (alone / ranks + ours)
            print(
                f"  {ranks:>3} ranks, modelled: {ours * 1e3:.2f} ms, Allreduce {theirs * 1e3:.2f} ms; "
                f"{weak:.0%} of full speed with one batch a rank, {strong:.0%} with one in all"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
