"""Tables with words and gaps: codes with the way back, gaps filled from the training data alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import adam, data, dense, fit, random
from funcnn.losses import mean_squared_error

TEXT = """date,length,colour,"a, quoted one",species
2020-01-01,1.5,red,1,rose
2020-01-02,,blue,2,iris
2020-01-03,2.5,red,NA,iris
2020-01-04,5,,4,tulip
"""


def table(folder: Path, text: str = TEXT, **options: Any) -> data.Table:
    (folder / "table.csv").write_text(text, encoding=options.get("encoding", "utf-8"))
    return data.read_csv(folder / "table.csv", **options)


PLANTS: dict[str, Any] = {"target": "species", "words": ["colour", "species"], "ignore": ["date"]}


def test_words_become_codes_in_the_order_of_the_alphabet(tmp_path: Path) -> None:
    found = table(tmp_path, missing="mean", **PLANTS)
    assert isinstance(found, data.Dataset)
    assert found.columns == ("length", "colour", "a, quoted one")
    assert found.words == {"colour": ("", "blue", "red"), "species": ("iris", "rose", "tulip")}
    assert found.x[:, 1].tolist() == [2, 1, 2, 0]
    assert found.y.tolist() == [1, 0, 0, 2]
    assert found.y.dtype == np.int64


def test_gaps_are_filled_by_the_mean_of_what_is_there(tmp_path: Path) -> None:
    found = table(tmp_path, missing="mean", **PLANTS)
    assert found.x[:, 0].tolist() == [1.5, 3, 2.5, 5]
    assert found.filled["length"] == 3
    assert found.filled["a, quoted one"] == pytest.approx(7 / 3)
    assert np.isfinite(found.x).all()


def test_lines_with_gaps_are_left_out(tmp_path: Path) -> None:
    found = table(tmp_path, missing="drop", **PLANTS)
    assert found.x.tolist() == [[1.5, 0, 1]]
    assert found.words == {"colour": ("red",), "species": ("rose",)}
    assert found.filled == {}


def test_another_table_gets_the_codes_and_means_of_the_first(tmp_path: Path) -> None:
    first = table(tmp_path, missing="mean", **PLANTS)
    later = TEXT.splitlines()[0] + "\n2021-01-01,,blue,?,tulip\n"
    again = {**PLANTS, "words": first.words, "missing": first.filled}
    found = table(tmp_path, later, **again)
    assert found.x[0].tolist() == [3, 1, np.float32(7 / 3)]
    assert found.y.tolist() == [2]
    assert found.words == first.words
    with pytest.raises(ValueError, match="must have a known word in line 2, column 3, got 'green'"):
        table(tmp_path, later.replace("blue", "green"), **again)
    with pytest.raises(ValueError, match="must have no gaps in column 'length'"):
        table(tmp_path, later, **{**again, "missing": {}})


def test_a_number_to_be_predicted_is_what_the_losses_take(tmp_path: Path) -> None:
    found = table(tmp_path, "a,b\n1,2\n2,4\n3,6\n", kind="number")
    assert found.y.tolist() == [[2], [4], [6]]
    assert found.y.dtype == np.float32
    result = fit(
        dense(1), mean_squared_error(), adam(0.1), found, key=random.key(0), epochs=50, progress=False
    )
    assert result.history["loss"][-1] < result.history["loss"][0]


@pytest.mark.parametrize("gap", ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "?", "  "])
def test_every_kind_of_gap_is_known_and_refused_unless_told(tmp_path: Path, gap: str) -> None:
    text = f"a,b\n1,0\n{gap},1\n"
    with pytest.raises(ValueError, match="must have a number in line 3, column 1, got '"):
        table(tmp_path, text)
    assert table(tmp_path, text, missing="mean").x.tolist() == [[1], [1]]
    assert table(tmp_path, text, missing="drop").x.tolist() == [[1]]
    assert table(tmp_path, text, missing={"a": 7}).x.tolist() == [[1], [7]]


@pytest.mark.parametrize(
    ("text", "wrong", "options"),
    [
        ("a,b\nred,0\n", {}, {"words": ["a"]}),
        ("a,c,b\nred,1,0\n", {}, {"ignore": ["a"]}),
        ("a,b\n1,red\n", {}, {"words": ["b"]}),
        ("red,0\n", {"header": False}, {"words": ["0"]}),
        ("a,b\n,0\n1,1\n", {}, {"missing": "mean"}),
        ("a,b\n1,0\n1,\n", {}, {"missing": "drop"}),
    ],
)
def test_a_cell_that_is_no_number_is_refused_with_what_to_write(
    tmp_path: Path, text: str, wrong: dict[str, Any], options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="must have a number in line ") as caught:
        table(tmp_path, text, **wrong)
    ((option, value),) = options.items()
    said = str(caught.value).split(": write ")[1]
    assert repr(value) in said
    assert option in said
    table(tmp_path, text, **wrong, **options)


def test_columns_without_names_are_known_by_their_places(tmp_path: Path) -> None:
    found = table(tmp_path, "red,1,x\nblue,,y\n", header=False, words=[0, -1], missing="mean")
    assert found.columns == ("0", "1")
    assert found.words == {"0": ("blue", "red"), "2": ("x", "y")}
    assert found.x.tolist() == [[1, 1], [0, 1]]
    assert found.y.tolist() == [0, 1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    found = table(tmp_path, "é,b\nüber,0\n", encoding=encoding, words=["é"])
    assert found.words == {"é": ("über",)}


@pytest.mark.parametrize(
    ("text", "options", "kind", "message"),
    [
        (
            TEXT,
            {},
            ValueError,
            "must have a number in line 2, column 1, got '2020-01-01': write ignore=",
        ),
        (TEXT, PLANTS, ValueError, "must have a number in line 3, column 2, got ''"),
        (
            TEXT,
            {**PLANTS, "ignore": ["date", "length"]},
            ValueError,
            "must have a number in line 4, col",
        ),
        (
            "a,b\nx,0\n,1\n",
            {"words": ["a"]},
            ValueError,
            "must have a word in line 3, column 1, got ''",
        ),
        (
            "a,b\n,0\n,1\n",
            {"missing": "mean"},
            ValueError,
            "must have a number in column 'a', got gaps",
        ),
        ("a,b\n,0\n,1\n", {"missing": "drop"}, ValueError, "must have at least one line without gaps"),
        (
            "a,b\n1,\n",
            {"missing": "mean"},
            ValueError,
            "must have a number in line 2, column 2, got ''",
        ),
        ("a,b\n1,0\n", {"words": ["c"]}, ValueError, "must have a column 'c', got a, b"),
        (
            "a,b\n1,0\n",
            {"ignore": [0]},
            ValueError,
            "must have a column beside the one to be predicted",
        ),
        (
            "a,b,c\n1,0,1\n",
            {"ignore": [-1]},
            ValueError,
            "must have a column to predict, got -1, whi",
        ),
        ("a,b\n1,0\n", {"words": "a"}, TypeError, "`words` must be columns, got 'a': write a list"),
        ("a,b\n1,0\n", {"ignore": 1}, TypeError, "`ignore` must be columns, got 1: write a list"),
        (
            "a,b\n1,0\n",
            {"missing": "zero"},
            ValueError,
            "`missing` must be one of 'refuse', 'drop', ",
        ),
        (
            "a,b\n,0\n",
            {"missing": {"a": 3.0}, "words": ["a"]},
            ValueError,
            "`missing` must be for columns of numbers that are not predicted, got 'a'",
        ),
        (
            "a,b\n1,\n",
            {"missing": {"b": 3.0}},
            ValueError,
            "`missing` must be for columns of numbers that are not predicted, got 'b'",
        ),
        ("a,b\n,0\n", {"missing": {"a": "x"}}, TypeError, "`missing` must be a number, got 'x'"),
        (
            "a,b\n,0\n",
            {"missing": {"a": float("nan")}},
            ValueError,
            "`missing` must be finite, got nan",
        ),
    ],
)
def test_strange_tables_and_options_are_refused(
    tmp_path: Path, text: str, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^read_csv: (.*table.csv )?{message}") as caught:
        table(tmp_path, text, **options)
    assert len(str(caught.value)) < 300


def test_an_encoding_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,0\n")
    with pytest.raises(ValueError, match="must be a table in 'klingon': unknown encoding: klingon"):
        data.read_csv(tmp_path / "table.csv", encoding="klingon")


# --- what is a number ---------------------------------------------------------------------------------

LARGEST = "3.4028234663852886e+38"  # in float32
NUMBERS = {
    "0": 0.0, "-0": -0.0, "007": 7.0, "+1": 1.0, "1.": 1.0, ".5": 0.5, "-.5e1": -5.0, "1E3": 1e3,
    "1e+3": 1e3, " 1 ": 1.0, "\u00a01": 1.0, LARGEST: 3.4028234663852886e38,
    "-" + LARGEST: -3.4028234663852886e38,
    "1e-400": 0.0, "1e-46": 0.0, "1e-45": 1e-45, "16777217": 16777216.0, "0." + "0" * 400 + "1": 0.0,
    "1" + "0" * 38: 1e38,
}  # fmt: skip
NO_NUMBERS = [
    "1e39", "-1e39", "3.4028235677973366e+38", "1e400", "1e999999999", "9" * 400, "inf", "-inf",
    "Infinity", "+inf", "nan(1)", "-nan", "+nan", "NAN", "1_000", "0x1p3", "0x10", "0b1", "1e", "e1",
    ".", "-", "+", "", "1 000", "1'000", "1d3", "1f", "1j", "--1", "+-1", "1e1.5",
    "\u0661", "\uff11", "\u00b2", "\u2460", "\u0967", "1\u0661", "\u22121", "1\u066b5",
    "True", "None", "$1", "1%", "½", "1/2",
]  # fmt: skip


@pytest.mark.parametrize("cell", NUMBERS)
def test_decimal_numbers_are_read_as_float32_has_them(tmp_path: Path, cell: str) -> None:
    found = table(tmp_path, f"a,b\n{cell},0\n")
    assert found.x.dtype == np.float32
    wanted = np.float32(NUMBERS[cell])
    assert found.x[0, 0] == wanted
    assert np.signbit(found.x[0, 0]) == np.signbit(wanted)
    assert table(tmp_path, f"a,b\n0,{cell}\n", kind="number").y.tolist() == [[wanted]]


@pytest.mark.parametrize("cell", NO_NUMBERS)
@pytest.mark.parametrize("kind", ["class", "number"])
def test_other_ways_to_write_numbers_are_refused(tmp_path: Path, cell: str, kind: str) -> None:
    for text in (f"a,b\n{cell},0\n", f"a,b\n0,{cell}\n"):
        for missing in ("refuse", "mean") if cell else ("refuse",):
            with pytest.raises(ValueError, match="must have a number in line 2, column ") as caught:
                table(tmp_path, text, kind=kind, missing=missing)
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (1e39, ValueError, "`missing` must be finite in float32, got 1e\\+39"),
        (-1e39, ValueError, "`missing` must be finite in float32, got -1e\\+39"),
        (10**39, ValueError, "`missing` must be finite in float32, got 10"),
        (10**400, ValueError, "`missing` must be finite, got "),
        (np.float64(1e39), ValueError, "`missing` must be finite in float32, got 1e\\+39"),
        (np.longdouble("1e400"), ValueError, "`missing` must be finite, got "),
        (float("inf"), ValueError, "`missing` must be finite, got inf"),
        (np.float32("nan"), ValueError, "`missing` must be finite, got nan"),
        ("1", TypeError, "`missing` must be a number, got '1'"),
        ("nan", TypeError, "`missing` must be a number, got 'nan'"),
        (True, TypeError, "`missing` must be a number, got True"),
        (None, TypeError, "`missing` must be a number, got None"),
        (1j, TypeError, "`missing` must be a number, got 1j"),
        (np.ones(1), TypeError, "`missing` must be a number, got an array"),
    ],
)
def test_what_cannot_fill_a_gap_is_refused_even_where_there_is_none(
    tmp_path: Path, value: Any, kind: type[Exception], message: str
) -> None:
    for text in ("a,b\n,0\n", "a,b\n1,0\n"):
        with pytest.raises(kind, match=f"^read_csv: {message}"):
            table(tmp_path, text, missing={"a": value})


def test_a_gap_is_filled_in_the_column_that_is_meant(tmp_path: Path) -> None:
    assert table(tmp_path, "a,b\n,0\n", missing={0: 3e38}).filled == {"a": 3e38}
    assert table(tmp_path, ",0\n", header=False, missing={"0": 2}).x.tolist() == [[2]]
    for name in ("c", 2):
        with pytest.raises(ValueError, match=f"must have a column {name!r}, got "):
            table(tmp_path, "a,b\n1,0\n", missing={name: 1.0})


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ("red", TypeError, "`words` must hold tuples of words, got 'red'"),
        (3, TypeError, "`words` must hold tuples of words, got 3"),
        ((1, 2), TypeError, r"`words` must hold tuples of words, got \(1, 2\)"),
        (("red", "red"), ValueError, r"`words` must hold each word once, got \('red', 'red'\)"),
    ],
)
def test_words_of_another_table_are_tuples_of_words(
    tmp_path: Path, words: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^read_csv: {message}"):
        table(tmp_path, "a,b\nred,0\n", words={"a": words})


def test_a_long_cell_takes_no_long_time(tmp_path: Path) -> None:
    for cell in (
        "9" * 130_000 + "x",
        "1e" + "9" * 130_000,
        "." + "9" * 130_000 + ".",
        " " * 130_000 + "x",
    ):
        with pytest.raises(ValueError, match="must have a number in line 2, column 1"):
            table(tmp_path, f"a,b\n{cell},0\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": None}, "`target` must be an int, got None"),
        ({"target": [1]}, r"`target` must be an int, got \[1\]"),
        ({"ignore": [1.5]}, "`ignore` must be an int, got 1.5"),
        ({"words": {None: ("a",)}}, "`words` must be an int, got None"),
        ({"missing": {True: 1.0}}, "`missing` must be an int, got True"),
        ({"encoding": None}, "`encoding` must be a str, got None"),
        ({"encoding": 3}, "`encoding` must be a str, got 3"),
    ],
)
def test_options_of_other_kinds_are_refused_by_name(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,0\n")
    with pytest.raises(TypeError, match=f"^read_csv: {message}"):
        data.read_csv(tmp_path / "table.csv", **options)
