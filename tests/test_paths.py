"""Every function that takes a path takes a str or os.PathLike, and nothing else that `open` would."""

from __future__ import annotations

import inspect
import os
import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcnn
from funcnn import dense, mean_squared_error, random, sgd
from funcnn.data import Dataset

ONE = np.ones((1, 1), np.float32)
FIT: dict[str, Any] = {
    "net": dense(1), "loss": mean_squared_error(), "optimizer": sgd(0.1), "train": Dataset(ONE, ONE),
    "key": random.key(0), "epochs": 1,
}  # fmt: skip
PARAMS = dense(1).init(random.key(0), (1, 1))[1]
REPORT = {"net": dense(1), "params": PARAMS, "history": {"loss": ONE[0]}}
REST: dict[str, dict[str, Any]] = {  # what else a function must be given
    "funcnn.model_files.save": {"net": dense(1), "params": {}},
    "save": {"params": {}},
    "save_safetensors": {"params": {}},
    "write_whole": {"content": b""},
    "fit": FIT,
    "html_report": REPORT,
    "read_npy": {"x": "x", "y": "y"},
}


def _takes_paths() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    names = ["funcnn", *(info.name for info in pkgutil.iter_modules(funcnn.__path__, "funcnn."))]
    seen = set()
    for module_name in names:
        module = import_module(module_name)
        for public in getattr(module, "__all__", ()):
            function = getattr(module, public)
            if not inspect.isfunction(function) or function in seen:
                continue
            seen.add(function)
            for name, parameter in inspect.signature(function).parameters.items():
                if "PathLike" in str(parameter.annotation):
                    yield f"{function.__module__}.{public}", name, function


CASES = list(_takes_paths())


def test_readers_and_writers_are_found() -> None:
    found = {f"{where.rpartition('.')[2]}.{name}" for where, name, _ in CASES}
    assert found >= {
        "save.path", "load.path", "save_safetensors.path", "load_safetensors.path", "write_whole.path",
        "read_csv.path", "read_npz.path", "read_npy.x", "read_npy.y", "read_idx.path",
        "mnist.directory", "cifar10.directory", "fit.checkpoint", "fit.resume", "fit.log",
        "tensorboard.directory", "html_report.path",
    }  # fmt: skip


class Bytes:
    def __fspath__(self) -> bytes:
        return b"file"


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (True, TypeError, "must be a str or os.PathLike, got True"),
        (3, TypeError, "must be a str or os.PathLike, got 3"),
        (np.int64(3), TypeError, "must be a str or os.PathLike, got 3"),
        (b"file", TypeError, "must be a str or os.PathLike, got b'file'"),
        (Bytes(), TypeError, "must be a str or os.PathLike, got <"),
        (["file"], TypeError, r"must be a str or os.PathLike, got \['file'\]"),
        (1.5, TypeError, "must be a str or os.PathLike, got 1.5"),
        ("a\0b", ValueError, r"must be what the system can name, got 'a\\x00b'"),
        ("a\ud800b", ValueError, r"must be what the system can name, got 'a\\ud800b'"),
    ],
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}.{case[1]}")
def test_what_is_no_path_is_refused_and_closes_nothing(
    case: tuple[str, str, Callable[..., Any]], value: Any, kind: type[Exception], message: str
) -> None:
    where, name, function = case
    short = where.rpartition(".")[2]
    who = "load" if short.startswith("load") else "save" if short.startswith("save") else short
    stream = os.open(os.devnull, os.O_RDONLY)
    try:
        given = stream if value == 3 and type(value) is int else value
        with pytest.raises(kind, match=f"^{who}: `{name}` {message.replace('got 3', 'got ')}"):
            function(**{**REST.get(where, REST.get(short, {})), name: given})
        os.fstat(stream)
    finally:
        os.close(stream)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}.{case[1]}")
def test_a_file_that_is_not_there_is_an_error_of_the_system(
    case: tuple[str, str, Callable[..., Any]], tmp_path: Path
) -> None:
    """Or a refusal that names it; whatever its name, on one line."""
    where, name, function = case
    for path in (tmp_path / "no\nwhere" / "file", tmp_path / ("n" * 200) / "file"):
        if where.endswith("tensorboard"):
            continue  # which makes folders
        with pytest.raises((OSError, ValueError)) as caught:
            function(**{**REST.get(where, REST.get(where.rpartition(".")[2], {})), name: path})
        if isinstance(caught.value, ValueError):
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 300
