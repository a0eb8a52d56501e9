"""Checkpoints: whole or not there, and refused in one line when they are not what was written."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import errno
import hashlib
import io
import json
import math
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_dtypes, arrays

from funcnn import (
    adam,
    checkpoints,
    conv,
    data,
    dense,
    evaluate,
    flatten,
    predict,
    random,
    serial,
    softmax_cross_entropy,
    tree,
)
from funcnn.checks import RefusedType, RefusedValue
from funcnn.types import Array, Params

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


def plain(leaf: Array) -> Array:
    """In one order of bytes and of memory."""
    return np.array(leaf, leaf.dtype.newbyteorder("="), order="C")


def written(folder: Path, params: Params | None = None, meta: dict[str, Any] | None = None) -> Path:
    file = folder / "net.npz"
    checkpoints.save(file, net_params() if params is None else params, meta)
    return file


# --- what comes back --------------------------------------------------------------------------------


def test_a_tree_comes_back_to_the_bit(tmp_path: Path) -> None:
    params = everything()
    file = written(tmp_path, params, {"epoch": 3, "loss": float("nan"), "names": ["é", None]})
    found, meta = checkpoints.load(file)
    assert tree.equal(tree.map(plain, params), tree.map(plain, found))
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


@pytest.mark.parametrize("wanted", [np.float32, np.int16, np.bool_, np.float64])
def test_safetensors_are_those_of_their_own_library(tmp_path: Path, wanted: type) -> None:
    library = pytest.importorskip("safetensors.numpy")
    params = {"b": {"c": np.ones((2, 3), wanted)}, "a": np.zeros(3, np.float32), "none": np.array(2)}
    checkpoints.save_safetensors(tmp_path / "x", params)
    named = {"b.c": params["b"]["c"], "a": params["a"], "none": params["none"]}  # type: ignore[index]
    assert (tmp_path / "x").read_bytes() == library.save(named)


def st_file(header: Any, content: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def st_entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff" * 8, "it ends inside its header"),
        (st_file(b"[]"), "its header is no JSON object"),
        (st_file(b"\xff"), "can't decode"),
        (st_file(b'{"a": {}, "a": {}}'), "a name is there twice"),
        (st_file(b"[" * 100_000), "recursion"),
        (st_file({"a": 3}), "'a' has no dtype, shape and data_offsets"),
        (st_file({"__metadata__": None}), "its __metadata__ are no texts"),
        (st_file({"__metadata__": {"a": 1}}), "its __metadata__ are no texts"),
        (
            st_file({"a": st_entry("BF16", offsets=(0, 2))}, b"12"),
            "'a' holds BF16, which NumPy does not",
        ),
        (st_file({"a": st_entry(["F32"])}, b"1234"), "must be a safetensors file: "),
        (st_file({"a": st_entry(shape=(-1,))}, b"1234"), "'a' has sizes that are none"),
        (st_file({"a": st_entry(shape=(True,))}, b"1234"), "'a' has sizes that are none"),
        (st_file({"a": st_entry(offsets=(0, 4, 8))}, b"1234"), "must be a safetensors file: "),
        (
            st_file({"a": st_entry(shape=(1 << 45,), offsets=(0, 1 << 47))}, b"1"),
            "lies at 0 to 140737488355328 of 1 bytes",
        ),
        (st_file({"a": st_entry(shape=(0, 1 << 62), offsets=(0, 0))}), "must be a safetensors file: "),
        (st_file({"a": st_entry(shape=(1,) * 65)}, b"1234"), "must be a safetensors file: "),
        (
            st_file({"a": st_entry(offsets=(4, 8))}, b"12345678"),
            "'a' lies at 4 to 8 of 8 bytes, not at 0",
        ),
        (
            st_file({"a": st_entry(), "b": st_entry()}, b"1234"),
            "'b' lies at 0 to 4 of 4 bytes, not at 4",
        ),
        (st_file({"a": st_entry()}, b"12345"), "its arrays have 4 bytes, got 5"),
        (
            st_file({"a": st_entry(shape=(2,))}, b"1234"),
            r"'a' has 4 bytes, not those of float32 \(2,\)",
        ),
        (st_file({"a..b": st_entry()}, b"1234"), "must hold a tree: every key must be a str without"),
        (st_file({"a/b": st_entry()}, b"1234"), "must hold a tree: every key must be a str without"),
        (st_file({"a." * 600 + "b": st_entry()}, b"1234"), "must hold a tree: .* at most 500 levels"),
    ],
)
def test_broken_safetensors_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=f"^load: .*x .*{message}") as caught:
        checkpoints.load_safetensors(tmp_path / "x")
    assert len(str(caught.value)) < 300


def test_what_safetensors_cannot_hold_is_refused(tmp_path: Path) -> None:
    for params, message in (
        ({"__metadata__": np.ones(1)}, "no array may be called '__metadata__'"),
        ({"a": {"b": {}}}, "every dict must hold an array, got an empty one at 'a/b'"),
    ):
        with pytest.raises(ValueError, match=f"^save: {message}"):
            checkpoints.save_safetensors(tmp_path / "x", params)
    assert list(tmp_path.iterdir()) == []
    inner = {"__metadata__": {"w": np.ones(1)}}
    checkpoints.save_safetensors(tmp_path / "x", inner)
    assert tree.equal(checkpoints.load_safetensors(tmp_path / "x"), inner)


# --- what save writes, load reads ---------------------------------------------------------------------

KEYS = st.one_of(
    st.sampled_from(["w", "W", "__metadata__", "funcnn", "é", "a b", "con", "0", "None", "\u202e"]),
    st.text(max_size=4),
)


ONE = np.ones(1)
STRANGE: list[Any] = [
    None, 1.0, "w", [ONE], (ONE,), (), np.ma.masked_array(ONE), ONE.view(np.recarray), np.array(["a"]),
    np.array([None]), ONE.astype(complex), ONE.astype(np.longdouble), np.float32(2), bytearray(8),
]  # fmt: skip


@st.composite
def leaf(draw: Any) -> Any:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(STRANGE))
    dtype = draw(
        st.one_of(
            st.sampled_from([">f4", "<f4", ">f8", "<f2", ">f2", ">i8", "u1", "?", ">u2"]).map(np.dtype),
            array_dtypes(),
        )
    )
    shape = draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    if dtype.kind not in "fiu":
        return draw(arrays(dtype, shape)) if dtype.kind == "b" else np.zeros(shape, dtype)
    bits = draw(arrays(np.uint8, (int(np.prod(shape)) * dtype.itemsize,)))  # NaNs of every kind
    made = bits.view(dtype).reshape(shape)
    return np.asfortranarray(made) if draw(st.booleans()) else made


TREES = st.recursive(
    st.dictionaries(KEYS, leaf(), max_size=3),
    lambda inner: st.dictionaries(KEYS, st.one_of(leaf(), inner), max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("form", ["npz", "safetensors"])
@settings(derandomize=True, deadline=None, max_examples=60)
@given(params=TREES)
def test_a_tree_is_refused_or_comes_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, form: str, params: Any
) -> None:
    file = tmp_path_factory.getbasetemp() / f"any.{form}"
    file.unlink(missing_ok=True)
    try:
        if form == "npz":
            checkpoints.save(file, params)
        else:
            checkpoints.save_safetensors(file, params)
    except (RefusedValue, RefusedType):
        assert not file.exists()
        return
    found = checkpoints.load(file)[0] if form == "npz" else checkpoints.load_safetensors(file)
    assert structure(found) == structure(params)
    assert tree.equal(tree.map(plain, params), found)


def structure(node: Any) -> Any:
    return {key: structure(value) for key, value in node.items()} if isinstance(node, dict) else None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"w": np.ma.masked_array([1.0, 2.0], [True, False])}, "got MaskedArray at 'w'"),
        ({"w": np.ones(1).view(np.recarray)}, "got recarray at 'w'"),
        ({"w": (np.ones(1), np.ones(2))}, "got a tuple at 'w'|got .*array.* at 'w'"),
        ({"w": np.ones(1, np.longdouble)}, "got an array of float128 at 'w'"),
        ({"w": np.ones(1, complex)}, "got an array of complex128 at 'w'"),
        ({"a\\b": np.ones(1)}, "every key must be text"),
    ],
)
def test_what_would_lose_something_is_refused(tmp_path: Path, params: Params, message: str) -> None:
    for write in (checkpoints.save, checkpoints.save_safetensors):
        with pytest.raises(TypeError, match=f"^save: .*({message})"):
            write(tmp_path / "x", params)
    assert list(tmp_path.iterdir()) == []


def test_a_tree_may_be_deep_and_its_names_long(tmp_path: Path) -> None:
    deep: Params = {"w": np.ones(1)}
    for _ in range(450):
        deep = {"a": deep}
    deep["k" * 50_000] = np.zeros(1)
    checkpoints.save(tmp_path / "deep", deep)
    assert tree.equal(checkpoints.load(tmp_path / "deep", deep)[0], deep)
    for _ in range(100):
        deep = {"a": deep}
    for params in (deep, {"k" * 70_000: np.ones(1)}, {"k" * 30_000: {"é" * 20_000: np.ones(1)}}):
        with pytest.raises(ValueError, match=r"^save: .* at most ") as caught:
            checkpoints.save(tmp_path / "deeper", params)
        assert len(str(caught.value)) < 300


def test_a_tree_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless: Params = {}
    endless["a"] = endless
    with pytest.raises(ValueError, match="at most 500 levels"):
        checkpoints.save(tmp_path / "x", endless)


@pytest.mark.parametrize("meta", [[], "run", 3, False])
def test_what_is_remembered_is_a_dict(tmp_path: Path, meta: Any) -> None:
    with pytest.raises(TypeError, match=r"^save: `meta` must be a dict, got "):
        checkpoints.save(tmp_path / "x", {}, meta)


# --- one file for every machine -----------------------------------------------------------------------


def swapped(leaf: Array) -> Array:
    """As a machine of the other byte order has it."""
    return leaf.astype(leaf.dtype.newbyteorder("S"))


def test_both_byte_orders_give_one_file_and_come_back_native(tmp_path: Path) -> None:
    params = {"net": net_params(), "count": np.array(3), "half": np.ones(3, np.float16)}
    for name, save, load in (
        ("npz", checkpoints.save, lambda file: checkpoints.load(file, like=params)[0]),
        ("safetensors", checkpoints.save_safetensors, checkpoints.load_safetensors),
    ):
        here, there = tmp_path / f"here.{name}", tmp_path / f"there.{name}"
        save(here, params)
        save(there, tree.map(swapped, params))
        assert here.read_bytes() == there.read_bytes()
        found = load(there)
        assert all(leaf.dtype.isnative for _, leaf in tree.leaves(found))
        assert tree.equal(found, params)


def rewritten(file: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
    """A checkpoint with other members, and the archive's own sums right."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, entry in change(entries).items():
            archive.writestr(name, entry)


