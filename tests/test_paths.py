"""Every function that takes a path takes a str or os.PathLike, and nothing else that `open` would."""

from __future__ import annotations

import contextlib
import inspect
import os
import pkgutil
import signal
import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

import funcnn
from funcnn import dense, mean_squared_error, random, sgd
from funcnn.checks import Refusal
from funcnn.data import Dataset

ONE = np.ones((1, 1), np.float32)
FIT: dict[str, Any] = {
    "net": dense(1), "loss": mean_squared_error(), "optimizer": sgd(0.1), "train": Dataset(ONE, ONE),
    "key": random.key(0), "epochs": 1,
}  # fmt: skip
PARAMS = dense(1).init(random.key(0), (1, 1))[1]
REPORT = {"net": dense(1), "params": PARAMS, "history": {"loss": ONE[0]}}
REST: dict[str, dict[str, Any]] = {  # what else a function must be given
    "funcnn.model_files.save": {"net": dense(1), "params": PARAMS},
    "save": {"params": {}},
    "save_safetensors": {"params": {}},
    "write_whole": {"content": b""},
    "wandb": {"project": "p", "mode": "offline"},
    "map": {"run": len, "settings": [{"a": 1}], "processes": 0, "progress": False},
    "read_image_folder": {"size": 8},
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
        (None, TypeError, "must be a str or os.PathLike, got None"),
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
    if short in ("fit", "map") and value is None:
        return  # which writes nothing, or begins anew
    verb = short.partition("_")[0]
    who = verb if verb in ("load", "save") and short != "load_tokenizer" else short
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
        if where.endswith(("tensorboard", "wandb")):
            continue  # which makes folders
        with pytest.raises((OSError, ValueError)) as caught:
            function(**{**REST.get(where, REST.get(where.rpartition(".")[2], {})), name: path})
        if isinstance(caught.value, ValueError):
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 300


# --- what is there, and is no file --------------------------------------------------------------------


ODD: dict[str, Callable[[Path], str]] = {}


def odd(function: Callable[[Path], str]) -> Callable[[Path], str]:
    ODD[function.__name__] = function
    return function


@odd
def fifo(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return str(folder / "pipe")


@odd
def link_to_fifo(folder: Path) -> str:
    (folder / "link").symlink_to(fifo(folder))
    return str(folder / "link")


@odd
def link_to_itself(folder: Path) -> str:
    (folder / "loop").symlink_to(folder / "loop")
    return str(folder / "loop")


@odd
def link_to_nothing_anywhere(folder: Path) -> str:
    (folder / "dangling").symlink_to(folder / "nowhere" / "file")
    return str(folder / "dangling")


@odd
def null(folder: Path) -> str:
    return "/dev/null"


@odd
def zero(folder: Path) -> str:
    return "/dev/zero"


@odd
def link_to_device(folder: Path) -> str:
    (folder / "device").symlink_to("/dev/zero")
    return str(folder / "device")


@odd
def a_socket(folder: Path) -> str:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(folder / "socket"))  # a name of at most 107 bytes
    return str(folder / "socket")


@odd
def a_folder(folder: Path) -> str:
    (folder / "folder").mkdir()
    return str(folder / "folder")


@odd
def a_folder_with_a_slash(folder: Path) -> str:
    return a_folder(folder) + "/"


@odd
def a_file_with_a_slash(folder: Path) -> str:
    (folder / "file").write_bytes(b"1,2\n")
    return str(folder / "file") + "/"


@odd
def in_a_file(folder: Path) -> str:
    return a_file_with_a_slash(folder) + "file"


@odd
def nothing(folder: Path) -> str:
    return ""


@odd
def very_deep(folder: Path) -> str:
    return "a/" * 3000


@odd
def very_deep_and_odd(folder: Path) -> str:
    return "\n/" * 1500


@odd
def long_name(folder: Path) -> str:
    return str(folder / ("n" * 256))


@odd
def long_and_odd_name(folder: Path) -> str:
    return str(folder / "a" / ("\U000e0001" * 60))


@odd
def long_path(folder: Path) -> str:
    return str(folder / ("n" * 200) / ("m" * 200) / ("o" * 200))


@odd
def unreadable(folder: Path) -> str:
    (folder / "locked").mkdir()
    (folder / "locked" / "file").write_bytes(b"1,2\n")
    (folder / "locked").chmod(0)
    return str(folder / "locked" / "file")


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of the super-user, who may read what is locked."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(user)


@contextlib.contextmanager
def in_time(seconds: int) -> Iterator[None]:
    def late(*_: object) -> NoReturn:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def everything_in(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        found[str(path)] = (about.st_mode, about.st_ino, about.st_size)
    return found


@pytest.mark.skipif(os.name != "posix", reason="needs pipes, devices and links")
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}.{case[1]}")
def test_what_is_no_file_is_refused_at_once_and_stays(
    case: tuple[str, str, Callable[..., Any]],
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one short line, and nothing is made beside it."""
    where, name, function = case
    short = where.rpartition(".")[2]
    folder = name == "directory" or short == "read_image_folder"
    if folder and kind.startswith("a_folder"):
        return
    tracker = short in ("tensorboard", "wandb")
    if tracker and kind in ("long_path", "very_deep_and_odd", "long_and_odd_name"):
        return  # lawful names of folders, which it makes
    monkeypatch.chdir(tmp_path)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o711)
    path = ODD[kind](tmp_path)
    before = everything_in(tmp_path)
    rights = as_nobody() if kind == "unreadable" else contextlib.nullcontext()
    rest = {**REST.get(where, REST.get(short, {}))}

    def run() -> None:
        made = function(**{**rest, name: path})
        if tracker:
            made.open("a run", {}, False)

    with in_time(20), pytest.raises((OSError, ValueError)) as caught, rights:
        run()
    text = str(caught.value)
    assert text.isprintable(), text
    assert len(text) < 300, text
    if isinstance(caught.value, Refusal):
        who = {"load_safetensors": "load", "save_safetensors": "save"}.get(short, short)
        assert text.split(":")[0] in ({who, "load", "save"} if who == "fit" else {who}), text
    assert everything_in(tmp_path) == before
