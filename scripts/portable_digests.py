"""Digests of everything that portable mode promises, and files for another processor to read.

    scripts/portable_digests.py out.json                 # in portable mode
    scripts/portable_digests.py out.json --mode fast     # for contrast
    scripts/portable_digests.py out.json --trainings     # the four trainings alone: four times as fast
    scripts/portable_digests.py out.json --read FOLDER   # load files that another processor has saved

Next to ``out.json`` it saves a checkpoint and a safetensors file. A NaN counts as a NaN,
whatever its bits: no processor agrees with another on those.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import portable_runs  # noqa: E402

import funcnn  # noqa: E402
from funcnn import checkpoints, numerics, optimizers, random, schedules, tree  # noqa: E402
from funcnn.testing import digest  # noqa: E402

if TYPE_CHECKING:  # the trainings do without
    from tests import registry

Parts = Iterator[tuple[str, Callable[[], Any]]]


def _trainings() -> Parts:
    for name, run in portable_runs.RUNS.items():
        yield f"training {name}", run


def _layers() -> Parts:
    from tests import registry

    for case in registry.layers():

        def run(case: registry.Case = case) -> Any:
            subject = registry.subject(case)
            results = {}
            for mode, key in subject.modes.items():
                out, cache = case.layer.apply(subject.params, subject.x, key=key)
                results[mode] = out, case.layer.vjp(cache, subject.run(mode).dout)
            return results

        yield f"layer {case.id}", run


def _losses() -> Parts:
    from tests import registry

    for case in registry.losses():

        def run(case: registry.LossCase = case) -> Any:
            subject = registry.loss_subject(case)
            value, cache = case.loss.apply(subject.prediction, subject.target)
            return value, case.loss.vjp(cache)

        yield f"loss {case.id}", run


def _optimizers() -> Parts:
    from tests import test_optimizers

    for optimizer in test_optimizers.CASES:

        def run(optimizer: optimizers.Optimizer = optimizer) -> Any:
            start = test_optimizers._params()
            return test_optimizers._trajectory(optimizer, start)

        yield f"optimizer {optimizer!r}", run


def _steps(schedule: schedules.Schedule) -> list[float]:
    return [schedule(step) for step in range(40)]


def _numbers() -> Parts:
    """Streams, initial values, schedules, elementary functions and products."""
    from tests import registry, test_schedules

    key = random.key(5)
    for dtype in (np.float32, np.float64):
        for draw in (random.normal, random.uniform, random.truncated_normal):
            yield f"{draw.__name__} {np.dtype(dtype)}", partial(draw, key, (999,), dtype=dtype)
    yield "randint", partial(random.randint, key, (999,), 0, 1000)
    yield "permutation", partial(random.permutation, key, 999)
    yield "bernoulli", partial(random.bernoulli, key, 0.3, (999,))
    for start in registry.initializers():
        yield f"initializer {start.id}", partial(start.initializer.__call__, key, start.shape)
    for schedule in test_schedules.CASES:
        yield f"schedule {schedule!r}", partial(_steps, schedule)
    for dtype in (np.float32, np.float64):
        grid = np.concatenate([np.linspace(-90, 90, 2001), 2.0 ** np.arange(-120, 120)]).astype(dtype)
        for name in ("exp", "log", "tanh", "sigmoid", "sin", "cos", "erf", "log1p", "expm1"):
            function = getattr(numerics, name, None)
            if function is not None:
                x = np.abs(grid) if name.startswith("log") else grid
                yield f"{name} {np.dtype(dtype)}", partial(function, x)
        for n in (1, 3, 17, 64, 130):
            a = random.normal(key, (n, 2 * n + 1), dtype=dtype)
            b = random.normal(random.fold_in(key, 1), (2 * n + 1, n), dtype=dtype)
            yield f"product {n} {np.dtype(dtype)}", partial(numerics.matmul, a, b)
            yield f"square {n} {np.dtype(dtype)}", partial(numerics.matmul, a, a.T)
            yield f"sum {n} {np.dtype(dtype)}", partial(numerics.sum, a, 0)


def _comparable(found: Any) -> Any:
    """The same tree, in which every NaN has the same bits."""

    def one(leaf: Any) -> Any:
        array = np.asarray(leaf)
        if array.dtype.kind != "f" or not np.isnan(array).any():
            return leaf
        return np.where(np.isnan(array), array.dtype.type(np.nan), array)

    if isinstance(found, dict):
        return {name: _comparable(part) for name, part in found.items()}
    if isinstance(found, (tuple, list)):
        return [_comparable(part) for part in found]
    return one(found)


EVERYTHING = (_trainings, _numbers, _layers, _losses, _optimizers)


def digests(mode: numerics.Mode, parts: Sequence[Callable[[], Parts]]) -> dict[str, str]:
    """Every part's digest; of one that fails, what it says."""
    found: dict[str, str] = {}
    with numerics.use(mode), np.errstate(all="ignore"):
        for name, run in chain.from_iterable(part() for part in parts):
            try:
                found[name] = digest(_comparable(run()))
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"[:200]
    return found


def sample() -> Any:
    """A tree with all that a file holds."""
    key = random.key(11)
    return {
        "float32": random.normal(key, (3, 4)),
        "float64": random.normal(key, (5,), dtype=np.float64),
        "int64": np.arange(-3, 4, dtype=np.int64),
        "uint8": np.arange(7, dtype=np.uint8),
        "bool": np.array([True, False]),
        "special": np.array([0.0, -0.0, np.inf, -np.inf, 1e-45, 3.4e38], np.float32),
        "none": np.zeros((0, 2), np.float32),
        "inside": {"scalar": np.float32(1.5) * np.ones((), np.float32)},
    }


FILES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sample.npz": (
        lambda path, tree: checkpoints.save(path, tree, {"step": 3}),
        lambda path: checkpoints.load(path)[0],
    ),
    "sample.safetensors": (checkpoints.save_safetensors, checkpoints.load_safetensors),
}


def files(folder: Path, read: Path | None) -> dict[str, str]:
    """What came of saving here and of loading what was saved elsewhere."""
    found: dict[str, str] = {}
    for name, (save, load) in FILES.items():
        try:
            save(folder / name, sample())
            found[f"save {name}"] = digest((folder / name).read_bytes())
            if read is not None:
                same = tree.equal(load(read / name), sample())
                found[f"load {name}"] = "same" if same else "OTHER VALUES"
        except Exception as error:
            found[f"load {name}"] = f"{type(error).__name__}: {error}"[:200]
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Digests of everything that portable mode promises.")
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--mode", choices=("portable", "fast"), default="portable")
    parser.add_argument("--trainings", action="store_true", help="of digests, only the trainings")
    parser.add_argument("--files", action="store_true", help="no digests, only the files")
    parser.add_argument("--read", type=Path, help="folder with files of another processor")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    parts = () if options.files else (_trainings,) if options.trainings else EVERYTHING
    found = digests(options.mode, parts)
    facts = {
        "processor": platform.machine(),
        "order": sys.byteorder,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": funcnn.doctor().machine["BLAS"],
        "seconds": round(time.monotonic() - began, 1),
    }
    about = {"facts": facts, "digests": found, "files": files(options.out.parent, options.read)}
    options.out.write_text(json.dumps(about, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