def npy_bytes(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def test_a_file_with_big_endian_arrays_is_read(tmp_path: Path) -> None:
    """As earlier versions wrote them on a big-endian machine, with the same digest."""
    params = net_params()
    file = written(tmp_path, params)

    def change(entries: dict[str, bytes]) -> dict[str, bytes]:
        for name, leaf in tree.leaves(params):
            entries[f"{name}.npy"] = npy_bytes(leaf.astype(">f4"))
        return entries

    rewritten(file, change)
    found, _ = checkpoints.load(file, like=params)
    assert tree.equal(found, params)
    assert NET.apply(found, np.ones((1, 1, 6, 6), np.float32))[0].dtype.isnative


# --- what a stranger may have made --------------------------------------------------------------------


def forged(file: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> None:
    """A checkpoint whose sums and digest are right, whatever is in it."""

    def members(entries: dict[str, bytes]) -> dict[str, bytes]:
        header = json.loads(entries.pop("funcnn.json"))
        change(header, entries)
        sha = hashlib.sha256(f"{json.dumps(header['structure'])}\n{header['meta']}\n".encode())
        for name in sorted(entries, key=lambda name: name.removesuffix(".npy").split("/")):
            try:
                array = np.lib.format.read_array(io.BytesIO(entries[name]), allow_pickle=False)
            except (ValueError, EOFError, TokenError):
                continue
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            sha.update(f"{name.removesuffix('.npy')} {little.dtype.str} {little.shape}\n".encode())
            sha.update(little.tobytes())
        header["sha256"] = sha.hexdigest()
        return {**entries, "funcnn.json": json.dumps(header).encode()}

    rewritten(file, members)


def refused_in_one_line(file: Path, message: str = "") -> None:
    with pytest.raises(ValueError, match=f"^load: .*must .*{message}") as caught:
        checkpoints.load(file)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def put(part: str, value: Any) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(header: dict[str, Any], entries: dict[str, bytes]) -> None:
        if part in header:
            header[part] = value
        else:
            entries[part] = value

    return change


def structured(**structure: Any) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    """The structure given, with an array for each name in it."""

    def change(header: dict[str, Any], entries: dict[str, bytes]) -> None:
        header["structure"] = structure
        entries.clear()
        for name, _ in tree.leaves(structure):
            entries[f"{name}.npy"] = npy_bytes(np.ones(2))

    return change


NESTED: Any = {"w": None}
for _ in range(600):
    NESTED = {"a": NESTED}


@pytest.mark.parametrize(
    "change",
    [
        put("meta", "null"),
        put("meta", "[]"),
        put("meta", "3"),
        put("meta", '"run 5"'),
        put("meta", "{"),
        put("meta", ""),
        put("meta", "[" * 100_000),
        put("meta", {"a": 1}),
        put("meta", None),
        put("version", 0),
        put("version", -1),
        put("version", True),
        put("version", 1.0),
        put("version", float("nan")),
        put("version", 10**400),
        put("format", ["funcnn-checkpoint"]),
        structured(w="a string"),
        structured(w=[1, 2]),
        structured(w=0),
        structured(w=False),
        structured(**{"a/b": None}),
        structured(**{"a.b": None}),
        structured(**{"": None}),
        structured(**{"a\\b": None}),
        structured(a=NESTED),
        put("w.npy", npy_bytes(np.array(["a"]))),
        put("w.npy", npy_bytes(np.array([None]))),
        put("w.npy", npy_bytes(np.ones(2, complex))),
        put("w.npy", npy_bytes(np.ones(2, "f8,f4"))),
        put("w.npy", npy_bytes(np.ones(2, np.longdouble))),
        put("w.npy", npy_bytes(np.array(["2020"], "M8[D]"))),
        put("w.npy", npy_bytes(np.ones(2)) + b"more"),
        put("w.npy", npy_bytes(np.ones(2))[:-1]),
        put("w.npy", npy_bytes(np.ones(2)).replace(b"(2,)", b"(-2,)")),
        put("w.npy", npy_bytes(np.ones(2)).replace(b"(2,), }         ", b"(2, 1, 99999999), }"[:16])),
        put("w.npy", npy_bytes(np.ones(2)).replace(b"False", b"None ")),
        put("w.npy", npy_bytes(np.ones(2)).replace(b"'shape': (2,), }", b"'shape': 2,    }")),
        put("w.npy", npy_bytes(np.ones(2)).replace(b"'descr'", b"'d\\x65'")),
        put("w.npy", npy_bytes(np.ones(2)).replace(b"}", b" ")),
        put("w.npy", npy_bytes(np.ones(2)).replace(b"\x93NUMPY\x01", b"\x93NUMPY\x09")),
        put("w.npy", b""),
        put("w.npy", b"\x93NUMPY"),
        put("W.npy", npy_bytes(np.ones(2))),
        put("w", npy_bytes(np.ones(2))),
        put("../w.npy", npy_bytes(np.ones(2))),
    ],
)
def test_forged_files_are_refused_in_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]
) -> None:
    file = written(tmp_path, {"w": np.ones(2)})
    forged(file, lambda header, entries: None)
    assert tree.equal(checkpoints.load(file)[0], {"w": np.ones(2)})  # the forger knows the format
    forged(file, change)
    refused_in_one_line(file)


