"""Tables as people have them: numbers and words, with gaps."""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from math import fsum
from os import PathLike
from typing import Any, Literal, NamedTuple

import numpy as np

from funcnn import checks, files
from funcnn.data.batches import Dataset
from funcnn.types import Array

__all__ = ["Table", "read_csv"]

_LARGEST = float(np.finfo(np.float32).max)
_GAPS = {"", "NA", "N/A", "NaN", "nan", "null", "NULL", "?"}
Column = int | str


@dataclass(frozen=True, eq=False, repr=False)
class Table(Dataset):
    """A data set from a table, and what its numbers stand for.

    Parameters
    ----------
    x, y : ndarray
        As in `Dataset`.
    columns : tuple of str
        The names of the columns of `x`; their places in the file where it has no names.
    words : dict of str to tuple of str
        The words of each column that has some, the target's too: code ``i`` stands for ``words[i]``.
    filled : dict of str to float
        What stands in the gaps of each column of numbers.

    Examples
    --------
    >>> import numpy as np
    >>> table = Table(np.zeros((2, 1)), np.array([1, 0]), ("length",), {"species": ("iris", "rose")})
    >>> [table.words["species"][code] for code in table.y]
    ['rose', 'iris']
    """

    columns: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    filled: Mapping[str, float] = field(default_factory=dict)


@checks.takes(header=checks.Flag(), encoding=checks.STR)
def read_csv(
    path: str | PathLike[str],
    target: Column = -1,
    *,
    kind: Literal["class", "number"] = "class",
    words: Iterable[Column] | Mapping[str, tuple[str, ...]] = (),
    missing: Literal["refuse", "drop", "mean"] | Mapping[str, float] = "refuse",
    ignore: Iterable[Column] = (),
    header: bool = True,
    delimiter: str = ",",
    encoding: str = "utf-8-sig",
) -> Table:
    """Read a table, one column of which is to be predicted.

    Parameters
    ----------
    path : path
        The file.
    target : int or str, default -1
        The column to be predicted: its place, or its name in the header.
    kind : "class" or "number", default "class"
        What is in that column: whole numbers from 0 (or words), or any numbers.
    words : iterable of column, or mapping, default ()
        Columns of words, which become codes: whole numbers from 0, in the order of the alphabet. The
        `words` of another table give its codes again; other words are then refused.
    missing : "refuse", "drop", "mean" or mapping, default "refuse"
        What to do about gaps, which are empty cells and, among numbers, NA, N/A, NaN, null and ?:
        refuse them, leave out their lines, or put the column's mean there. The `filled` of another
        table puts its means there again. In a column of words, a gap that stays is the word ``""``.
        A name that is no column's, or that of words or of the target, is refused.
    ignore : iterable of column, default ()
        Columns to leave out, such as dates and names.
    header : bool, default True
        Whether the first line has the columns' names.
    delimiter : str, default ","
        What stands between two columns.
    encoding : str, default "utf-8-sig"
        How the text is encoded; by default in UTF-8, with or without a byte order mark.

    Returns
    -------
    Table
        A `Dataset`: ``x``: float32, ``(N, columns)``; ``y``: int64, ``(N,)``, or for numbers float32,
        ``(N, 1)``, as the output of ``dense(1)``.

    Raises
    ------
    ValueError
        For cells that are empty, no decimal numbers of the digits 0 to 9 (not ``1_000``, ``0x10``,
        ``inf``), or not finite in float32, lines of another length,
        labels that are not whole or below 0, a column that is not there or there twice, an empty
        table; with the line's number.
    OSError
        For a file that cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "flowers.csv"
    >>> _ = file.write_text("length,colour,species\\n5.1,red,rose\\n,blue,iris\\n6.3,red,iris\\n")
    >>> table = read_csv(file, "species", words=["colour", "species"], missing="mean")
    >>> table.x
    array([[5.1, 1. ],
           [5.7, 0. ],
           [6.3, 1. ]], dtype=float32)
    >>> table.y, table.words["species"]
    (array([1, 0, 0]), ('iris', 'rose'))
    """
    check_options(kind, words, missing, ignore)
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        checks.refuse_type(f"`delimiter` must be one character, got {checks.shown(delimiter)}")
    where = files.checked_path(path)
    what = f"a table in {'UTF-8' if encoding == 'utf-8-sig' else checks.shown(encoding)}"
    with files.opened(where, pipes=True) as file, files.whole(where, what):
        text = io.TextIOWrapper(file, encoding=encoding, newline="")
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        lines = ((reader.line_num, cells) for cells in reader if cells)
        names = next(lines, (0, []))[1] if header else []
        if names and all(_is_number(cell) for cell in names):
            files.refuse(where, "must have names in line 1: write header=False")
        first = next(lines, None)
        if first is None:
            files.refuse(where, "must have at least one line of numbers")
        columns = names or len(first[1])
        return tabled(where, columns, chain([first], lines), target, kind, words, missing, ignore)


