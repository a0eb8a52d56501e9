"""Checkpoints: whole or not there, and refused in one line when they are not what was written."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import adam, checkpoints, conv, dense, flatten, random, serial, tree
from funcnn.types import Params

NET = serial(conv(2, 3), flatten(), dense(3))


def net_params() -> Params:
    return NET.init(random.key(0), (1, 1, 6, 6))[1]


def everything() -> Params:
    """Every kind of leaf: dtypes, orders, no axes, no elements, empty dicts."""
    return {
        "net": net_params(),
        "state": adam(0.1).init(net_params()),
        "empty": {},
        "leaves": {
            "double": np.array([1.0, np.nan, -0.0, np.inf]),
            "half": np.ones(2, np.float16),
            "big": np.arange(3, dtype=">i4"),
            "flags": np.array([True, False]),
            "scalar": np.array(7),
            "nothing": np.zeros((0, 3)),
            "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "strided": np.arange(10.0)[::2],
        },
    }


def written(folder: Path, params: Params | None = None, meta: dict[str, Any] | None = None) -> Path:
    file = folder / "net.npz"
    checkpoints.save(file, net_params() if params is None else params, meta)
    return file


# --- what comes back --------------------------------------------------------------------------------


def test_a_tree_comes_back_to_the_bit(tmp_path: Path) -> None:
    params = everything()
    file = written(tmp_path, params, {"epoch": 3, "loss": float("nan"), "names": ["é", None]})
    found, meta = checkpoints.load(file)
    assert tree.equal(tree.map(np.ascontiguousarray, params), tree.map(np.ascontiguousarray, found))
    assert list(found) == list(params)
    assert list(found["net"]) == list(params["net"])
    assert found["empty"] == {}
    assert meta["epoch"] == 3
    assert np.isnan(meta["loss"])
    assert meta["names"] == ["é", None]


def test_the_same_tree_gives_the_same_file(tmp_path: Path) -> None:
    first = written(tmp_path, meta={"a": 1, "b": 2}).read_bytes()
    assert written(tmp_path, meta={"a": 1, "b": 2}).read_bytes() == first
    again = written(tmp_path, meta={"b": 2, "a": 1})
    assert list(checkpoints.load(again)[1]) == ["b", "a"]


def test_numpy_reads_the_leaves(tmp_path: Path) -> None:
    file = written(tmp_path)
    with np.load(file, allow_pickle=False) as stored:
        assert np.array_equal(stored["conv1/weight"], net_params()["conv1"]["weight"])


@pytest.mark.parametrize(
    ("params", "meta", "message"),
    [
        ({"w": [1.0]}, None, r"every leaf must be an array of numbers, got \[1.0\] at 'w'"),
        ({"w": np.array([None])}, None, "every leaf must be an array of numbers"),
        ({"w": np.array(["a"])}, None, "every leaf must be an array of numbers"),
        ({"a/b": np.ones(1)}, None, "every key must be a str without '/' and '.', got 'a/b'"),
        ({"a": {"b.c": np.ones(1)}}, None, "every key must be a str without '/' and '.', got 'b.c'"),
        ({"a\0b": np.ones(1)}, None, r"every key must be text, got 'a\\x00b'"),
        ({"a": {"\ud800": np.ones(1)}}, None, r"every key must be text, got '\\ud800'"),
        (np.ones(2), None, "`params` must be a dict, got ndarray"),
        ({"w": np.ones(1)}, {"f": print}, "`meta` must be what JSON can hold"),
    ],
)
def test_what_cannot_be_stored_is_refused(
    tmp_path: Path, params: Params, meta: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises(TypeError, match=f"^save: {message}"):
        checkpoints.save(tmp_path / "net.npz", params, meta)
    assert list(tmp_path.iterdir()) == []


# --- broken files -----------------------------------------------------------------------------------


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, meta={"epoch": 1})
    whole = file.read_bytes()
    for length in [*range(64), *range(64, len(whole), 7), *range(len(whole) - 64, len(whole))]:
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^load: .*net\.npz must "):
            checkpoints.load(file)


def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """Some bytes of the archive, such as dates, mean nothing; all others are noticed."""
    params = {"w": np.arange(4.0), "b": {"c": np.arange(3)}}
    file = written(tmp_path, params, {"epoch": 1})
    whole = file.read_bytes()
    refused = 0
    for place in range(len(whole)):
        for flip in (0x01, 0x80):
            altered = bytearray(whole)
            altered[place] ^= flip
            file.write_bytes(altered)
            try:
                found, meta = checkpoints.load(file)
            except ValueError:
                refused += 1
                continue
            assert tree.equal(found, params)
            assert meta == {"epoch": 1}
    assert refused > len(whole)  # most of the 2 * len(whole) changes


def test_a_changed_value_with_right_sums_of_the_archive_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    content = bytearray(entries["conv1/weight.npy"])
    content[-1] ^= 1
    entries["conv1/weight.npy"] = bytes(content)
    with zipfile.ZipFile(file, "w") as archive:
        for name, entry in entries.items():
            archive.writestr(name, entry)
    with pytest.raises(ValueError, match="its digest does not fit its content"):
        checkpoints.load(file)


def with_header(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["funcnn.json"] = json.dumps(change(json.loads(entries["funcnn.json"]))).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, entry in entries.items():
            archive.writestr(name, entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "must have version 1 or older, got 2: a newer funcnn wrote it"),
        ({"version": "1"}, "must have version 1 or older, got 1"),
        ({"version": True, "structure": 5}, "must "),
        ({"format": "other"}, "must be a checkpoint of funcnn: its header is another's"),
        ({"meta": "{}"}, "its digest does not fit its content"),
        ({"meta": 5}, "must "),
        ({"sha256": "0"}, "its digest does not fit its content"),
        ({"structure": {"other": None}}, "its digest does not fit its content"),
        ({"structure": [1, 2]}, "must "),
    ],
)
def test_foreign_and_newer_files_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = written(tmp_path, meta={"epoch": 1})
    with_header(file, lambda header: {**header, **change})
    with pytest.raises(ValueError, match=f"^load: .*{message}"):
        checkpoints.load(file)


@pytest.mark.parametrize("header", [[], 5, None, {}, {"format": "funcnn-checkpoint", "version": 1}])
def test_headers_that_are_none_are_refused(tmp_path: Path, header: Any) -> None:
    file = written(tmp_path)
    with_header(file, lambda _: header)
    with pytest.raises(ValueError, match=r"^load: .*must "):
        checkpoints.load(file)


def test_an_archive_of_another_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.npz"
    np.savez(file, w=np.ones(2))
    with pytest.raises(ValueError, match=r"must be a checkpoint of funcnn: it has no funcnn\.json"):
        checkpoints.load(file)
    np.save(tmp_path / "one.npy", np.ones(2))
    with pytest.raises(ValueError, match="must be a checkpoint"):
        checkpoints.load(tmp_path / "one.npy")
    with pytest.raises(FileNotFoundError):
        checkpoints.load(tmp_path / "nowhere.npz")


def test_leaves_that_are_missing_or_too_many_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = "dense1/bias.npy"
    fewer = {other: entry for other, entry in entries.items() if other != name}
    for altered in (fewer, {**entries, "x.npy": entries[name]}):
        with zipfile.ZipFile(file, "w") as archive:
            for other, entry in altered.items():
                archive.writestr(other, entry)
        with pytest.raises(ValueError, match=r"^load: .*must "):
            checkpoints.load(file)


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    file = written(tmp_path)
    with zipfile.ZipFile(file, "a") as archive, archive.open("evil.npy", "w") as entry:
        np.lib.format.write_array(entry, np.array([print]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"^load: .*must be a checkpoint"):
        checkpoints.load(file)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": np.ones(3)}, r"'w' must be float64 \(3,\), got float64 \(2,\)"),
        ({"w": np.ones(2, np.float32)}, r"'w' must be float32 \(2,\), got float64 \(2,\)"),
        ({"w": np.ones(2), "b": np.ones(1)}, "only one of them has 'b'"),
        ({}, "only one of them has 'w'"),
    ],
)
def test_a_tree_that_does_not_fit_is_refused(tmp_path: Path, like: Params, message: str) -> None:
    file = written(tmp_path, {"w": np.ones(2)})
    with pytest.raises(ValueError, match=f"^load: .*must fit the network: {message}"):
        checkpoints.load(file, like)


# --- a crash, a full disk -----------------------------------------------------------------------------


class Crash(BaseException):
    """What ends a process: no handler of exceptions sees it."""


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def crash(*_: object) -> None:
    raise Crash


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(("failure", "kind"), [(full_disk, OSError), (crash, Crash)])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    failure: Callable[..., None],
    kind: type[BaseException],
) -> None:
    file = written(tmp_path, {"w": np.ones(2)})
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failure)
        with pytest.raises(kind):
            checkpoints.save(file, {"w": np.zeros(2)})
    assert tree.equal(checkpoints.load(file)[0], {"w": np.ones(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]
    checkpoints.save(file, {"w": np.zeros(2)})
    assert tree.equal(checkpoints.load(file)[0], {"w": np.zeros(2)})


def test_a_disk_that_fills_in_the_middle_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, {"w": np.ones(2)})
    real = open

    def small_disk(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        opened = real(path, mode, *rest, **options)
        if "w" not in mode:
            return opened

        class Small:
            def __enter__(self) -> Small:
                return self

            def __exit__(self, *_: object) -> None:
                opened.close()

            def write(self, content: Any) -> None:
                opened.write(bytes(content)[:100])
                full_disk()

        return Small()

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", small_disk)
        with pytest.raises(OSError, match=r"No space left on device: .*net\.npz") as caught:
            checkpoints.save(file, {"w": np.zeros(2)})
    assert caught.value.errno == errno.ENOSPC
    assert tree.equal(checkpoints.load(file)[0], {"w": np.ones(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere/net\.npz'$"):
        checkpoints.save(tmp_path / "nowhere" / "net.npz", {"w": np.ones(2)})


def test_a_crash_before_the_rename_leaves_the_old_file_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGKILL: even the cleaning up is not reached."""
    file = written(tmp_path, {"w": np.ones(2)})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        patch.setattr(Path, "unlink", crash)
        with pytest.raises(Crash):
            checkpoints.save(file, {"w": np.zeros(2)})
    assert len(list(tmp_path.iterdir())) == 2
    assert tree.equal(checkpoints.load(file)[0], {"w": np.ones(2)})
    checkpoints.save(file, {"w": np.full(2, 2.0)})
    assert tree.equal(checkpoints.load(file)[0], {"w": np.full(2, 2.0)})


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    for folder in (str(tmp_path), ".", ""):
        with pytest.raises(IsADirectoryError, match=f"'{folder}'$"):
            checkpoints.save(folder, {"w": np.ones(2)})
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "large_disk").mkdir()
    file, link = tmp_path / "large_disk" / "net.npz", tmp_path / "net.npz"
    link.symlink_to(file)
    for value in (1.0, 2.0):  # to a file that is not there yet, and to one that is
        checkpoints.save(link, {"w": np.full(2, value)})
        assert link.is_symlink()
        assert tree.equal(checkpoints.load(file)[0], {"w": np.full(2, value)})
    assert len(list(tmp_path.iterdir())) == 2