@pytest.mark.parametrize("change", [{"meta": "\ud800"}, {"structure": {"w": None, "\ud800": {}}}])
def test_headers_whose_text_is_none_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    file = written(tmp_path, {"w": np.ones(2)})
    with_header(file, lambda header: {**header, **change})
    refused_in_one_line(file)


@pytest.mark.parametrize(
    "header",
    [
        b"{" * 100_000,
        b'{"format": "funcnn-checkpoint", "version": NaN}',
        b'{"format": "funcnn-checkpoint", "format": "funcnn-checkpoint"}',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"",
        b"1" * 5000,
    ],
)
def test_headers_that_are_no_json_are_refused(tmp_path: Path, header: bytes) -> None:
    file = written(tmp_path, {"w": np.ones(2)})
    rewritten(file, lambda entries: {**entries, "funcnn.json": header})
    refused_in_one_line(file)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, {"w": np.ones(2)})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("w.npy", npy_bytes(np.zeros(2)))
    refused_in_one_line(file, "a name is there twice")


def test_members_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    """So that a small file cannot stand for a large one."""
    file = written(tmp_path, {"a": np.ones(2000), "b": np.ones(2000)})
    with zipfile.ZipFile(file, "a") as archive:
        first = archive.getinfo("a.npy")
        archive.getinfo("b.npy").header_offset = first.header_offset
        archive.writestr("c", b"")
    whole = file.read_bytes()
    start = file.stat().st_size
    file.write_bytes(whole)
    refused_in_one_line(file)
    assert start == len(whole)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("member", ["funcnn.json", "w.npy"])
