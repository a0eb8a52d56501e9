"""What ranks do in `tests.test_distributed`: ``mpiexec -n 3 python -m tests.mpi_programs agree``."""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

# ruff: noqa: E402  # what follows is set before NumPy is loaded
RANK = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK")
if sys.argv[1:] == ["mix"] and RANK == "1":
    os.environ["OPENBLAS_CORETYPE"] = "Nehalem"  # as on an older processor
if sys.argv[1:] == ["leave", "elsewhere"] and RANK == "1":
    platform.node = lambda: "localhost"  # as on another machine

import numpy as np
from prove_ranks import CASES, train

from funcnn import adam, data, distributed, random
from funcnn.distributed import engines


def say(engine: distributed.Engine, line: str) -> None:
    """Print the line, once if all ranks say the same."""
    lines = sorted(set(engine.comm.allgather(line)))
    if engine.rank == 0:
        print(*lines, sep="\n", flush=True)


def agree(engine: distributed.Engine) -> None:
    """Trainings, and some on which the ranks do not agree."""
    for name in ("cnn", "batch norm"):
        say(engine, f"{name}: {train(name, 'fast', 1, engine)}")
    other, dataset = engine.rank == engine.ranks - 1, CASES["cnn"].train()
    odd = data.Dataset(dataset.x * np.float32(1 + other), dataset.y)
    settings: dict[str, Any] = {
        "train": odd, "key": random.key(int(other)), "epochs": 2 + other, "shards": 4 + other,
        "optimizer": adam(0.1 + other), "patience": 1 + other,
        "checkpoint": None if other else f"{tempfile.mkdtemp()}/run.npz",
    }  # fmt: skip
    for option, value in settings.items():
        try:
            train("cnn", "fast", 1, engine, **{option: value})
        except ValueError as refusal:
            say(engine, f"{option}: {refusal}")


def fail(engine: distributed.Engine) -> None:
    """A loader that fails on one rank alone."""
    images = CASES["cnn"].train()

    def load(key: Any, epoch: int, step: int) -> Any:
        if (epoch, step, engine.rank) == (1, 1, 1):
            raise OSError("the disk\nis gone")
        return images[step * 10 : step * 10 + 10]

    options = {"train": data.Loader(load, 4), "batch_size": None}
    try:
        train("cnn", "fast", 1, engine, **options)
    except OSError:
        print("caught", flush=True)


def go_on(engine: distributed.Engine, path: str) -> None:
    """A training that does not end; rank 0 says in a file what the processes are."""
    pids = engine.comm.allgather(os.getpid())
    if engine.rank == 0:
        Path(f"{path}.pids").write_text(" ".join(map(str, pids)))
    train("batch norm", "fast", 1, engine, epochs=100_000, checkpoint=path, checkpoint_every=1)


def stop_and_go(engine: distributed.Engine, path: str) -> None:
    """A training of a second or two; rank 1 says in a file what process it is."""
    if engine.rank == 1:
        Path(path).with_suffix(".new").write_text(str(os.getpid()))
        Path(path).with_suffix(".new").rename(Path(path).with_suffix(".pid"))
    say(engine, f"end: {train('cnn', 'fast', 1, engine, epochs=60)}")


def resume(engine: distributed.Engine, path: str, epochs: str) -> None:
    """The rest of a training."""
    end = train("batch norm", "fast", 1, engine, epochs=int(epochs), checkpoint=path, resume=path)
    say(engine, f"end: {end}")


def mix(engine: distributed.Engine) -> None:
    """Trainings on two kinds of processors."""
    try:
        train("cnn", "fast", 1, engine)
    except ValueError as refusal:
        say(engine, f"{refusal}")
    say(engine, train("cnn", "portable", 1, engine))


def leave(engine: distributed.Engine, how: str) -> None:
    """Rank 1 goes away, one way or another; the others wait for it."""
    if engine.rank == 1:
        ways: dict[str, Any] = {
            "ends": lambda: None, "sys.exit": sys.exit, "os._exit": lambda: os._exit(3),
            "raises": lambda: 1 / 0, "Ctrl-C": lambda: signal.raise_signal(signal.SIGINT),
            "SIGTERM": lambda: signal.raise_signal(signal.SIGTERM),
            "elsewhere": lambda: signal.raise_signal(signal.SIGKILL),
        }  # fmt: skip
        ways[how]()
    else:
        engine.gathered(list)


def sweep(setting: dict[str, Any]) -> Any:
    """A run that sweeps, and one that wants its neighbours."""
    if setting["inside"] == "map":
        return distributed.map(doubled, [{"x": 1}, {"x": setting["x"]}], progress=False).column(
            "result"
        )
    return distributed.mpi().gathered(list)


def doubled(setting: dict[str, Any]) -> int:
    """Twice a number."""
    return 2 * int(setting["x"])


def sweep_and_leave(engine: distributed.Engine, how: str) -> None:
    """Both, in one start."""
    settings = [{"inside": inside, "x": x} for inside in ("map", "engine") for x in range(2)]
    table = distributed.map(sweep, settings, progress=False)
    say(engine, f"{table.column('result')} {table[3].error}")
    leave(engine, how)


def agree_and_fail(engine: distributed.Engine) -> None:
    """Both, in one start."""
    agree(engine)
    fail(engine)


if __name__ == "__main__":
    engines.PATIENCE = 0.5
    globals()[sys.argv[1]](distributed.mpi(), *sys.argv[2:])