def check_options(kind: object, words: object, missing: object, ignore: object) -> None:
    """Refuse what is no option of a table."""
    checks.Choice("class", "number").check("kind", kind)
    if not isinstance(missing, Mapping):
        checks.Choice("refuse", "drop", "mean").check("missing", missing)
    if isinstance(words, Mapping):
        for found in words.values():
            if not isinstance(found, (tuple, list)) or not all(isinstance(word, str) for word in found):
                checks.refuse_type(f"`words` must hold tuples of words, got {checks.shown(found)}")
            if len(set(found)) < len(found):
                checks.refuse(f"`words` must hold each word once, got {checks.shown(found)}")
    for name, columns in (("words", words), ("ignore", ignore)):
        table = isinstance(columns, np.ndarray) and columns.ndim != 1
        if isinstance(columns, (str, bytes)) or not isinstance(columns, Iterable) or table:
            checks.refuse_type(f"`{name}` must be columns, got {checks.shown(columns)}: write a list")


def tabled(
    path: str,
    columns: list[str] | int,
    lines: Iterable[tuple[int, list[str]]],
    target: Column,
    kind: str,
    words: Any,
    missing: Any,
    ignore: Iterable[Column],
) -> Table:
    """The table of some numbered lines of text, of columns with names, or of so many without."""
    names, count = ([], columns) if isinstance(columns, int) else (columns, len(columns))
    form = _form(path, names, count, target, words, ignore)
    if isinstance(missing, Mapping):
        missing = {_name(form, column): _fill(value) for column, value in missing.items()}
    return _table(form, lines, kind, missing)


class _Form(NamedTuple):
    """Which columns a table has, and what is in them."""

    path: str
    names: list[str]  # of all columns
    places: list[int]  # of those that are read, the target's last
    codes: dict[int, dict[str, int]]  # for each column of words; empty ones are still to be found
    known: bool  # whether the words are


def _form(
    path: str, names: list[str], count: int, target: Column, words: Any, ignore: Iterable[Column]
) -> _Form:
    place = _column("target", path, target, names, count)
    ignored = {_column("ignore", path, column, names, count) for column in ignore}
    shown = names or [str(i) for i in range(count)]
    given: Mapping[Any, Any] = words if isinstance(words, Mapping) else dict.fromkeys(words, ())
    codes = {
        _column("words", path, column, shown, count): {word: code for code, word in enumerate(found)}
        for column, found in given.items()
    }
    rest = [i for i in range(count) if i != place and i not in ignored]
    if not rest:
        files.refuse(path, "must have a column beside the one to be predicted")
    if place in ignored:
        got = checks.shown(target)
        files.refuse(path, f"must have a column to predict, got {got}, which is ignored")
    return _Form(path, shown, [*rest, place], codes, isinstance(words, Mapping))


def _name(form: _Form, column: Column) -> str:
    place = _column("missing", form.path, column, form.names, len(form.names))
    if place in form.codes or place == form.places[-1]:
        text = "must be for columns of numbers that are not predicted"
        checks.refuse(f"`missing` {text}, got {checks.shown(column)}")
    return form.names[place]


def _fill(value: float) -> float:
    """A number for gaps."""
    number = checks.Number().check("missing", value)
    if abs(number) > _LARGEST:
        checks.refuse(f"`missing` must be finite in float32, got {checks.shown(value)}")
    return number


def _column(option: str, path: str, column: Column, names: list[str], count: int) -> int:
    if isinstance(column, str):
        if column not in names:
            known = files.short(", ".join(names)) or "no names"
            files.refuse(path, f"must have a column {checks.shown(column)}, got {known}")
        if names.count(column) > 1:
            files.refuse(path, f"must have one column {checks.shown(column)}: write its place")
        return names.index(column)
    place = checks.Integer().check(option, column)
    if not -count <= place < count:
        files.refuse(path, f"must have a column {place}, got {count} columns")
    return place % count


# As every program writes one: Python's `float` takes 1_000, the digits of all scripts, and infinity.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell.strip()) is not None