def test_compressed_members_are_refused_before_they_are_unpacked(
    tmp_path: Path, method: int, member: str
) -> None:
    file = written(tmp_path, {"w": np.ones(2)})
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    bomb = entries[member] + b" " * 10_000_000
    with zipfile.ZipFile(file, "w") as archive:
        for name, entry in entries.items():
            packed = method if name == member else zipfile.ZIP_STORED
            archive.writestr(name, bomb if name == member else entry, packed)
    tracemalloc.start()
    refused_in_one_line(file, f"is packed by method {method}")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("place", ["local", "central"])
@pytest.mark.parametrize(("offset", "value"), [(0, 1), (0, 0x20), (0, 0x40), (2, 99), (2, 12), (2, 1)])
def test_encrypted_members_and_unknown_methods_are_refused(
    tmp_path: Path, place: str, offset: int, value: int
) -> None:
    """The flags and the method of each member, in both places where they are."""
    whole = written(tmp_path, {"w": np.ones(2)}).read_bytes()
    file = tmp_path / "net.npz"
    sign, first = (b"PK\3\4", 6) if place == "local" else (b"PK\1\2", 8)
    at = -1
    while (at := whole.find(sign, at + 1)) >= 0:
        altered = bytearray(whole)
        altered[at + first + offset] = value
        file.write_bytes(altered)
        try:
            found, _ = checkpoints.load(file)
        except ValueError:
            refused_in_one_line(file)
        else:
            assert place == "local"  # which no reader looks at
            assert tree.equal(found, {"w": np.ones(2)})


