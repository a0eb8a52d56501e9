"""Tables that are in memory already: data frames, and NumPy's structured arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from numbers import Real
from typing import Any, Literal

import numpy as np

from funcnn import checks
from funcnn.data.tables import Column, Table, check_options, tabled

__all__ = ["from_frame"]


@checks.named
def from_frame(
    frame: Any,
    target: Column = -1,
    *,
    kind: Literal["class", "number"] = "class",
    words: Iterable[Column] | Mapping[str, tuple[str, ...]] | None = None,
    missing: Literal["refuse", "drop", "mean"] | Mapping[str, float] = "refuse",
    ignore: Iterable[Column] = (),
) -> Table:
    """Make a data set of a data frame, one column of which is to be predicted.

    Parameters
    ----------
    frame : pandas.DataFrame, polars.DataFrame, structured ndarray, or mapping of str to array
        The columns by their names. Neither pandas nor polars is needed for what is not theirs.
    target : int or str, default -1
        The column to be predicted.
    kind, missing, ignore
        As in `read_csv`.
    words : iterable of column, or mapping, optional
        As in `read_csv`; by default the columns that hold words.

    Returns
    -------
    Table
        As `read_csv` gives it.

    Raises
    ------
    ValueError, TypeError
        As `read_csv`, whose lines are the frame's rows, from 1; and for columns of anything else than
        numbers, booleans, words and dates.

    Notes
    -----
    Columns of dates and times are left out. None, NaN and what pandas calls NA are gaps.

    Examples
    --------
    >>> import numpy as np
    >>> flowers = {"length": [5.1, np.nan, 6.3], "species": ["rose", "iris", "iris"]}
    >>> table = from_frame(flowers, "species", missing="mean")
    >>> table.x.ravel(), table.y, table.words
    (array([5.1, 5.7, 6.3], dtype=float32), array([1, 0, 0]), {'species': ('iris', 'rose')})
    """
    check_options(kind, () if words is None else words, missing, ignore)
    columns = [(str(name), _values(str(name), column)) for name, column in _columns(frame)]
    names, left_out = [name for name, _ in columns], list(ignore)
    if len({len(values) for _, values in columns}) > 1:
        checks.refuse(f"`frame` must have columns of one length, got {checks.shown(frame)}")
    kinds = {
        place: _kind(name, values)
        for place, (name, values) in enumerate(columns)
        if not {name, place, place - len(columns)} & set(left_out)
    }
    if words is None:
        words = [place for place, found in kinds.items() if found == "words"]
    left_out += [place for place, found in kinds.items() if found == "dates"]
    rows = zip(*(map(_cell, values) for _, values in columns), strict=True)
    lines = ((row, list(cells)) for row, cells in enumerate(rows, 1))
    return tabled("frame", names, lines, target, kind, words, missing, left_out)


def _columns(frame: Any) -> Iterable[tuple[Any, Any]]:
    """Names and columns, of whatever has some."""
    if hasattr(frame, "get_columns"):  # of polars
        return zip(frame.columns, frame.get_columns(), strict=True)
    if isinstance(frame, np.ndarray) and frame.dtype.names and frame.ndim == 1:
        return [(name, frame[name]) for name in frame.dtype.names]
    table: Any = frame
    if not (hasattr(table, "items") and hasattr(table, "keys")):
        kinds = "a data frame of pandas or polars, a structured array or a dict of columns"
        checks.refuse_type(f"`frame` must be {kinds}, got {checks.shown(frame)}")
    return list(table.items())


def _values(name: str, column: Any) -> list[Any]:
    """A column as a list."""
    read = getattr(column, "to_list", None) or getattr(column, "tolist", None)
    column = column if read is None else read()
    if isinstance(column, str | bytes) or not isinstance(column, Iterable):
        got = f"{checks.shown(column)} for {checks.shown(name)}"
        checks.refuse_type(f"`frame` must hold columns, got {got}")
    return list(column)


def _is_gap(value: Any) -> bool:
    unknown = value is None or type(value).__name__ in ("NAType", "NaTType")
    return unknown or (isinstance(value, float) and value != value)


def _kind(name: str, values: list[Any]) -> str:
    """What a column holds: words, dates or numbers."""
    there = [value for value in values if not _is_gap(value)]
    if any(isinstance(value, str) for value in there):
        return "words"
    if there and all(isinstance(value, (date, time, timedelta, np.datetime64)) for value in there):
        return "dates"
    for value in there:
        if not isinstance(value, (Real, np.bool_)):
            got = f"a {type(value).__name__} in column {checks.shown(name)}"
            checks.refuse_type(f"`frame` must hold numbers, words or dates, got {got}")
    return "numbers"


def _cell(value: Any) -> str:
    """As it would stand in a file."""
    if _is_gap(value):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, np.bool_)):
        return str(int(value))
    return repr(float(value)) if isinstance(value, Real) else str(value)
