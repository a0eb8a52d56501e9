"""Files to learn from: CSV, NumPy's own, and arrays that stay on the disk."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterable
from itertools import chain
from os import PathLike
from typing import Any, Literal

import numpy as np

from funcnn import checks, files
from funcnn.data.batches import Dataset
from funcnn.types import Array

__all__ = ["read_csv", "read_npy", "read_npz"]


@checks.named
def read_csv(
    path: str | PathLike[str],
    target: int | str = -1,
    *,
    kind: Literal["class", "number"] = "class",
    header: bool = True,
    delimiter: str = ",",
) -> Dataset:
    """Read a table of numbers, one column of which is to be predicted.

    Parameters
    ----------
    path : path
        The file, in UTF-8.
    target : int or str, default -1
        The column to be predicted: its place, or its name in the header.
    kind : "class" or "number", default "class"
        What is in that column: whole numbers from 0, or any numbers.
    header : bool, default True
        Whether the first line has the columns' names.
    delimiter : str, default ","
        What stands between two columns.

    Returns
    -------
    Dataset
        ``x``: float32, ``(N, columns - 1)``; ``y``: int64, ``(N,)``, or float32 for numbers.

    Raises
    ------
    ValueError
        For cells that are empty, no numbers, or not finite in float32, lines of another length,
        labels that are not whole or below 0, a column that is not there or there twice, an empty
        table; with the line's number.
    OSError
        For a file that cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "flowers.csv"
    >>> _ = file.write_text("length,width,species\\n5.1,3.5,0\\n6.2,2.9,1\\n")
    >>> read_csv(file, "species")
    Dataset(x=array([[5.1, 3.5],
           [6.2, 2.9]], dtype=float32), y=array([0, 1]))
    """
    checks.Choice("class", "number").check("kind", kind)
    checks.Flag().check("header", header)
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        checks.refuse_type(f"`delimiter` must be one character, got {delimiter!r}")
    where = files.checked_path(path)
    with (
        files.opened(where, pipes=True) as file,
        files.whole(where, "a table in UTF-8"),
    ):
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        lines = ((reader.line_num, cells) for cells in reader if cells)
        names = next(lines, (0, []))[1] if header else []
        if names and all(_is_number(cell) for cell in names):
            files.refuse(where, "must have names in line 1: write header=False")
        first = next(lines, None)
        if first is None:
            files.refuse(where, "must have at least one line of numbers")
        count = len(names or first[1])
        column = _column(where, target, names, count)
        if count < 2:
            files.refuse(where, "must have a column beside the one to be predicted")
        return _dataset(where, chain([first], lines), count, column, kind)


_LARGEST = float(np.finfo(np.float32).max)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # which Python allows between digits


def _column(path: str, target: int | str, names: list[str], count: int) -> int:
    if isinstance(target, str):
        if target not in names:
            known = files.short(", ".join(names)) or "no names"
            files.refuse(path, f"must have a column {target!r}, got {known}")
        if names.count(target) > 1:
            files.refuse(path, f"must have one column {target!r}: write its place")
        return names.index(target)
    place = checks.Integer().check("target", target)
    if not -count <= place < count:
        files.refuse(path, f"must have a column {place}, got {count} columns")
    return place % count


def _dataset(
    path: str, lines: Iterable[tuple[int, list[str]]], count: int, column: int, kind: str
) -> Dataset:
    """The numbers of a table, kept in no more memory than the data set takes."""
    x: array[float] = array("f")
    y: array[Any] = array("f" if kind == "number" else "q")
    for line, cells in lines:
        if len(cells) != count:
            files.refuse(path, f"must have {count} columns in line {line}, got {len(cells)}")
        for place, cell in enumerate(cells, 1):
            if not _is_number(cell) or not abs(float(cell)) <= _LARGEST:
                where = f"line {line}, column {place}"
                files.refuse(path, f"must have a number in {where}, got {cell!r}")
        numbers = list(map(float, cells))
        value = numbers.pop(column)
        if kind == "class" and not (value.is_integer() and 0 <= value < 2.0**53):
            got = f"got {value:g} in line {line}: or write kind='number'"
            files.refuse(path, f"must have whole numbers from 0 as classes, {got}")
        x.extend(numbers)
        y.append(value if kind == "number" else int(value))
    rows = np.frombuffer(x, np.float32).reshape(-1, count - 1)
    return Dataset(rows, np.frombuffer(y, np.float32 if kind == "number" else np.int64))


@checks.named
def read_npz(path: str | PathLike[str], x: str = "x", y: str = "y") -> Dataset:
    """Read examples and targets from a ``.npz`` file.

    Parameters
    ----------
    path : path
        The file, as `numpy.savez` writes it.
    x, y : str
        The names of the arrays.

    Returns
    -------
    Dataset
        In the dtypes of the file, and the machine's byte order.

    Raises
    ------
    ValueError
        For a file that is broken, lacks an array, holds anything but numbers and booleans of up to
        64 bits, or has not one target for each example.
    OSError
        For a file that cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "set.npz"
    >>> np.savez(file, images=np.zeros((2, 3)), labels=np.array([0, 1]))
    >>> len(read_npz(file, "images", "labels"))
    2
    """
    where = files.checked_path(path)
    for option, name in (("x", x), ("y", y)):
        checks.Instance(str, "a str").check(option, name)
    with (
        files.opened(where) as file,
        files.whole(where, "a whole .npz file"),
    ):
        if file.read(6) == files.NPY:
            raise ValueError("it is one array, not several")
        archive = files.Archive(file, deflated=True)
        for name in (x, y):
            if f"{name}.npy" not in archive.names():
                known = ", ".join(sorted(other.removesuffix(".npy") for other in archive.names()))
                raise ValueError(f"it has no {name!r}, only {known or 'nothing'}")
        return _one_each(where, archive.array(f"{x}.npy"), archive.array(f"{y}.npy"))


@checks.named
def read_npy(x: str | PathLike[str], y: str | PathLike[str]) -> Dataset:
    """Open examples and targets in ``.npy`` files that stay on the disk: they may exceed the memory.

    Parameters
    ----------
    x, y : path
        The files, as `numpy.save` writes them.

    Returns
    -------
    Dataset
        Of read-only, memory-mapped arrays: `Batches`, `funcnn.fit` and `funcnn.evaluate` read no
        more than a batch at a time.

    Raises
    ------
    ValueError
        For files that are broken, hold anything but numbers and booleans of up to 64 bits, or have
        not one target for each example.
    OSError
        For files that cannot be opened.

    Notes
    -----
    `funcnn.data.split` makes copies; the parts of such a set are slices: ``set.take(slice(0, n))``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.save(folder / "x.npy", np.zeros((100, 3), np.float32))
    >>> np.save(folder / "y.npy", np.zeros(100, int))
    >>> type(read_npy(folder / "x.npy", folder / "y.npy").x).__name__
    'memmap'
    """
    first, second = files.checked_path(x, "x"), files.checked_path(y, "y")
    return _one_each(first, _mapped(first), _mapped(second))


def _mapped(path: str) -> Array:
    with (
        files.opened(path) as file,
        files.whole(path, "a whole .npy file"),
    ):
        if file.read(4) == b"PK\3\4":
            files.refuse(path, "must be a .npy file, got several arrays")
        file.seek(0)
        header = files.npy_header(file)
        header.check(files.size(file))
        if 0 in header.shape:  # nothing cannot be mapped
            return np.empty(header.shape, header.dtype)
        return np.memmap(file, header.dtype, "r", header.length, header.shape, header.order)


def _one_each(path: str, x: Array, y: Array) -> Dataset:
    if not x.ndim or not y.ndim or len(x) != len(y):
        got = f"{x.shape} and {y.shape}"
        files.refuse(path, f"must have one target for each example, got {got}")
    return Dataset(x, y)