def test_what_does_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    """128 TiB that are not there."""
    file = written(tmp_path, {"w": np.ones(2)})
    content = npy_bytes(np.ones(2))
    huge = content.replace(b"(2,), }" + b" " * 16, b"(%d,), }" % (1 << 44) + b" " * 3)
    assert len(huge) == len(content)
    rewritten(file, lambda entries: {**entries, "w.npy": huge})
    refused_in_one_line(file, r"float64 \(17592186044416,\) takes 140737488355456 bytes, got 144")


# --- where it is written ------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="needs FIFOs and devices")
def test_what_is_no_file_is_neither_replaced_nor_read(tmp_path: Path) -> None:
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    for path in (fifo, link, Path("/dev/null")):
        before = os.stat(path)
        for write in (checkpoints.save, checkpoints.save_safetensors):
            with pytest.raises(ValueError, match=rf"^save: {path} must be a regular file"):
                write(path, {"w": np.ones(2)})
        with pytest.raises(ValueError, match=rf"^write_whole: {path} must be a regular file"):
            checkpoints.write_whole(path, b"x")
        for read in (checkpoints.load, checkpoints.load_safetensors):
            with pytest.raises(ValueError, match=rf"^load: {path} must be a regular file"):
                read(path)
        assert os.stat(path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "link"]


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_links_in_a_circle_are_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match=r"symbolic links: .*a'$"):
        checkpoints.save(tmp_path / "a", {"w": np.ones(2)})
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "n", ".npz", "a b\n"])
def test_every_lawful_name_is_written(tmp_path: Path, name: str) -> None:
    for value in (1.0, 2.0):
        checkpoints.save(tmp_path / name, {"w": np.full(2, value)})
        assert tree.equal(checkpoints.load(tmp_path / name)[0], {"w": np.full(2, value)})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(OSError, match="File name too long"):
        checkpoints.save(tmp_path / ("n" * 256), {"w": np.ones(2)})


def test_a_name_that_ends_like_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        checkpoints.save(f"{tmp_path}/new/", {"w": np.ones(2)})


@pytest.mark.skipif(os.name != "posix", reason="needs modes")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664, 0o400, 0o755])
def test_a_file_keeps_its_mode_and_owner(tmp_path: Path, mode: int) -> None:
    file = written(tmp_path)
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask  # as any new file
    file.chmod(mode)
    if os.geteuid() == 0:
        os.chown(file, 12345, 23456)
    before = file.stat()
    checkpoints.save(file, {"w": np.ones(2)})
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_secret_file_is_secret_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path)
    file.chmod(0o600)
    real, seen = os.fsync, []

    def look(handle: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(handle).st_mode))
        real(handle)

    monkeypatch.setattr(os, "fsync", look)
    checkpoints.save(file, {"w": np.ones(2)})
    assert seen[0] == 0o600


def test_a_folder_that_cannot_be_read_is_written_without_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rename cannot be forced to the disk; but the file is there."""
    real = os.open

    def no_folders(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", no_folders)
    checkpoints.save(tmp_path / "net.npz", {"w": np.ones(2)})
    monkeypatch.undo()
    assert tree.equal(checkpoints.load(tmp_path / "net.npz")[0], {"w": np.ones(2)})


FAILING = """
import errno, os, sys
import numpy as np
from funcnn import checkpoints

def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

os.fsync = full
try:
    checkpoints.save(sys.argv[1], {"w": np.ones(2)})
except OSError as problem:
    print(problem)
"""


def test_a_save_that_fails_says_so_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "dev", "-c", FAILING, str(tmp_path / "net.npz")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == f"[Errno 28] No space left on device: '{tmp_path / 'net.npz'}'\n"
    assert "Exception ignored" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
import numpy as np
from funcnn import checkpoints

step = 0
while True:
    step += 1
    checkpoints.save(sys.argv[1], {"w": np.full(200_000, step)}, {"step": step})
    print(step, flush=True)
"""


