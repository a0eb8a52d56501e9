"""What ranks cost and bring: the exchange of gradients, whole steps, and a model of more ranks.

    scripts/cost_of_ranks.py                                   # 2 ranks
    scripts/cost_of_ranks.py --least 1.7                       # exit code 1 if 2 ranks bring less
    scripts/cost_of_ranks.py --latency 2e-6 --bandwidth 10e9   # a model of a network of these figures

The exchange is timed beside MPI's own ``Allreduce``, in turns, in the same run; times are medians. The
model is fitted to them: so much for each message that a rank waits for, one behind the other, and so
much for each byte that it sends, adds and gets. On a machine that is busy, or has fewer processors than
ranks, they say little: ranks wait by turning round.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from benchmarks.cases import NETWORKS, arrays
from benchmarks.of_funcnn import network
from prove_ranks import mpiexec

from funcnn import distributed, random, sgd_update, softmax_cross_entropy, tree, value_and_grad
from funcnn.machine.memory import keep_freed_memory

SIZES = (1_000, 60_000, 1_000_000, 10_000_000)  # parameters
TWO_RANKS = ("LeNet, batch 256, step", "3x3 stack, 16x16, batch 32, step")  # which `--least` is about
STEPS = (*TWO_RANKS, "MLP 784-512-512-10, batch 128, step")  # one that has many parameters
RUNS, BACKWARD = 15, 2 / 3  # the part of a step in which gradients come, about


class Network(NamedTuple):
    """What a message costs, in seconds, and how many bytes go in a second."""

    latency: float
    bandwidth: float

    def seconds(self, messages: int, sent: float) -> float:
        """Of messages one behind the other, with so many bytes in all."""
        return self.latency * messages + sent / self.bandwidth


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
        shards = engine.ranks if engine.ranks > 1 else None
        gradients = value_and_grad(
            net, softmax_cross_entropy(), workers=1, shards=shards, engine=engine
        )

        def step(gradients: Any = gradients, params: Any = params, x: Any = x, y: Any = labels) -> None:
            sgd_update(params, gradients(params, x, y)[1], lr=0.01)

        found["step"][case.name] = (*timed(engine, step), tree.count(params))
    if engine.rank == 0:
        print(json.dumps(found))


def sent(ranks: int, size: int) -> float:
    """The bytes that a rank with one shard sends in an exchange of so many float32, and gets."""
    return 2 * 4 * size * (ranks - 1) / ranks


def ours(ranks: int) -> int:
    """A slice to each rank and one from each; before, all hear, in two rounds, whether all is well."""
    return 2 * (ranks - 1) + theirs(ranks)


def theirs(ranks: int) -> int:
    """All-reduce by halves, there and back."""
    return 2 * math.ceil(math.log2(ranks))


def fitted(messages: Callable[[int], int], rows: list[tuple[int, int, float]]) -> Network:
    """The network for which the errors, in parts of the measured times, are least."""
    known = np.array([[messages(ranks), sent(ranks, size)] for ranks, size, _ in rows])
    seconds = np.array([seconds for *_, seconds in rows])
    latency, per_byte = np.linalg.lstsq(known / seconds[:, None], np.ones(len(rows)), None)[0]
    return Network(max(float(latency), 1e-9), 1 / max(float(per_byte), 1e-15))


def show_model(name: str, alone: float, size: int, mine: Network, other: Network) -> None:
    """Steps on more ranks, and where more of them bring nothing."""

    def ours_(ranks: int) -> float:
        return mine.seconds(ours(ranks), sent(ranks, size))

    for ranks in (8, 64, 512):  # as many examples for each rank, and the same examples shared out
        cost, all_reduce = ours_(ranks), other.seconds(theirs(ranks), sent(ranks, size))
        weak, strong = alone / (alone + cost), alone / ranks / (alone / ranks + cost)
        hidden = min(cost, BACKWARD * alone) / (alone + cost)
        print(
            f"  {ranks:>3} ranks, modelled: {cost * 1e3:.2f} ms, Allreduce {all_reduce * 1e3:.2f} ms; "
            f"{weak:.0%} of full speed with one batch a rank, {strong:.0%} with one in all; "
            f"{hidden:.0%} of a step could be hidden at best"
        )
    powers = [2**k for k in range(1, 21)]
    half = max([ranks for ranks in powers if ours_(ranks) <= alone], default=1)
    best = min([1, *powers], key=lambda ranks: alone / ranks + (ours_(ranks) if ranks > 1 else 0))
    print(f"  {name}: half of full speed up to {half} ranks; one batch in all is fastest on {best}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2])
    parser.add_argument("--latency", type=float, help="seconds of a message, not those fitted")
    parser.add_argument("--bandwidth", type=float, help="bytes in a second, not those fitted")
    parser.add_argument("--least", type=float, default=0.0, help="how much faster 2 ranks must be")
    parser.add_argument("--on-ranks", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.on_ranks:
        on_ranks()
        return 0
    runs = {ranks: mpiexec(ranks, __file__, "--on-ranks") for ranks in sorted({1, *args.ranks})}
    found = {ranks: json.loads(run.stdout) for ranks, run in runs.items()}
    print(f"{'parameters':>12}{'ranks':>8}{'exchange':>12}{'Allreduce':>12}")
    rows: list[tuple[int, int, tuple[float, float]]] = []
    for ranks in args.ranks:
        for size, times in found[ranks]["exchange"].items():
            rows.append((ranks, int(size), times))
            print(f"{int(size):>12,}{ranks:>8}{times[0] * 1e3:>9.2f} ms{times[1] * 1e3:>9.2f} ms")
    networks = []
    for i, (what, messages) in enumerate((("exchange", ours), ("Allreduce", theirs))):
        fit = fitted(messages, [(ranks, size, times[i]) for ranks, size, times in rows])
        print(f"{what}: {fit.latency * 1e6:.1f} µs a message, {fit.bandwidth / 1e9:.2f} GB/s")
        networks.append(
            Network(args.latency or fit.latency, args.bandwidth or fit.bandwidth),
        )
    slow = []
    for name, (alone, size) in found[1]["step"].items():
        print(f"\n{name}, {size:,} parameters: {alone * 1e3:.2f} ms on one rank")
        for ranks in args.ranks:
            seconds = found[ranks]["step"][name][0]
            print(f"  {ranks} ranks: {seconds * 1e3:.2f} ms, {alone / seconds:.2f} times as fast")
            if ranks == 2 and name in TWO_RANKS and alone < args.least * seconds:
                slow.append(name)
        show_model(name.partition(",")[0], alone, size, *networks)
    if slow:
        print(f"\nless than {args.least} times as fast on 2 ranks: {'; '.join(slow)}")
    return bool(slow)


if __name__ == "__main__":
    sys.exit(main())
