"""Files: paths, whole writes, and readers that take nothing on trust.

A file may come from a stranger. Each reader compares what a file says it holds with what is there
before it takes memory for it, and refuses a broken file in one line.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Iterator
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, NoReturn

import numpy as np

from funcnn import checks
from funcnn.types import Array

NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}  # on every machine
_SMALLEST_MEMBER = 150  # bytes: a header of 64, and the name with two of the archive's
NO_BOOLEANS = "booleans that are neither false nor true"
NPY = b"\x93NUMPY"
_CHUNK = 1 << 20
_LARGEST_HEADER = 10_000  # bytes of a `.npy` header, NumPy's own limit
DEFLATE = 1032  # no deflated stream becomes longer than so many times itself


# --- refusals -----------------------------------------------------------------------------------------


def refuse(path: str | PathLike[str], text: str) -> NoReturn:
    """Refuse a file in one line, however long its name and what it holds."""
    checks.refuse(f"{short_path(path)} {short(text)}")


def short(text: str, length: int = 180, start: int = 120) -> str:
    """So many characters at most, on one line; of a longer text the start and the end."""
    line = text if text.isprintable() else ascii(text)[1:-1]
    return line if len(line) <= length else f"{line[:start]}...{line[start + 3 - length :]}"


def apart(got: str, wanted: str) -> tuple[str, str]:
    """Two texts on one line each; of long ones, what stands where they begin to differ."""
    pairs = enumerate(zip(got, wanted, strict=False))
    first = next((i for i, (a, b) in pairs if a != b), min(len(got), len(wanted)))

    def shown(text: str) -> str:
        start = max(0, first - 20) if max(len(got), len(wanted)) > 48 else 0
        return f"{'...' if start else ''}{short(text[start:], 48, 40)}"

    return shown(got), shown(wanted)


def short_path(path: str | PathLike[str]) -> str:
    """A path in a message: of a long one, the end."""
    return short(os.fspath(path), 80, 0)


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Let an error of the system name the file that was asked for, on one line."""
    try:
        yield
    except OSError as problem:
        shown = path if len(repr(path)) <= 200 else short_path(path)
        raise OSError(problem.errno, problem.strerror, shown) from None


@contextlib.contextmanager
def whole(path: str, what: str) -> Iterator[None]:
    """Refuse a file that makes a reader raise anything but a refusal of its own.

    A broken archive makes `zipfile` raise almost anything. An error of the disk stays what it is.
    """
    try:
        yield
    except checks.Refusal:
        raise
    except OSError as problem:
        if problem.errno not in (None, errno.EINVAL):  # a place before the start of the file
            raise
        refuse(path, f"must be {what}: {problem}")
    except Exception as problem:
        refuse(path, f"must be {what}: {str(problem) or type(problem).__name__}")


# --- paths --------------------------------------------------------------------------------------------


def checked_path(value: object, name: str = "path") -> str:
    """A path as text: not an int, which `open` takes for an open file, nor bytes."""
    found = value.__fspath__() if isinstance(value, PathLike) else value
    if not isinstance(found, str):
        checks.refuse_type(f"`{name}` must be a str or os.PathLike, got {checks.shown(value)}")
    try:
        valid = b"\0" not in os.fsencode(found)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        got = short(ascii(found))
        checks.refuse(f"`{name}` must be what the system can name, got {got}")
    return found


def checked_folder(value: object) -> str:
    """A folder, there or not."""
    found = checked_path(value, "directory")
    if not found:
        checks.refuse("`directory` must be a name, got '': write '.' for the folder that one is in")
    return found