def killed_while_writing(file: Path, moment: float) -> int:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    params, meta = checkpoints.load(file)
    assert np.array_equal(params["w"], np.full(200_000, meta["step"]))
    done = process.stdout.read().split()
    process.stdout.close()
    if done:
        assert meta["step"] in (int(done[-1]), int(done[-1]) + 1)
    return int(meta["step"])


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_process_killed_while_it_writes_leaves_a_whole_file(tmp_path: Path) -> None:
    for moment in (0.0, 0.013, 0.029):
        killed_while_writing(tmp_path / "net.npz", moment)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_process_killed_twenty_times_leaves_a_whole_file(tmp_path: Path) -> None:
    for i in range(20):
        killed_while_writing(tmp_path / "net.npz", 0.0034 * i)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, ValueError])
def test_what_stops_a_save_between_two_entries_arrives_as_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    """An interrupt may fall where an entry of the archive is open and nobody holds it yet."""
    file = tmp_path / "net.npz"
    checkpoints.save(file, {"w": np.zeros(3)})
    before = file.read_bytes()
    opened = zipfile.ZipFile.open

    def stopped(*arguments: Any, **named: Any) -> Any:
        entry = opened(*arguments, **named)  # open for as long as this frame lives
        raise stop("now" if entry.writable() else "closed")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", stopped)
        with pytest.raises(stop, match="now"):
            checkpoints.save(file, {"w": np.ones(3)})
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


# --- what is remembered comes back as it is, or is refused --------------------------------------------


class Kind(str, enum.Enum):  # noqa: UP042 - prints as `Kind.WEIGHT`
    WEIGHT = "weight"


class Count(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


def nested(levels: int, leaf: Any = 1) -> Any:
    for _ in range(levels):
        leaf = [leaf]
    return leaf


def circle() -> list[Any]:
    made: list[Any] = []
    made.append([made, made])
    return made


REMEMBERED: list[Any] = [
    None, True, False, 0, 1, -1, 2**53 + 1, -(2**63), 10**400, 10**4200,
    0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf,
    "", "é", "\0", "\n\u2028", "\U0001f600", "a/b", "NaN", "null", '"',
    [], [[]], {}, {"": 1}, {"a": {"b": [1, {"c": None}]}}, {"b": 0, "a.b": 1, "a/b": 2, "..": 3},
    nested(100), nested(300),
]  # fmt: skip
CHANGED_BY_JSON: list[Any] = [
    10**4300, 1 << 100_000, "\ud800", "\ud83d\ude00",
    (), (1, 2), [1, (2,)], {"a": ((),)}, {1, 2}, frozenset(), range(3), b"x", bytearray(b"x"), 1j,
    {1: "a", "1": "b"}, {1: 2}, {None: 1}, {True: 1}, {1.5: 1}, {(1, 2): 1}, {"\ud800": 1},
    {"a": {2: 1}}, {np.str_("a"): 1}, {Kind.WEIGHT: 1}, {Text("a"): 1},
    np.float32(0.1), np.float64(0.1), np.int64(3), np.bool_(True), np.str_("a"), np.ones(2),
    np.ones(()), Kind.WEIGHT, Count.ONE, Text("text"), collections.OrderedDict(a=1),
    collections.Counter("a"), collections.defaultdict(list), os.stat("/"), decimal.Decimal(1),
    Path("a"), print, int, object(), Ellipsis, NotImplemented, datetime.date(2020, 1, 1),
    nested(701), nested(100_000), circle(),
]  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Equal, of the same types all the way down, in the same order, NaN as itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (a != a and b != b)
    return bool(a == b)


@pytest.mark.parametrize("value", REMEMBERED, ids=range(len(REMEMBERED)))
def test_what_is_remembered_comes_back_the_same(tmp_path: Path, value: Any) -> None:
    for meta in ({"odd": value}, {"a": 1, "odd": [value], "b": {"c": value}}):
        checkpoints.save(tmp_path / "net.npz", {"w": np.ones(1)}, meta)
        assert same(checkpoints.load(tmp_path / "net.npz")[1], meta)


@pytest.mark.parametrize("value", CHANGED_BY_JSON, ids=range(len(CHANGED_BY_JSON)))
def test_what_would_come_back_as_something_else_is_not_remembered(tmp_path: Path, value: Any) -> None:
    for meta in ({"odd": value}, {"a": 1, "odd": [value], "b": "text"}):
        with pytest.raises(TypeError, match=r"^save: `meta` must .*('odd|levels)") as caught:
            checkpoints.save(tmp_path / "net.npz", {"w": np.ones(1)}, meta)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("meta", [(), [], 3, "a", {1: "a", "1": "b"}, collections.OrderedDict(a=1)])
def test_what_is_no_dict_of_names_is_not_remembered(tmp_path: Path, meta: Any) -> None:
    with pytest.raises(TypeError, match=r"^save: `meta` must "):
        checkpoints.save(tmp_path / "net.npz", {}, meta)


ODD_KEYS: list[Any] = [
    1, None, True, 1.5, ("a",), b"a", "", ".", "..", "a.b", "a/b", "/", "\\", "a\\b", "\0", "\ud800",
    np.str_("a"), Kind.WEIGHT, Text("a"), "é", "e\u0301", " ", "a b", "\n", "\u2028", "\U0001f600", "*",
    "funcnn", "__metadata__", "con", "a:b", "~", "x" * 50_000, "x" * 70_000, "'", '"', "%s", "{}",
]  # fmt: skip


@pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("save", "load"),
    [
        (checkpoints.save, lambda file: checkpoints.load(file)[0]),
        (checkpoints.save_safetensors, checkpoints.load_safetensors),
    ],
    ids=["npz", "safetensors"],
)
def test_every_key_comes_back_or_is_refused(
    tmp_path: Path, save: Any, load: Any, nested: bool, key: Any
) -> None:
    params = {"a1": np.zeros(2), key: {"w": np.ones(1)} if nested else np.ones(1)}
    try:
        save(tmp_path / "net", params)
    except (RefusedType, RefusedValue) as refusal:
        text = str(refusal)
        assert text.startswith("save: ")
        assert text.isprintable(), text
        assert len(text) < 300, text
        assert list(tmp_path.iterdir()) == []
    else:
        found = load(tmp_path / "net")
        assert same(list(found), list(params)) or same(sorted(found), sorted(params))
        assert tree.equal(found, params)


