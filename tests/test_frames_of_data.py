"""Data frames become what the same table in a file becomes."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import data, tree

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

COLUMNS: dict[str, list[Any]] = {
    "day": [date(2020, 1, 1), date(2020, 1, 2), None, date(2020, 1, 4)],
    "length": [1.5, None, 2.5, 5.0],
    "colour": ["red", "blue", "red", None],
    "count": [1, 2, 3, 4],
    "wild": [True, False, True, True],
    "species": ["rose", "iris", "iris", "tulip"],
}
TEXT = """day,length,colour,count,wild,species
2020-01-01,1.5,red,1,1,rose
2020-01-02,,blue,2,0,iris
,2.5,red,3,1,iris
2020-01-04,5,,4,1,tulip
"""


def _structured() -> Any:
    rows = [tuple(column[i] for column in COLUMNS.values()) for i in range(4)]
    rows = [tuple("" if v is None and n == 2 else v for n, v in enumerate(row)) for row in rows]
    kinds = ["datetime64[D]", "f4", "U9", "i4", "?", "U9"]
    return np.array(rows, list(zip(COLUMNS, kinds, strict=True)))


FRAMES: dict[str, Any] = {
    "pandas": lambda: pandas.DataFrame(COLUMNS),
    "pandas, its own types": lambda: (
        pandas.DataFrame(COLUMNS)
        .convert_dtypes()
        .assign(day=pandas.to_datetime(COLUMNS["day"]), colour=pandas.Categorical(COLUMNS["colour"]))
    ),
    "polars": lambda: polars.DataFrame(COLUMNS),
    "structured": _structured,
    "dict": lambda: COLUMNS,
}


@pytest.mark.parametrize("missing", ["drop", "mean", {"length": 7.0, "count": 0.0, "wild": 0.0}])
@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_is_what_its_file_is(tmp_path: Path, frame: str, missing: Any) -> None:
    (tmp_path / "t.csv").write_text(TEXT)
    wanted = data.read_csv(
        tmp_path / "t.csv", "species", words=["colour", "species"], missing=missing, ignore=["day"]
    )
    found = data.from_frame(FRAMES[frame](), "species", missing=missing)
    assert tree.equal((found.x, found.y), (wanted.x, wanted.y))
    assert (found.columns, found.words, found.filled) == (wanted.columns, wanted.words, wanted.filled)


@pytest.mark.parametrize("frame", FRAMES)
def test_gaps_are_refused_unless_told(frame: str) -> None:
    with pytest.raises(ValueError, match=r"^from_frame: frame must have a number in line 2, col"):
        data.from_frame(FRAMES[frame](), "species")


def test_later_rows_get_the_codes_and_means_of_the_first() -> None:
    first = data.from_frame(pandas.DataFrame(COLUMNS), "species", missing="mean")
    later = {name: column[1:2] for name, column in COLUMNS.items()}
    found = data.from_frame(later, "species", words=first.words, missing=first.filled)
    assert tree.equal((found.x, found.y), (first.x[1:2], first.y[1:2]))


def test_a_number_is_predicted_and_columns_are_left_out() -> None:
    found = data.from_frame(
        {**COLUMNS, "odd": [[1], [2], [3], [4]]}, "length", kind="number", missing="drop",
        ignore=["odd", "colour", -2],
    )  # fmt: skip
    assert found.columns == ("count", "wild")
    assert found.y.tolist() == [[1.5], [2.5], [5.0]]


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (np.ones((2, 2)), {}, "`frame` must be a data frame of pandas or polars, a struct"),
        ([1], {}, "`frame` must be a data frame of pandas or polars, a struct"),
        ({"a": 1, "b": 2}, {}, "`frame` must hold columns, got 1 for 'a'"),
        ({"a": "12", "b": [1, 2]}, {}, "`frame` must hold columns, got '12' for 'a'"),
        ({"a": np.array(3), "b": [1]}, {}, "`frame` must hold columns, got 3 for 'a'"),
        ({"a": [1, 2], "b": [1]}, {}, "`frame` must have columns of one length, got "),
        ({"a": [1, 2], "b": [[1], [2]]}, {}, "`frame` must hold numbers, words or dates, got a list"),
        ({"a": [1, 2j], "b": [1, 2]}, {}, "`frame` must hold numbers, words or dates, got a compl"),
        (COLUMNS, {"target": "day"}, "frame must have a column to predict, got 'day', which"),
        (COLUMNS, {"target": "nobody"}, "frame must have a column 'nobody', got day, length, colour,"),
        ({"a": [1.0, np.inf], "b": [1, 0]}, {}, "frame must have a number in line 2, column 1, got"),
        ({"a": [1, 2], "b": [0.5, 1]}, {}, "frame must have whole numbers from 0 as classes, got 0.5"),
        ({"a": [1]}, {"kind": "word"}, "`kind` must be one of 'class', 'number', got 'word'"),
        ({"a": [1]}, {"words": "a"}, "`words` must be columns, got 'a': write a list"),
        ({}, {}, "frame must have a column -1, got 0 columns"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused(frame: Any, options: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        data.from_frame(frame, **options)
    assert str(caught.value).startswith(f"from_frame: {message}")
    assert len(str(caught.value)) < 300


def test_columns_of_one_name_are_told_by_their_places() -> None:
    frame = pandas.DataFrame([[1, 2, 0], [3, 4, 1]], columns=["a", "a", "y"])
    assert data.from_frame(frame).x.tolist() == [[1, 2], [3, 4]]
