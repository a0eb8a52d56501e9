"""What is run in `tests.test_sweeps`, and as a script: ``python -m tests.sweep_programs FILE``."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from funcnn import distributed, random

Setting = dict[str, Any]


def run(setting: Setting) -> Any:
    """Numbers from a key; or what goes wrong."""
    action = setting.get("action")
    if action == "raise":
        raise ValueError("no such\nthing")
    if action == "exit":
        sys.exit("enough")
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "lock":
        return lambda: None
    if action == "sweep":
        table = distributed.map(process, [{}, {}], progress=False)
        return table.column("result") == [os.getpid()] * 2
    if action == "remove":
        shutil.rmtree(setting["folder"])
    if action == "sleep":
        time.sleep(setting["time"])
    drawn = random.normal(random.key(setting["seed"]), (3,))
    return {"mean": float(drawn.mean()), "drawn": drawn, "odd": np.float32(setting["seed"]) / 3}


def process(setting: Setting) -> int:
    """Who computes this."""
    return os.getpid()


def noted(setting: Setting) -> Any:
    """Leave a mark for each call; die in the last one as long as there is something to die of."""
    with open(setting["marks"], "a") as marks:
        marks.write(f"{setting['seed']}\n")
    poison = Path(f"{setting['marks']}.{setting['seed']}")
    if poison.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return {"mean": setting["seed"] / 3, "nan": float("nan"), "far": -float("inf")}


def other(setting: Setting) -> float:
    """A run of another name."""
    return float(setting["seed"])


if __name__ == "__main__":
    action, *rest = sys.argv[1:]
    if action == "resume":
        marks, path = rest
        settings = [{"seed": i, "marks": marks} for i in range(4)]
        print(distributed.map(noted, settings, processes=0, file=path))
    elif action == "sleep":
        settings = [{"seed": i, "action": "sleep", "time": 100.0 * (i > 0)} for i in range(4)]
        distributed.map(run, settings, processes=2, file=rest[0])
    elif action == "ranks":
        settings = [{"seed": i, "action": "raise" if i == 2 else None} for i in range(5)]
        table = distributed.map(run, settings, file=rest[0])
        found = f"{table.column('mean')} {table[2].error}"
        Path(f"{rest[0]}.{distributed.mpi().rank}").write_text(found)