@pytest.mark.parametrize("byte", [2, 7, 128, 255])
def test_booleans_that_are_none_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, byte: int
) -> None:
    """NumPy would compute with them as with other numbers than 1, or not, by chance."""
    odd = np.array([[0, 1, byte]], np.uint8).view(bool).T
    with monkeypatch.context() as patch:
        patch.setattr("funcnn.files.are_booleans", lambda _: True)
        checkpoints.save(tmp_path / "odd.npz", {"w": odd})
        checkpoints.save_safetensors(tmp_path / "odd.st", {"w": odd})
    for save in (checkpoints.save, checkpoints.save_safetensors):
        with pytest.raises(TypeError, match=r"got booleans that are neither false nor true at 'w'"):
            save(tmp_path / "other", {"w": odd})
    np.save(tmp_path / "odd.npy", odd)
    np.savez(tmp_path / "set.npz", x=odd, y=odd)
    for read in (
        lambda: checkpoints.load(tmp_path / "odd.npz"),
        lambda: checkpoints.load_safetensors(tmp_path / "odd.st"),
        lambda: data.read_npz(tmp_path / "set.npz"),
        lambda: data.read_npy(tmp_path / "odd.npy", tmp_path / "odd.npy"),
    ):
        with pytest.raises(ValueError, match="it has booleans that are neither false nor true"):
            read()


@pytest.mark.parametrize("save", [checkpoints.save, checkpoints.save_safetensors])
def test_remarks_on_a_dtype_are_left_out(tmp_path: Path, save: Any) -> None:
    for dtype in ("f4", ">f4", "?"):
        remarked = np.dtype(dtype, metadata={"unit": "m"})
        save(tmp_path / "net", {"w": np.ones(2).astype(remarked), "b": np.ones((), remarked)})
        save(tmp_path / "plain", {"w": np.ones(2, dtype), "b": np.ones((), dtype)})
        assert (tmp_path / "net").read_bytes() == (tmp_path / "plain").read_bytes()


# --- odd places ---------------------------------------------------------------------------------------


def test_a_hard_link_keeps_what_it_had(tmp_path: Path) -> None:
    file = written(tmp_path, {"w": np.ones(2)})
    os.link(file, tmp_path / "kept.npz")
    written(tmp_path, {"w": np.zeros(2)})
    assert tree.equal(checkpoints.load(tmp_path / "kept.npz")[0], {"w": np.ones(2)})
    assert tree.equal(checkpoints.load(file)[0], {"w": np.zeros(2)})


