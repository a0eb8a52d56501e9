"""Files to learn from: CSV, NumPy's own, and arrays that stay on the disk."""

from __future__ import annotations

import csv
import zipfile
import zlib
from os import PathLike
from typing import Any, Literal

import numpy as np

from funcnn import _checks
from funcnn.data.batches import Dataset
from funcnn.types import Array

__all__ = ["read_csv", "read_npy", "read_npz"]


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
    _checks.choice("read_csv", "kind", kind, ("class", "number"))
    _checks.boolean("read_csv", "header", header)
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        _checks.refuse_type("read_csv", f"`delimiter` must be one character, got {delimiter!r}")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (csv.Error, UnicodeDecodeError) as problem:
        _checks.refuse("read_csv", f"{path} must be a table in UTF-8: {problem}")
    if header and lines and all(_is_number(cell) for cell in lines[0][1]):
        _checks.refuse("read_csv", f"{path} must have names in line 1: write header=False")
    names = lines[0][1] if header and lines else []
    lines = lines[1:] if header else lines
    if not lines:
        _checks.refuse("read_csv", f"{path} must have at least one line of numbers")
    column = _column(path, target, names, len(names or lines[0][1]))
    if len(names or lines[0][1]) < 2:
        _checks.refuse("read_csv", f"{path} must have a column beside the one to be predicted")
    values = _numbers(path, lines, len(names or lines[0][1]))
    y = values[:, column]
    x = np.delete(values, column, 1).astype(np.float32)
    if kind == "number":
        return Dataset(x, y.astype(np.float32))
    wrong = np.flatnonzero((y != np.floor(y)) | (y < 0) | (y >= 2.0**53))
    if wrong.size:
        _checks.refuse(
            "read_csv",
            f"{path} must have whole numbers from 0 as classes, got {y[wrong[0]]:g} "
            f"in line {lines[wrong[0]][0]}: or write kind='number'",
        )
    return Dataset(x, y.astype(np.int64))


_LARGEST = float(np.finfo(np.float32).max)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # which Python allows between digits


def _column(path: str | PathLike[str], target: int | str, names: list[str], count: int) -> int:
    if isinstance(target, str):
        if target not in names:
            known = f"{', '.join(names)}" if names else "no names"
            _checks.refuse("read_csv", f"{path} must have a column {target!r}, got {known}")
        if names.count(target) > 1:
            _checks.refuse("read_csv", f"{path} must have one column {target!r}: write its place")
        return names.index(target)
    place = _checks.integer("read_csv", "target", target)
    if not -count <= place < count:
        _checks.refuse("read_csv", f"{path} must have a column {place}, got {count} columns")
    return place % count


def _numbers(path: str | PathLike[str], lines: list[tuple[int, list[str]]], count: int) -> Array:
    values = np.empty((len(lines), count))
    for row, (line, cells) in enumerate(lines):
        if len(cells) != count:
            _checks.refuse(
                "read_csv", f"{path} must have {count} columns in line {line}, got {len(cells)}"
            )
        for column, cell in enumerate(cells):
            if not _is_number(cell) or not abs(float(cell)) <= _LARGEST:
                _checks.refuse(
                    "read_csv",
                    f"{path} must have a number in line {line}, column {column + 1}, got {cell!r}",
                )
            values[row, column] = float(cell)
    return values


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
        In the dtypes of the file.

    Raises
    ------
    ValueError
        For a file that is broken, lacks an array, holds Python objects, or has not one target for
        each example.
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
    with open(path, "rb") as file:
        try:
            stored: Any = np.load(file, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise ValueError("it is one array, not several")
            for name in (x, y):
                if name not in stored:
                    raise ValueError(f"it has no {name!r}, only {', '.join(stored) or 'nothing'}")
            arrays = stored[x], stored[y]
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, TypeError) as problem:
            _checks.refuse("read_npz", f"{path} must be a whole .npz file: {problem}")
    return _one_each("read_npz", path, *arrays)


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
        For files that are broken, hold Python objects, or have not one target for each example.
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
    return _one_each("read_npy", x, _mapped(x), _mapped(y))


def _mapped(path: str | PathLike[str]) -> Array:
    with open(path, "rb"):  # a file that is not there is no broken file
        pass
    try:
        found: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (EOFError, OSError, ValueError) as problem:
        _checks.refuse("read_npy", f"{path} must be a whole .npy file: {problem}")
    if not isinstance(found, np.ndarray):
        _checks.refuse("read_npy", f"{path} must be a .npy file, got several arrays")
    return found


def _one_each(who: str, path: str | PathLike[str], x: Array, y: Array) -> Dataset:
    if not x.ndim or not y.ndim or len(x) != len(y):
        shapes = f"{x.shape} and {y.shape}"
        _checks.refuse(who, f"{path} must have one target for each example, got {shapes}")
    return Dataset(x, y)