def _status(path: str, *, pipes: bool = False) -> os.stat_result | None:
    """What is there, which must be a file: a device may have no end, a pipe nobody at the other one."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    kind = stat.S_IFMT(found.st_mode)
    unnamed = pipes and kind == stat.S_IFIFO and not os.path.exists(os.path.realpath(path))
    if kind not in (stat.S_IFREG, stat.S_IFDIR) and not unnamed:
        refuse(path, "must be a regular file, got a device, a pipe or a socket")
    return found


def opened(path: str, *, pipes: bool = False) -> BinaryIO:
    """A file to read, from any place in it unless it may be a pipe, which a process has open."""
    with named(path):
        _status(path, pipes=pipes)
        return open(path, "rb")


def size(file: BinaryIO) -> int:
    """Bytes in an open file."""
    return os.fstat(file.fileno()).st_size


# --- writing ------------------------------------------------------------------------------------------


def check_target(path: str) -> os.stat_result | None:
    """What a file would replace; where none can be put, what the system would say to it."""
    with named(path):
        old = _status(path)
        if not path or path.endswith(("/", os.sep)) or (old and stat.S_ISDIR(old.st_mode)):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not os.path.isdir(os.path.dirname(os.path.realpath(path))):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return old


def same(one: str, other: str) -> bool:
    """Whether two paths lead to one file, which need not be there yet."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.normcase(os.path.realpath(one)) == os.path.normcase(os.path.realpath(other))


def write(path: str, content: bytes | memoryview) -> None:
    """Write beside the file, force to the disk, rename: see `checkpoints.write_whole`."""
    with named(path):
        _replace(path, content, check_target(path))


def append(path: str, lines: bytes, *, anew: bool = False) -> None:
    """Write to the end of a file, or to a new one."""
    with named(path):
        _status(path)
        with open(path, "wb" if anew else "ab") as file:
            file.write(lines)


def _replace(path: str, content: bytes | memoryview, old: os.stat_result | None) -> None:
    target = Path(os.path.realpath(path))  # a link stays one, to the new file
    partial = target.with_name(f".{target.name[:16]}.{secrets.token_hex(4)}.partial")
    try:
        mode = _mode(old) if old else 0o666
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        handle = os.open(partial, flags, mode)
        with open(handle, "wb") as file:
            file.write(content)
            if old:
                _keep_owner_and_mode(handle, old)
            file.flush()
            os.fsync(handle)
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    with contextlib.suppress(OSError):  # the rename, too, should reach the disk; the file is there
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _keep_owner_and_mode(handle: int, old: os.stat_result) -> None:
    if os.name == "posix":
        if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            with contextlib.suppress(OSError):
                os.fchown(handle, old.st_uid, old.st_gid)
        os.fchmod(handle, _mode(old))


def _mode(old: os.stat_result) -> int:
    """Who may read and write; that it runs as its owner, no file keeps that is written to."""
    return stat.S_IMODE(old.st_mode) & 0o777


# --- reading ------------------------------------------------------------------------------------------


def fill(file: BinaryIO, found: Array) -> Array:
    """An array, whose memory is in one piece, with the next bytes of a file."""
    left = found.ravel(order="K").view(np.uint8).data
    while left:
        count = file.readinto(left[:_CHUNK])  # type: ignore[attr-defined]
        if not count:
            raise EOFError(f"it ends {len(left)} bytes early")
        left = left[count:]
    return checked_booleans(found)


def are_booleans(found: Array) -> bool:
    """Whether bytes are 0 and 1, if they say so: with others NumPy computes what it likes."""
    return found.dtype.kind != "b" or bool(found.view(np.uint8).max(initial=0) <= 1)


def checked_booleans(found: Array) -> Array:
    """An array from a file, if its booleans are some."""
    if not are_booleans(found):
        raise ValueError(f"it has {NO_BOOLEANS}")
    return found


def native(found: Array) -> Array:
    """An array of one's own in the machine's byte order."""
    if found.dtype.isnative:
        return found
    return found.byteswap(inplace=True).view(found.dtype.newbyteorder("="))