@pytest.mark.skipif(os.name != "posix", reason="needs modes")
def test_a_file_that_ran_as_its_owner_does_so_no_more(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.chmod(0o6755)
    written(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o755


IN_A_SMALL_PLACE = """
import os, resource, signal, sys
from importlib.util import find_spec
import numpy as np
import funcnn
from funcnn import checkpoints, data, dense, fit, mean_squared_error, random, sgd
from funcnn.plots import html_report
net, ones = dense(2000), np.ones((8, 1), np.float32)
params = net.init(random.key(0), (1, 3))[1]
one = dense(1)
rest = {"key": random.key(0), "epochs": 200, "progress": False, "workers": 1}
rows = data.Dataset(ones, ones)
def run(**options):
    fit(one, mean_squared_error(), sgd(0.1), rows, **rest, **options)
os.chdir(sys.argv[1])
checkpoints.save("old", {"w": ones})
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for write in (
    lambda: checkpoints.save("old", params), lambda: checkpoints.save_safetensors("old", params),
    lambda: funcnn.save("old", net, params), lambda: checkpoints.write_whole("old", bytes(5000)),
    lambda: run(log="log"), lambda: run(checkpoint="run"),
    *([lambda: html_report("old", one, one.init(random.key(0), (1, 1))[1], {"loss": np.ones(9)})]
      if find_spec("matplotlib") else []),
):
    try:
        write()
    except OSError as problem:
        print(problem)
print(checkpoints.load("old")[0]["w"].sum(), sorted(set(os.listdir()) - {"run"}))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs limits")
def test_a_full_disk_is_named_by_every_writer_and_the_old_file_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", IN_A_SMALL_PLACE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    assert last == "8.0 ['log', 'old']"
    names = [*["old"] * 4, "log", "run", *["old"] * bool(find_spec("matplotlib"))]
    assert lines == [f"[Errno 27] File too large: '{name}'" for name in names]


SEVERAL_TIMES = """
import sys
import numpy as np
from funcnn import checkpoints
for _ in range(40):
    checkpoints.save(sys.argv[1], {"w": np.full(1000, float(sys.argv[2]))})
"""


def test_processes_that_write_one_file_leave_that_of_one_of_them(tmp_path: Path) -> None:
    file = written(tmp_path, {"w": np.zeros(1000)})
    command = [sys.executable, "-c", SEVERAL_TIMES, str(file)]
    writers = [subprocess.Popen([*command, str(i)]) for i in (1, 2)]
    while any(writer.poll() is None for writer in writers):
        found = checkpoints.load(file)[0]["w"]
        assert set(found.tolist()) in ({0.0}, {1.0}, {2.0})
    assert [writer.returncode for writer in writers] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ("text", TypeError, "`content` must be bytes, got 'text'"),
        (None, TypeError, "`content` must be bytes, got None"),
        (3, TypeError, "`content` must be bytes, got 3"),
        ([1], TypeError, r"`content` must be bytes, got \[1\]"),
        (memoryview(b"abcd")[::2], ValueError, "`content` must be bytes in one piece"),
    ],
)
def test_what_is_no_bytes_is_not_written(
    tmp_path: Path, content: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^write_whole: {message}$"):
        checkpoints.write_whole(tmp_path / "file", content)
    assert list(tmp_path.iterdir()) == []


# --- other orders of bytes ----------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_of_another_order_of_bytes_are_kept_and_refused_by_layers(
    tmp_path: Path, order: str, mapped: bool
) -> None:
    """Files, data sets and labels take both; layers say which cast to write."""

    def given_as(array: Array) -> Array:
        found = np.asarray(array, array.dtype.newbyteorder(order))  # type: ignore[arg-type]
        if mapped:
            file = tmp_path / f"{tree.leaves({'x': found})[0][0]}{found.dtype}{found.shape}.npy"
            np.save(file, found)
            return np.load(file, mmap_mode="r")  # type: ignore[no-any-return]
        return found

    net, key = serial(dense(4), dense(2)), random.key(0)
    x = random.normal(key, (40, 3))
    y = (x[:, 0] > 0).astype(np.int64)
    params = net.init(key, (1, 3))[1]
    other = tree.map(given_as, params)
    file = tmp_path / "net"
    checkpoints.save(file, params)
    content = file.read_bytes()
    checkpoints.save(file, other)
    assert file.read_bytes() == content
    assert tree.equal(checkpoints.load(file, like=other)[0], params)
    checkpoints.save_safetensors(file, other)
    assert tree.equal(checkpoints.load_safetensors(file), params)
    loss = softmax_cross_entropy()
    rows = data.Dataset(given_as(x), given_as(y))
    part = data.split(key, rows, 0.5)[0]
    assert part.x.dtype == rows.x.dtype
    wanted = loss.apply(net.apply(params, x)[0], y)[0]
    assert loss.apply(net.apply(params, x)[0], rows.y)[0] == wanted
    if np.dtype(f"{order}f4").isnative:
        assert evaluate(net, params, rows, loss)["loss"] == pytest.approx(wanted, rel=1e-6)
        assert np.array_equal(net.apply(other, x)[0], net.apply(params, x)[0])
        return
    cast = "must be float32 or float64, got [<>]f4: write .*astype"
    for run in (
        lambda: net.apply(params, rows.x), lambda: net.apply(other, x),
        lambda: evaluate(net, params, rows, loss), lambda: predict(net, params, rows.x),
        lambda: adam(0.1).init(other),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=cast):
            run()
