"""Train small networks on several numbers of MPI ranks and of threads, and print a table of digests.

    scripts/prove_ranks.py                                  # 1, 2, 3, 4 and 8 ranks, 1 and 2 threads
    scripts/prove_ranks.py --ranks 1 2 --workers 1 --nets cnn --modes fast

Each network must have one digest in each mode. Exit code 1 if one has several. ``mpiexec`` is the one
beside this Python, or else that of the path. Ranks beyond the number of processors wait for each
other: eight on two take some minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from funcnn import (
    Layer,
    adam,
    batch_norm,
    conv,
    data,
    dense,
    distributed,
    dropout,
    fit,
    flatten,
    max_pool,
    random,
    relu,
    serial,
    softmax_cross_entropy,
)
from funcnn.models import char_rnn, transformer_lm
from funcnn.testing import digest

ROOT = Path(__file__).resolve().parent.parent
SHARDS, BATCH, MODES = 8, 20, ["fast", "portable"]


class Case(NamedTuple):
    """A network, and what it learns."""

    net: Callable[[], Layer[Any, Any]]
    train: Callable[[], data.Dataset]


def images() -> data.Dataset:
    return data.digits().take(slice(40))


def texts() -> data.Dataset:
    letters = random.randint(random.key(1), (40, 9), 0, 11)
    return data.Dataset(letters[:, :-1], letters[:, 1:])


CASES = {
    "cnn": Case(
        lambda: serial(conv(4, 3), relu(), max_pool(2), flatten(), dropout(0.2), dense(10)), images
    ),
    "lstm": Case(lambda: char_rnn(11, hidden=8, features=4, rate=0.1), texts),
    "transformer": Case(lambda: transformer_lm(11, 8, features=8, heads=2, depth=1, rate=0.1), texts),
    "batch norm": Case(
        lambda: serial(conv(4, 3), batch_norm(), relu(), flatten(), dropout(0.3), dense(10)),
        images,
    ),
}  # fmt: skip


def train(
    name: str, mode: Any, workers: int | None, engine: distributed.Engine | None, **options: Any
) -> str:
    """The digest of what a training leaves: of two epochs, if nothing else is said."""
    case, dataset = CASES[name], CASES[name].train()
    usual: dict[str, Any] = {
        "optimizer": adam(0.01), "train": dataset, "key": random.key(7), "epochs": 2,
        "batch_size": BATCH, "validation": dataset, "shards": SHARDS, "progress": False,
    }  # fmt: skip
    result = fit(
        case.net(), softmax_cross_entropy(), mode=mode, workers=workers, engine=engine,
        **{**usual, **options},
    )  # fmt: skip
    return digest({"params": result.params, "history": result.history})


def on_ranks(modes: Sequence[str], workers: Sequence[int], nets: Sequence[str]) -> None:
    """What one rank does: train all, and say on rank 0 what the digests are."""
    engine = distributed.mpi()
    for mode in modes:
        for name in nets:
            for count in workers:
                mine = train(name, mode, count, engine)
                found = set(engine.comm.allgather(mine))
                if engine.rank == 0:
                    print(mode, count, " ".join(sorted(found)), name, sep="\t", flush=True)


def started(ranks: int, *command: str) -> subprocess.Popen[str]:
    """A program that has been started on so many ranks."""
    beside = Path(sys.executable).parent / "mpiexec"
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None:
        raise FileNotFoundError('mpiexec is needed: pip install "funcnn[mpi]" mpich')
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    open_mpi = {
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }  # fmt: skip
    return subprocess.Popen(
        [launcher, "-n", str(ranks), sys.executable, *command], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths, **threads, **open_mpi},
    )  # fmt: skip


def mpiexec(ranks: int, *command: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """Run a program on so many ranks; what takes too long is ended."""
    with started(ranks, *command) as job:
        try:
            out, errors = job.communicate(timeout=timeout)
        finally:
            job.terminate()  # which ends its ranks, too
    return subprocess.CompletedProcess(job.args, job.returncode, out, errors)


Row = tuple[int, int]  # ranks and threads of each


def digests(
    ranks: Sequence[int], modes: Sequence[str], workers: Sequence[int], nets: Sequence[str]
) -> dict[tuple[str, str], dict[Row, str]]:
    """The digests of each network in each mode."""
    found: dict[tuple[str, str], dict[Row, str]] = {}
    for count in ranks:
        options = ["--modes", *modes, "--workers", *map(str, workers), "--nets", *nets]
        run = mpiexec(count, __file__, "--on-ranks", *options)
        if run.returncode:
            raise RuntimeError(f"{count} ranks: {run.stdout}{run.stderr}")
        for line in run.stdout.splitlines():
            mode, threads, digest_, name = line.split("\t")
            found.setdefault((mode, name), {})[count, int(threads)] = digest_
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4, 8])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--nets", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--modes", choices=MODES, nargs="+", default=MODES)
    parser.add_argument("--on-ranks", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.on_ranks:
        on_ranks(args.modes, args.workers, args.nets)
        return 0
    found = digests(args.ranks, args.modes, args.workers, args.nets)
    print(f"{'':<26}" + "".join(f"{f'{r} x {w}':>12}" for r in args.ranks for w in args.workers))
    for (mode, name), row in found.items():
        print(f"{mode:<10}{name:<16}" + "".join(f"{text[:10]:>12}" for text in row.values()))
    several = [f"{mode} {name}" for (mode, name), row in found.items() if len(set(row.values())) > 1]
    print(f"several digests: {', '.join(several)}" if several else "one digest in each row")
    return bool(several)


if __name__ == "__main__":
    sys.exit(main())