def json_object(text: bytes, *, finite: bool = True) -> dict[str, Any]:
    """A JSON object whose keys are there once; with NaN and infinity, which JSON has not, if told."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name is there twice")
        return found

    def never(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON")

    constant = never if finite else float
    found = json.loads(text.decode(), object_pairs_hook=once, parse_constant=constant)
    if not isinstance(found, dict):
        raise ValueError("its header is no JSON object")
    return found


_TUPLE = r"\(\s*(?:\d+L?\s*(?:,\s*|(?=\))))*\)"  # an L is Python 2's
_ITEM = rf"\s*'(\w+)'\s*:\s*('[^'\\]*'|True|False|{_TUPLE})\s*"
_ITEMS = re.compile(_ITEM + ",?")
_LITERAL = re.compile(rf"\{{(?:{_ITEM},)*(?:{_ITEM}|\s*)\}}\s*")


class NpyHeader(NamedTuple):
    """What a ``.npy`` file says of its array, and in how many bytes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    length: int

    def check(self, length: int) -> None:
        """Refuse a file that has not as many bytes as it says."""
        wanted = self.length + prod(self.shape) * self.dtype.itemsize
        if length != wanted:
            raise ValueError(f"{self.dtype} {self.shape} takes {wanted} bytes, got {length}")


def npy_header(file: BinaryIO) -> NpyHeader:
    """The header of a ``.npy`` file, which must be of numbers."""
    start = file.read(8)
    wide = start[6:7] in (b"\2", b"\3")
    length = file.read(4 if wide else 2)
    if start[:6] != NPY or start[6:7] not in (b"\1", b"\2", b"\3") or len(length) < 2:
        raise ValueError(f"no .npy file begins with {checks.shown(start)}")
    count = int.from_bytes(length, "little")
    text = file.read(count) if count <= _LARGEST_HEADER else b""
    literal = text.decode("latin1")
    items = _ITEMS.findall(literal) if len(text) == count and _LITERAL.fullmatch(literal) else []
    given = dict(items)
    if (
        len(items) != 3
        or given.keys() != {"descr", "fortran_order", "shape"}
        or given["fortran_order"] not in ("True", "False")
        or given["shape"][0] != "("
        or given["descr"].strip("'<>|=") not in NUMBERS
    ):
        raise ValueError(f"no array of numbers begins with {checks.shown(literal[:100])}")
    shape = tuple(map(int, re.findall(r"\d+", given["shape"])))
    dtype, order = np.dtype(given["descr"].strip("'")), given["fortran_order"]
    return NpyHeader(dtype, shape, "F" if order == "True" else "C", 8 + len(length) + count)


def npy(file: BinaryIO, length: int) -> Array:
    """A ``.npy`` file of so many bytes as an array in the machine's byte order."""
    header = npy_header(file)
    header.check(length)
    return native(fill(file, np.empty(header.shape, header.dtype, header.order)))


class _Counted:
    """A file from which `zipfile` reads the directory: of no more members than the file can have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._most = file, size(file) // _SMALLEST_MEMBER

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, count: int = -1) -> bytes:
        found = self._file.read(count)
        if found.count(b"PK\1\2") > self._most:  # with which the entry of each begins
            raise ValueError("it names more members than it has room for")
        return found


class Archive:
    """A zip archive of arrays, as `numpy.savez` writes it."""

    def __init__(self, file: BinaryIO, *, deflated: bool = False) -> None:
        counted: Any = _Counted(file)
        self._zip = zipfile.ZipFile(counted)
        self._zip.fp = file
        self._methods = {zipfile.ZIP_STORED: 1} | ({zipfile.ZIP_DEFLATED: DEFLATE} if deflated else {})
        members = self._zip.infolist()
        self._members = {member.filename: member for member in members}
        if len(members) != len(self._members):
            raise ValueError("a name is there twice")
        if sum(member.compress_size for member in members) > size(file):
            raise ValueError("its members lie over each other")

    def names(self) -> set[str]:
        return set(self._members)

    def _open(self, name: str) -> tuple[BinaryIO, int]:
        member = self._members[name]
        times = self._methods.get(member.compress_type)
        if times is None:
            raise ValueError(f"{checks.shown(name)} is packed by method {member.compress_type}")
        if member.file_size > times * member.compress_size:
            raise ValueError(f"{checks.shown(name)} cannot have {member.file_size} bytes")
        return self._zip.open(member), member.file_size  # type: ignore[return-value]

    def text(self, name: str) -> bytes:
        file, _ = self._open(name)
        with file:
            return file.read()

    def array(self, name: str) -> Array:
        file, length = self._open(name)
        with file:
            found = npy(file, length)
            file.read(1)  # at the end, the archive's own sum is checked
        return found
