"""Readers of other people's files: what is declared is compared with what is there."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import data
from funcnn.types import Array

X, Y = np.arange(12, dtype="<f4").reshape(4, 3), np.arange(4)  # as the headers below say, everywhere
MEBIBYTE = 1 << 20


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """No more memory than this at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def refused(read: Callable[[], object], message: str, limit: int = MEBIBYTE) -> None:
    with at_most(limit), pytest.raises(ValueError, match=message) as caught:
        read()
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def npy(array: Array, **change: bytes) -> bytes:
    """A `.npy` file; of `change`, words of its header and what stands there instead."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    content = buffer.getvalue()
    if change:
        length = 10 + struct.unpack_from("<H", content, 8)[0]
        header = content[10:length].strip()
        for old, new in change.items():
            assert old.encode() in header
            header = header.replace(old.encode(), new)
        content = content[:8] + struct.pack("<H", len(header)) + header + content[length:]
    return content


def npz(file: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file


# --- npz and npy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", "<i2", ">u8", "?", "u1", "<f2"])
def test_arrays_come_back_in_the_order_of_bytes_of_this_machine(
    tmp_path: Path, dtype: str, order: Any, packed: bool
) -> None:
    x = np.asarray(X.astype(dtype), order=order)
    save: Any = np.savez_compressed if packed else np.savez
    save(tmp_path / "set.npz", x=x, y=Y.astype(">i4"))
    found = data.read_npz(tmp_path / "set.npz")
    assert np.array_equal(found.x, x)
    assert found.x.dtype == np.dtype(dtype).newbyteorder("=")
    assert found.y.dtype == np.int32
    assert found.y.tolist() == [0, 1, 2, 3]
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", Y)
    mapped = data.read_npy(tmp_path / "x.npy", tmp_path / "y.npy")
    assert np.array_equal(mapped.x, x)
    assert not mapped.x.flags.writeable


@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.zeros((0,)), np.zeros((0, 3, 0), np.int8)])
def test_empty_sets_are_read(tmp_path: Path, x: Array) -> None:
    y = np.zeros(0, int)
    np.savez(tmp_path / "set.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    for found in (
        data.read_npz(tmp_path / "set.npz"),
        data.read_npy(tmp_path / "x.npy", tmp_path / "y.npy"),
    ):
        assert found.x.shape == x.shape
        assert found.x.dtype == x.dtype


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    for name, array in (("x", X), ("y", Y)):
        with open(tmp_path / f"{name}.npy", "wb") as file:
            np.lib.format.write_array(file, array, version)
    npz(tmp_path / "set.npz", {name: (tmp_path / f"{name}.npy").read_bytes() for name in "xy"})
    for found in (
        data.read_npz(tmp_path / "set.npz"),
        data.read_npy(tmp_path / "x.npy", tmp_path / "y.npy"),
    ):
        assert np.array_equal(found.x, X)
        assert np.array_equal(found.y, Y)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3), }",
        b"{'shape': (4,3), 'descr':'<f4', 'fortran_order':False}",  # as other programs write it
        b"{ 'fortran_order' : False , 'shape' : ( 4 , 3 , ) , 'descr' : '<f4' }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 3L), }",  # as Python 2 did
    ],
)
def test_headers_of_every_style_are_read(tmp_path: Path, header: bytes) -> None:
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + X.tobytes()
    npz(tmp_path / "set.npz", {"x": content, "y": npy(Y)})
    assert np.array_equal(data.read_npz(tmp_path / "set.npz").x, X)


BROKEN_NPY = [
    b"",
    b"\x93NUMPY",
    b"\x93NUMPX\1\0",
    b"\x93NUMPY\4\0\0\0",
    b"\x93NUMPY\2\0\xff\xff\xff\xff{",
    npy(X)[:-1],
    npy(X) + b"1",
    npy(np.array([None] * 4)),
    npy(np.array(["a"] * 4)),
    npy(np.ones(4, "f4,f4")),
    npy(np.ones(4, np.longdouble)),
    npy(np.ones(4, complex)),
    npy(np.ones(4, "M8[s]")),
    npy(X, **{"(4, 3)": b"(-4, -3)"}),
    npy(X, **{"(4, 3)": b"(4, 3, 0)"}),
    npy(X, **{"(4, 3)": b"(4, 99999999999999999999)"}),
    npy(X, **{"(4, 3)": b"(%d,)" % (1 << 45)}),
    npy(X, **{"(4, 3)": b"(" + b"4," * 100 + b")"}),
    npy(X, **{"(4, 3)": b"(" + b"9" * 5000 + b",)"}),
    npy(X, **{"(4, 3)": b"(4, 3" + b"("}),
    npy(X, **{"(4, 3)": b"(4 3)"}),
    npy(X, **{"(4, 3)": b"12"}),
    npy(X, **{"(4, 3)": b"(4.0, 3)"}),
    npy(X, **{"(4, 3)": b"[4, 3]"}),
    npy(X, **{"(4, 3)": b"True"}),
    npy(X, **{"False": b"0"}),
    npy(X, **{"False": b"(4, 3)"}),
    npy(X, **{"<f4": b"<f3"}),
    npy(X, **{"<f4": b"<<f4"}),
    npy(X, **{"<f4": b"float32"}),
    npy(X, **{"<f4": b"f" * 9000}),
    npy(X, descr=b"desc"),
    npy(X, **{"'descr'": b"descr"}),
    npy(X, descr=b"shape"),
    npy(X, **{", }": b", 'more': True}"}),
    npy(X, **{", }": b", 'shape': (4, 3)}"}),
    npy(X, **{", }": b"}; import os"}),
    npy(X, **{"{": b"{" * 500}),
    npy(X, **{"{": b"(" * 9000}),
    npy(X, **{"{": b"\xff"}),
    npy(X, **{"{": b"{" + b" " * 9000 + b"'"}),
    npy(X, **{"{": b"{" + b" " * 20_000}),
]


@pytest.mark.parametrize("content", BROKEN_NPY, ids=range(len(BROKEN_NPY)))
def test_broken_npy_is_refused_alone_and_in_an_archive(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.npy"
    file.write_bytes(content)
    np.save(tmp_path / "y.npy", Y)
    refused(lambda: data.read_npy(file, tmp_path / "y.npy"), r"^read_npy: .*broken\.npy must be")
    refused(lambda: data.read_npy(tmp_path / "y.npy", file), r"^read_npy: .*broken\.npy must be")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        npz(tmp_path / "set.npz", {"x": content, "y": npy(Y)}, method)
        refused(lambda: data.read_npz(tmp_path / "set.npz"), r"^read_npz: .*set\.npz must be a whole ")


def test_128_tebibytes_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """Whatever the archive says of the size: no stream is packed to less than its 1,032nd part."""
    claims = npy(X, **{"(4, 3)": b"(%d,)" % (1 << 45)})
    file = npz(tmp_path / "set.npz", {"x": claims, "y": npy(Y)})
    refused(lambda: data.read_npz(file), r"float32 \(35184372088832,\) takes 140737488355\d+ bytes")
    whole = npz(file, {"x": npy(X), "y": npy(Y)}, zipfile.ZIP_DEFLATED).read_bytes()
    size = struct.pack("<I", len(npy(X)))
    file.write_bytes(whole.replace(size, struct.pack("<I", 0xF0000000)))
    refused(lambda: data.read_npz(file), "'x.npy' cannot have 4026531840 bytes")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_numpy_does_not_write_is_not_unpacked(tmp_path: Path, method: int) -> None:
    """Neither of these packers can say how long a piece becomes."""
    zeros = npy(np.zeros((4, 1_000_000)))
    npz(tmp_path / "set.npz", {"x": zeros, "y": npy(Y)}, method)
    assert (tmp_path / "set.npz").stat().st_size < 50_000
    refused(lambda: data.read_npz(tmp_path / "set.npz"), f"'x.npy' is packed by method {method}")


def test_what_is_lawfully_small_takes_what_it_declares(tmp_path: Path) -> None:
    zeros = np.zeros((4, 1_000_000), np.float32)
    np.savez_compressed(tmp_path / "set.npz", x=zeros, y=Y)
    with at_most(zeros.nbytes + 4 * MEBIBYTE):
        assert data.read_npz(tmp_path / "set.npz").x.shape == (4, 1_000_000)


@pytest.mark.parametrize(("offset", "value"), [(0, 1), (0, 0x20), (0, 0x40), (2, 99), (2, 9), (2, 12)])
def test_encrypted_members_and_unknown_methods_are_refused(
    tmp_path: Path, offset: int, value: int
) -> None:
    whole = npz(tmp_path / "set.npz", {"x": npy(X), "y": npy(Y)}).read_bytes()
    altered = bytearray(whole)
    at = whole.find(b"PK\1\2")
    altered[at + 8 + offset] = value
    (tmp_path / "set.npz").write_bytes(altered)
    refused(lambda: data.read_npz(tmp_path / "set.npz"), r"^read_npz: .*must be a whole \.npz file: ")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    npz(tmp_path / "set.npz", {"x": npy(X), "y": npy(Y)})
    with zipfile.ZipFile(tmp_path / "set.npz", "a") as archive:
        archive.writestr("x.npy", npy(X + 1))
    refused(lambda: data.read_npz(tmp_path / "set.npz"), "a name is there twice")


def test_many_names_make_no_long_message(tmp_path: Path) -> None:
    npz(tmp_path / "set.npz", {f"array number {i}": npy(Y) for i in range(1000)})
    refused(lambda: data.read_npz(tmp_path / "set.npz"), "it has no 'x', only", 4 * MEBIBYTE)


def test_a_directory_of_more_members_than_there_is_room_for_takes_no_memory(tmp_path: Path) -> None:
    count, fields = 5000, struct.pack("<6H3I5H2I", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    directory = b"".join(b"PK\1\2" + fields + b"x" for _ in range(count))
    end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, count, count, len(directory), 0, 0)
    (tmp_path / "set.npz").write_bytes(directory + end)
    refused(lambda: data.read_npz(tmp_path / "set.npz"), "it names more members than it has room for")


def test_many_small_arrays_and_arrays_like_directories_are_read(tmp_path: Path) -> None:
    small: dict[str, Any] = {f"a{i}": np.zeros((), np.int8) for i in range(1000)}
    np.savez(tmp_path / "set.npz", **small, x=np.full(5000, 0x02014B50, "<i4"), y=np.arange(5000))
    assert data.read_npz(tmp_path / "set.npz").x[0] == 0x02014B50


@pytest.mark.parametrize("name", [3, None, b"x", ["x"]])
def test_names_of_arrays_are_texts(tmp_path: Path, name: Any) -> None:
    npz(tmp_path / "set.npz", {"x": npy(X), "y": npy(Y)})
    with pytest.raises(TypeError, match=r"^read_npz: `y` must be a str, got "):
        data.read_npz(tmp_path / "set.npz", "x", name)


# --- IDX ----------------------------------------------------------------------------------------------


def idx(shape: tuple[int, ...], content: bytes, code: int = 8) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


def test_a_gzip_file_is_unpacked_no_further_than_it_says(tmp_path: Path) -> None:
    file = tmp_path / "bomb.gz"
    file.write_bytes(gzip.compress(idx((10,), bytes(50 * MEBIBYTE))))
    refused(lambda: data.read_idx(file), r"must have 18 bytes for shape \(10,\), got more")


@pytest.mark.parametrize("shape", [(1 << 31,), (1 << 20, 1 << 20), (1 << 31,) * 9])
def test_a_gzip_file_that_claims_too_much_takes_no_memory(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    file = tmp_path / "claim.gz"
    file.write_bytes(gzip.compress(idx(shape, bytes(1000), 0x0E)))
    refused(lambda: data.read_idx(file), r"must have \d+ bytes for shape .*, got \d+ zipped")


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(idx((10,), bytes(9))),
        gzip.compress(idx((10,), bytes(11))),
        gzip.compress(idx((10,), bytes(10)))[:-8] + bytes(8),  # a wrong sum
        gzip.compress(idx((10,), bytes(10))) + b"more",
        gzip.compress(b""),
        gzip.compress(gzip.compress(idx((10,), bytes(10)))),
        b"\x1f\x8b",
        b"\x1f\x8b\x07" + bytes(20),
        bz2.compress(idx((10,), bytes(10))),
        gzip.compress(bytes([0, 0, 8, 65]) + b"\0\0\0\1" * 65 + b"x"),
        gzip.compress(bytes([0, 0, 8, 3]) + bytes(4) + b"\xff" * 8),
    ],
    ids=range(11),
)
def test_broken_gzip_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.gz").write_bytes(content)
    refused(lambda: data.read_idx(tmp_path / "file.gz"), r"^read_idx: .*file\.gz must ")


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    content = idx((10,), bytes(range(10)))
    (tmp_path / "file.gz").write_bytes(gzip.compress(content[:12]) + gzip.compress(content[12:]))
    assert data.read_idx(tmp_path / "file.gz").tolist() == list(range(10))


def test_idx_takes_the_memory_of_its_array(tmp_path: Path) -> None:
    values = np.arange(MEBIBYTE, dtype=">i4")
    (tmp_path / "file").write_bytes(idx(values.shape, values.tobytes(), 0x0C))
    (tmp_path / "file.gz").write_bytes(gzip.compress((tmp_path / "file").read_bytes(), 1))
    for file in (tmp_path / "file", tmp_path / "file.gz"):
        with at_most(values.nbytes + 4 * MEBIBYTE):
            found = data.read_idx(file)
        assert found.dtype == np.int32
        assert found.dtype.isnative
        assert np.array_equal(found, values)


# --- CIFAR-10 -----------------------------------------------------------------------------------------


def test_cifar10_takes_twice_its_files_and_what_it_gives(tmp_path: Path) -> None:
    for i in range(1, 6):
        (tmp_path / f"data_batch_{i}.bin").write_bytes(bytes(3073 * 200))
    with at_most(5 * 200 * 3073 * (2 + 4) + MEBIBYTE):
        assert data.cifar10(tmp_path).x.shape == (1000, 3, 32, 32)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").mkdir()
    refused(lambda: data.cifar10(tmp_path, "test"), r"^cifar10: .* must hold test_batch\.bin$")


# --- CSV ----------------------------------------------------------------------------------------------


def test_a_table_takes_the_memory_of_its_numbers(tmp_path: Path) -> None:
    line = ",".join(["12"] * 20)
    (tmp_path / "table.csv").write_text(f"{line}\n" * 20_000)
    with at_most(20_000 * (19 * 4 + 8) * 3 // 2 + MEBIBYTE):
        found = data.read_csv(tmp_path / "table.csv", header=False)
    assert found.x.shape == (20_000, 19)
    assert found.y.tolist() == [12] * 20_000
    assert found.x.flags.writeable


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            ",".join(f"name{i}" for i in range(5000)) + "\n" + "1," * 4999 + "1\n",
            "must have a column 'b'",
        ),
        (f"a,b\n{'9' * 9000},1\n", "must have a number in line 2, column 1, got"),
        (f"a,b\n{'x' * 200_000},1\n", "must be a table in UTF-8: field larger than field limit"),
        ("a,b\n1\x00,1\n", "must (have a number in line 2, column 1|be a table in UTF-8)"),
        ("a,b\n1,\u2028\n", "must have a number in line 2, column 2, got"),
        ("a,b\n1,1e999999999\n", "must have a number in line 2, column 2"),
        ("a,b\n1,0x10\n", "must have a number in line 2, column 2"),
        ("a,b\n1,inf\n", "must have a number in line 2, column 2"),
        ("a,b\n" + '"' * 3 + "\n", "must be a table in UTF-8"),
    ],
)
def test_strange_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    target = "b" if "column 'b'" in message else -1
    refused(
        lambda: data.read_csv(tmp_path / "table.csv", target), f"^read_csv: .*table.csv {message}",
        4 * MEBIBYTE,
    )  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="needs pipes and devices")
def test_a_pipe_is_a_table_and_a_device_is_none(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"1,2,0\n3,4,1\n")
    os.close(writing)
    found = data.read_csv(f"/dev/fd/{reading}", header=False)
    os.close(reading)
    assert found.x.tolist() == [[1, 2], [3, 4]]
    refused(lambda: data.read_csv("/dev/zero"), "^read_csv: /dev/zero must be a regular file")
    refused(lambda: data.read_idx("/dev/zero"), "^read_idx: /dev/zero must be a regular file")
    refused(lambda: data.read_npz("/dev/zero"), "^read_npz: /dev/zero must be a regular file")
    refused(lambda: data.read_npy("/dev/zero", "x"), "^read_npy: /dev/zero must be a regular file")