def test_threads_that_write_one_file_leave_that_of_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first has written but not yet renamed."""
    file, real = tmp_path / "net.npz", os.fsync
    second = threading.Thread(target=checkpoints.save, args=(file, {"w": np.zeros(200)}))

    def slow(handle: int) -> None:
        real(handle)
        if threading.current_thread() is not second and second.ident is None:
            second.start()
            second.join()

    monkeypatch.setattr(os, "fsync", slow)
    checkpoints.save(file, {"w": np.ones(2)})
    assert tree.equal(checkpoints.load(file)[0], {"w": np.ones(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]


# --- safetensors --------------------------------------------------------------------------------------


def test_safetensors_come_back(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    file = tmp_path / "net.safetensors"
    params = net_params()
    checkpoints.save_safetensors(file, params)
    assert tree.equal(checkpoints.load_safetensors(file), params)
    whole = file.read_bytes()
    for length in range(0, len(whole), 11):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^load: .*must be a safetensors file"):
            checkpoints.load_safetensors(file)


def test_safetensors_keep_every_shape(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    params = {"none": np.array(2.5), "turned": np.ones((2, 3)).T, "empty": np.zeros((0, 3))}
    checkpoints.save_safetensors(tmp_path / "x", params)
    found = checkpoints.load_safetensors(tmp_path / "x")
    assert {name: leaf.shape for name, leaf in found.items()} == {
        "none": (), "turned": (3, 2), "empty": (0, 3)
    }  # fmt: skip
    assert all(np.array_equal(found[name], leaf) for name, leaf in params.items())


@pytest.mark.parametrize("deep", ["a.b", "a.b.c"])
def test_safetensors_whose_names_make_no_tree_are_refused(tmp_path: Path, deep: str) -> None:
    """One of the two arrays would be lost."""
    library = pytest.importorskip("safetensors.numpy")
    (tmp_path / "x").write_bytes(library.save({"a": np.ones(1), deep: np.ones(2)}))
    with pytest.raises(ValueError, match=r"^load: .*x must hold a tree: .* lies inside "):
        checkpoints.load_safetensors(tmp_path / "x")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    message = r"^safetensors is needed: pip install safetensors$"
    for call in (
        lambda: checkpoints.save_safetensors(tmp_path / "x", {}),
        lambda: checkpoints.load_safetensors(tmp_path / "x"),
    ):
        with pytest.raises(ImportError, match=message):
            call()
