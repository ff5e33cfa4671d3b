"""A CSV file becomes typed columns and a target; what cannot be used is named by its row."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marwright.recipe.errors import DataError
from marwright.training.datasets.csv import MOST_CATEGORIES, load
from marwright.training.samples import TableSamples

HOUSES = """\
area,heating,rooms,price
80,gas,3,200.5
,oil,4,310
120.5,,5,1e2
60,gas,2,-3
"""


def written(folder: Path, content: str | bytes) -> Path:
    file = folder / "houses.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def loaded(folder: Path, content: str | bytes, **params: Any) -> TableSamples:
    return load(written(folder, content), **({"target": "price"} | params))


def faults(samples: TableSamples) -> list[tuple[str, str]]:
    return [(fault.where, fault.what) for fault in samples.faults]


# --- columns --------------------------------------------------------------------------------


def test_columns_have_types_and_may_miss_values(tmp_path: Path) -> None:
    samples = loaded(tmp_path, HOUSES)
    assert (samples.columns, samples.target) == (("area", "heating", "rooms"), "price")
    assert samples.categories == ((), ("gas", "oil"), ())
    assert samples.optional == (True, True, False)
    nan = np.nan
    expected = [[80, 0, 3], [nan, 1, 4], [120.5, nan, 5], [60, 0, 2]]
    np.testing.assert_array_equal(samples.rows, expected)
    assert samples.targets.tolist() == [200.5, 310, 100, -3]
    assert (samples.rows.dtype, samples.targets.dtype) == (np.float64, np.float64)
    assert (samples.labels, samples.faults, len(samples.fixed)) == ((), (), 0)
    # The header is row 1, as in a spreadsheet.
    assert [samples.name(index) for index in range(4)] == [
        f"houses.csv row {number}" for number in (2, 3, 4, 5)
    ]


def test_columns_may_be_left_out(tmp_path: Path) -> None:
    samples = loaded(tmp_path, HOUSES, drop=["heating", "rooms"])
    assert samples.columns == ("area",)
    assert samples.rows.shape == (4, 1)


def test_numbers_may_be_categories(tmp_path: Path) -> None:
    samples = loaded(tmp_path, HOUSES, categorical=["rooms"])
    assert samples.categories == ((), ("gas", "oil"), ("2", "3", "4", "5"))
    assert samples.rows[:, 2].tolist() == [1, 2, 3, 0]
    assert samples.row(0)["rooms"] == "3"


@pytest.mark.parametrize("cell", ["1", "-1.5", "+2", ".5", "3.", "1e-3", "2E+5", " 7 "])
def test_what_is_a_number(tmp_path: Path, cell: str) -> None:
    samples = loaded(tmp_path, f"a,price\n{cell},1\n2,2\n")
    assert samples.categories == ((),)
    assert samples.rows[0, 0] == float(cell)


@pytest.mark.parametrize("cell", ["1_000", "١٢", "0x1F", "1,5", "1 000", "e5", "."])
def test_what_is_no_number(tmp_path: Path, cell: str) -> None:
    samples = loaded(tmp_path, f'a,price\n"{cell}",1\nb,2\n')
    assert samples.categories == (tuple(sorted([cell, "b"])),)


@pytest.mark.parametrize("word", ["NA", "?", "unknown"])
def test_words_among_numbers_are_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, f"a,price\n1,1\n{word},2\n3,3\n")
    assert str(caught.value) == (
        f"houses.csv: 2 cells of 'a' are numbers, and 1 are not, as {word!r} in row 3: empty the "
        "cells of missing values, or list it in [data.params] categorical"
    )


def test_a_column_without_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"houses\.csv: 'a' has no value at all: \[data\.params\]"):
        loaded(tmp_path, "a,b,price\n,1,1\n,2,2\n")
    samples = loaded(tmp_path, "a,b,price\n,1,1\n,2,2\n", drop=["a"])
    assert samples.columns == ("b",)


def test_too_many_categories_are_refused(tmp_path: Path) -> None:
    lines = [f"name{number},{number}" for number in range(MOST_CATEGORIES + 1)]
    with pytest.raises(DataError, match=r"'who' has 51 categories, more than 50, as 'name0', 'na"):
        loaded(tmp_path, "who,price\n" + "\n".join(lines))
    samples = loaded(tmp_path, "who,price\n" + "\n".join(lines[:-1]))
    assert len(samples.categories[0]) == MOST_CATEGORIES


# --- rows that cannot be used ---------------------------------------------------------------


@pytest.mark.parametrize("cell", ["nan", "NaN", "inf", "-Infinity", "1e999"])
def test_a_cell_that_is_no_finite_number_is_a_fault(tmp_path: Path, cell: str) -> None:
    samples = loaded(tmp_path, f"a,b,price\n1,x,1\n{cell},y,2\n3,z,3\n")
    assert faults(samples) == [("houses.csv row 3", f"a is {cell!r}")]
    assert samples.rows[:, 0].tolist() == [1, 3]
    # What only a faulty row has is no category.
    assert samples.categories == ((), ("x", "z"))


def test_a_column_of_nan_has_no_row_that_can_be_used(tmp_path: Path) -> None:
    said = r"no row can be used; of the last one, houses\.csv row 3: a is 'inf'"
    with pytest.raises(DataError, match=said):
        loaded(tmp_path, "a,price\nnan,1\ninf,2\n")


def test_a_target_that_is_missing_or_no_number_is_a_fault(tmp_path: Path) -> None:
    samples = loaded(tmp_path, "a,price\n1,1\n2,\n3,nan\n4,4\n")
    assert faults(samples) == [
        ("houses.csv row 3", "price is missing"), ("houses.csv row 4", "price is 'nan'")
    ]  # fmt: skip
    assert samples.targets.tolist() == [1, 4]


def test_a_row_of_other_length_is_a_fault(tmp_path: Path) -> None:
    samples = loaded(tmp_path, "a,b,price\n1,2,3\n1,2\n\n1,2,3,4\n4,5,6\n")
    assert faults(samples) == [
        ("houses.csv row 3", "has 2 cells, not 3"), ("houses.csv row 5", "has 4 cells, not 3")
    ]  # fmt: skip
    assert [samples.name(index) for index in (0, 1)] == ["houses.csv row 2", "houses.csv row 6"]


def test_a_row_has_one_fault(tmp_path: Path) -> None:
    samples = loaded(tmp_path, "a,b,price\n1,2,3\nnan,inf,nan\n4,5,6\n")
    assert faults(samples) == [("houses.csv row 3", "a is 'nan'")]


# --- the target -----------------------------------------------------------------------------


def test_a_target_of_words_is_a_label(tmp_path: Path) -> None:
    samples = loaded(tmp_path, "a,price\n1,low\n2,high\n3,low\n")
    assert samples.labels == ("high", "low")
    assert (samples.targets.tolist(), samples.targets.dtype) == ([1, 0, 1], np.int64)


def test_numbers_may_be_labels_in_the_order_of_their_values(tmp_path: Path) -> None:
    content = "a,price\n" + "".join(f"1,{number % 12}\n" for number in range(24))
    samples = loaded(tmp_path, content, target_kind="label")
    assert samples.labels == tuple(str(number) for number in range(12))
    assert samples.targets.tolist() == [number % 12 for number in range(24)]


def test_words_are_faults_where_values_are_wanted(tmp_path: Path) -> None:
    samples = loaded(tmp_path, "a,price\n1,1\n2,dear\n3,3\n", target_kind="value")
    assert faults(samples) == [("houses.csv row 3", "price is 'dear'")]


def test_a_target_of_words_and_numbers_is_not_guessed(tmp_path: Path) -> None:
    said = r"1 are not, as 'dear' in row 3: .* or set \[data\.params\] target_kind"
    with pytest.raises(DataError, match=said):
        loaded(tmp_path, "a,price\n1,1\n2,dear\n3,3\n")
    samples = loaded(tmp_path, "a,price\n1,1\n2,dear\n3,3\n", target_kind="label")
    assert samples.labels == ("1", "3", "dear")


def test_an_unknown_kind_of_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="target_kind: 'lable' is not one of auto, label, value"):
        loaded(tmp_path, HOUSES, target_kind="lable")


# --- splits ---------------------------------------------------------------------------------


def test_a_column_may_tell_the_split(tmp_path: Path) -> None:
    rows = "".join(
        f"{n},{part},{n}\n" for n, part in enumerate(["train", "validation", "test", ""])
    )
    samples = loaded(tmp_path, f"a,part,price\n{rows}", split_column="part")
    assert samples.columns == ("a",)
    assert list(samples.fixed) == ["train", "validation", "test", ""]


def test_training_is_divided_where_a_split_is_not_told(tmp_path: Path) -> None:
    samples = loaded(
        tmp_path, "a,part,price\n1,train,1\n2,test,2\n3,train,3\n", split_column="part"
    )
    assert list(samples.fixed) == ["", "test", ""]


def test_an_unknown_split_is_a_fault(tmp_path: Path) -> None:
    samples = loaded(tmp_path, "a,part,price\n1,train,1\n2,dev,2\n", split_column="part")
    assert faults(samples) == [
        ("houses.csv row 3", "part is 'dev', not train, validation, test or empty")
    ]


# --- the file as a whole --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"target": "prise"}, "target: houses.csv has no column 'prise'; did you mean \"price\"?"),
        ({"drop": ["x"]}, "drop: houses.csv has no column 'x'; known: area, heating, price, rooms"),
        ({"categorical": ["Rooms"]}, "categorical: houses.csv has no column 'Rooms'; did you mean"),
        ({"split_column": "part"}, "split_column: houses.csv has no column 'part'"),
    ],
)
def test_a_column_that_there_is_not_is_named(
    tmp_path: Path, params: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, HOUSES, **params)
    assert str(caught.value).startswith(f"[data.params] {said}")


@pytest.mark.parametrize("drop", [["price"], ["area", "heating", "rooms"]])
def test_something_must_be_left_to_tell_the_target_by(tmp_path: Path, drop: list[str]) -> None:
    with pytest.raises(DataError, match="needs the column 'price', and others to tell it by"):
        loaded(tmp_path, HOUSES, drop=drop)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "needs a header in its first line, and rows below"),
        ("a,price\n", "needs a header in its first line, and rows below"),
        ("\n\na,price\n1,1\n", "needs a header in its first line, and rows below"),
        ("a,,price\n1,2,3\n", "column 2 has no name: give it one"),
        ("a,a,price\n1,2,3\n", "two columns are called 'a'"),
        ('a,price\n1,"2\n3,4\n', "line 3: not CSV: unexpected end of data"),
        ('a,price\n"1"x,2\n', "line 2: not CSV: ',' expected after '\"'"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, content)
    assert str(caught.value) == f"houses.csv: {said}"


def test_rows_of_other_lengths_only_are_refused(tmp_path: Path) -> None:
    said = r"no row can be used; of the last one, houses\.csv row 2: has 1 cells, not 2"
    with pytest.raises(DataError, match=said):
        loaded(tmp_path, "a,price\n1;2\n")


def test_a_mark_of_utf_8_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    samples = loaded(tmp_path, b"\xef\xbb\xbfgr\xc3\xb6\xc3\x9fe,price\n1,1\n2,2\n")
    assert samples.columns == ("größe",)


@pytest.mark.parametrize("marks", ["\ufeff\ufeff", "\ufeff \ufeff", ' "\ufeff'])
def test_further_marks_are_none_either(tmp_path: Path, marks: str) -> None:
    end = '"' * marks.count('"')
    samples = loaded(tmp_path, f"{marks}size{end},price\n\ufeff1,1\n2,2\n")
    assert (samples.columns, samples.categories) == (("size",), ((),))
    quoted = loaded(tmp_path, '\ufeff\ufeff"size",price\n1,1\n2,2\n')
    assert quoted.columns == ("size",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,price\n1,1\ngroß,2\n".encode("latin-1"), "the byte 0xdf in line 3"),
        (HOUSES.encode("utf-16"), "the byte 0xff in line 1"),
    ],
)
def test_another_encoding_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, content)
    assert str(caught.value) == f"houses.csv: not UTF-8 ({said}): save it as UTF-8"


@pytest.mark.parametrize(("delimiter", "between"), [(";", ";"), ("tab", "\t"), ("|", "|")])
def test_other_delimiters(tmp_path: Path, delimiter: str, between: str) -> None:
    content = HOUSES.replace(",", between)
    samples = loaded(tmp_path, content, delimiter=delimiter)
    assert samples.columns == ("area", "heating", "rooms")


@pytest.mark.parametrize("delimiter", ["", ", "])
def test_a_delimiter_that_is_none_is_refused(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(DataError, match=r"^\[data\.params\] delimiter: "):
        loaded(tmp_path, HOUSES, delimiter=delimiter)


def test_cells_may_be_quoted_and_hold_line_breaks(tmp_path: Path) -> None:
    samples = loaded(tmp_path, 'a, "b", price\r\n"x, y", "1",1\r\n"p\nq",2,2\r\nr,3,3\r\n')
    assert samples.columns == ("a", "b")
    assert samples.categories[0] == ("p\nq", "r", "x, y")
    assert samples.name(2) == "houses.csv row 4"


@pytest.mark.parametrize("count", [0, 2])
def test_one_file_is_named(tmp_path: Path, count: int) -> None:
    with pytest.raises(DataError, match=r"\[data\] files: name one CSV file"):
        load(*[written(tmp_path, HOUSES)] * count, target="price")


@settings(derandomize=True, database=None, deadline=None, max_examples=50)
@given(
    rows=st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False) | st.none(),
            st.sampled_from(["red", "green, dark", 'blue "2"', None]),
            st.floats(-1e9, 1e9),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float | None, str | None, float]]
) -> None:
    # One row has all values, so that each column has one.
    rows = [(0.5, "red", 1.0), *rows]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("size", "colour", "price"), *rows])
    samples = loaded(tmp_path_factory.mktemp("csv"), buffer.getvalue())
    assert samples.faults == ()
    assert [(*samples.row(index).values(),) for index in range(len(rows))] == [
        row[:2] for row in rows
    ]
    assert samples.targets.tolist() == [row[2] for row in rows]


def test_decimal_commas_are_no_categories(tmp_path: Path) -> None:
    content = "a;price\n0,5;1\n0,7;2\n;3\n-0,9;3\n"
    with pytest.raises(DataError, match="'a' are numbers with a comma, as '0,5'"):
        loaded(tmp_path, content, delimiter=";")
    kept = loaded(tmp_path, content, delimiter=";", categorical=["a"])
    assert kept.categories[0] == ("-0,9", "0,5", "0,7")


def test_one_number_written_in_two_ways_is_no_two_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the labels '1' and '1\.0' are one number"):
        loaded(tmp_path, "a,price\n1,1\n2,1.0\n3,2\n", target_kind="label")