def _rows(
    form: _Form, lines: Iterable[tuple[int, list[str]]], missing: Any
) -> Iterator[tuple[int, list[float]]]:
    """Each line's number and values: codes for words, NaN for gaps to be filled."""
    for line, cells in lines:
        if len(cells) != len(form.names):
            wanted = f"{len(form.names)} columns in line {line}"
            files.refuse(form.path, f"must have {wanted}, got {len(cells)}")
        gap = False
        values: list[Any] = []
        for place in form.places:
            cell, where = cells[place], f"line {line}, column {place + 1}"
            codes = form.codes.get(place)
            if codes is not None:
                word = cell.strip()
                if not word and missing == "refuse":
                    files.refuse(form.path, f"must have a word in {where}, got {checks.shown(cell)}")
                if form.known and word not in codes:
                    got = checks.shown(cell)
                    files.refuse(form.path, f"must have a known word in {where}, got {got}")
                gap |= not word
                values.append(word)
            elif _is_number(cell) and abs(float(cell)) <= _LARGEST:
                values.append(float(cell))
            elif (
                missing == "refuse" or cell.strip() not in _GAPS
                or (place == form.places[-1] and missing != "drop")
            ):  # fmt: skip
                got = f"{checks.shown(cell)}{_remedy(form, place, cell.strip())}"
                files.refuse(form.path, f"must have a number in {where}, got {got}")
            else:
                gap = True
                values.append(float("nan"))
        if not (gap and missing == "drop"):
            for i, place in enumerate(form.places):
                if place in form.codes:
                    codes = form.codes[place]
                    values[i] = codes.setdefault(values[i], len(codes))
            yield line, values


def _remedy(form: _Form, place: int, cell: str) -> str:
    """What to write for a cell that is no number."""
    if cell in _GAPS:
        return ": write missing='drop'" + (" or 'mean'" if place != form.places[-1] else "")
    column = checks.shown(form.names[place])
    if cell[:1].isdigit() and sum(map(cell.count, "-/:")) > 1:  # a date, or a time
        return f": write ignore=[{column}]"
    return f": write words=[{column}], or ignore=[{column}]" if cell[:1].isalpha() else ""


def _table(form: _Form, lines: Iterable[tuple[int, list[str]]], kind: str, missing: Any) -> Table:
    """The values of a table, kept in no more memory than the data set takes."""
    x: array[float] = array("f")
    y: array[Any] = array("f" if kind == "number" else "q")
    for line, (*values, value) in _rows(form, lines, missing):
        if kind == "class" and not (float(value).is_integer() and 0 <= value < 2.0**53):
            got = f"got {value:g} in line {line}: or write kind='number'"
            files.refuse(form.path, f"must have whole numbers from 0 as classes, {got}")
        x.extend(values)
        y.append(value if kind == "number" else int(value))
    if not y:
        files.refuse(form.path, "must have at least one line without gaps")
    *places, target = form.places
    rows = np.frombuffer(x, np.float32).reshape(-1, len(places))
    targets = np.frombuffer(y, np.float32 if kind == "number" else np.int64)
    words = {}
    for place, codes in form.codes.items():
        if place in form.places:
            column = targets if place == target else rows[:, places.index(place)]
            words[form.names[place]] = tuple(codes) if form.known else _sorted(codes, column)
    filled = {
        form.names[place]: _filled(form, place, rows[:, i], missing)
        for i, place in enumerate(places)
        if place not in form.codes and missing not in ("refuse", "drop")
    }
    columns = tuple(form.names[place] for place in places)
    return Table(rows, targets[:, None] if kind == "number" else targets, columns, words, filled)


def _sorted(codes: dict[str, int], column: Array) -> tuple[str, ...]:
    """The words in the order of the alphabet, after which the codes in the column are changed."""
    words = sorted(codes)
    rank = np.empty(len(words), column.dtype)
    rank[[codes[word] for word in words]] = np.arange(len(words))
    column[...] = rank[column.astype(np.int64)]
    return tuple(words)


def _filled(form: _Form, place: int, column: Array, missing: Any) -> float:
    """What fills a column's gaps; they are filled."""
    name, gaps = form.names[place], np.isnan(column)
    if missing != "mean":
        if name not in missing and gaps.any():
            where = f"column {checks.shown(name)}, which `missing` lacks"
            files.refuse(form.path, f"must have no gaps in {where}")
        value: float = missing.get(name, 0.0)
    elif gaps.all():
        files.refuse(form.path, f"must have a number in column {checks.shown(name)}, got gaps alone")
    else:
        present = column[~gaps].tolist()
        value = fsum(present) / len(present)
    column[gaps] = value
    return value
