"""Tables whose columns are categories, or may be missing: from JSON to features."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from marwright.runtime.preprocess import table_array
from marwright.runtime.read import read_table
from marwright.runtime.request import BadRequest
from marwright.runtime.spec import TableSpec, spec_from_dict, spec_to_dict

pytestmark = pytest.mark.torch

SPEC = TableSpec(
    columns=("age", "colour", "size"),
    categories=((), ("green", "red"), ()),
    optional=(True, True, False),
    fill=(30.0, 0.0, 0.0),
    center=(20.0, 0.0, 1.0),
    scale=(10.0, 1.0, 2.0),
    target="kind",
    target_mean=0.0,
    target_std=1.0,
)


def read(*rows: object) -> list[list[float]]:
    return read_table(json.dumps(rows if len(rows) > 1 else rows[0]).encode(), SPEC).tolist()


def refusal(row: object) -> str:
    with pytest.raises(BadRequest) as caught:
        read(row)
    return str(caught.value)


def test_each_column_becomes_its_features() -> None:
    assert SPEC.shape == (5,)
    assert SPEC.features == ("age", "age is missing", "colour = green", "colour = red", "size")
    assert read({"age": 40, "colour": "red", "size": 3}) == [[2.0, 0.0, 0.0, 1.0, 1.0]]
    assert read([40, "green", 3], [10, "red", 1]) == [
        [2.0, 0.0, 1.0, 0.0, 1.0],
        [-1.0, 0.0, 0.0, 1.0, 0.0],
    ]


@pytest.mark.parametrize("row", [{"size": 1}, {"age": None, "colour": None, "size": 1}])
def test_what_is_missing_is_filled_in_and_told(row: object) -> None:
    assert read(row) == [[1.0, 1.0, 0.0, 0.0, 0.0]]


def test_a_row_of_training_is_the_row_of_a_request() -> None:
    rows = np.array([[40.0, 1.0, 3.0], [math.nan, math.nan, 1.0]])
    requests = [{"age": 40, "colour": "red", "size": 3}, {"size": 1}]
    assert table_array(rows, SPEC).tolist() == read(*requests)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"age": 1}, "row 0: missing size; columns: age, colour, size"),
        ({"size": None}, "row 0, column size: expected a number, got null"),
        (
            {"size": 1, "colour": "blue"},
            'row 0, column colour: expected one of "green", "red", got "blue"',
        ),
        ({"size": 1, "colour": 1}, 'column colour: expected one of "green", "red", got int'),
        ({"size": 1, "colour": ["red"]}, "got a list"),
        ({"size": 1, "age": "old"}, 'column age: expected a number, got "old"'),
        ({"size": 1e300, "age": 1}, "row 0, column size: the number is too large"),
        ([1, "red"], "row 0: expected 3 values, got 2 values"),
        ({"size": 1, "sizes": 2}, "row 0: unknown sizes; columns: "),
    ],
)
def test_what_cannot_be_read_is_named(row: object, message: str) -> None:
    assert message in refusal(row)


def spec_of(*categories: str) -> TableSpec:
    return dataclasses.replace(
        SPEC, categories=((), tuple(sorted(categories)), ()), optional=(True, False, False)
    )


@pytest.mark.parametrize(
    ("categories", "value", "category"),
    [
        (("True", "False"), True, "True"),
        (("true", "false"), False, "false"),
        (("TRUE", "FALSE"), True, "TRUE"),
        (("False", "True", "unknown"), False, "False"),
        # Accents in one character or two.
        (("caf\u00e9", "bar"), "cafe\u0301", "caf\u00e9"),
        (("cafe\u0301", "bar"), "caf\u00e9", "cafe\u0301"),
        (("\u00e9", "e\u0301"), "e\u0301", "e\u0301"),
        # Blanks and marks around it, as in a cell of a CSV file.
        (("red", "green"), "\ufeff red\u00a0\n", "red"),
        ((" red", "green"), "red ", " red"),
        (("red", "red "), "red ", "red "),
        (("8010", "8020"), "8010", "8010"),
    ],
)
def test_a_category_is_meant_however_json_has_it(
    categories: tuple[str, ...], value: object, category: str
) -> None:
    spec = spec_of(*categories)
    for body in ([1, value, 3], {"age": 1, "colour": value, "size": 3}):
        for sent in (json.dumps(body).encode(), "\ufeff" + json.dumps(body), body):
            features = read_table(sent, spec)[0].tolist()[2:-1]
            assert features == [float(name == category) for name in spec.categories[1]]


@pytest.mark.parametrize(
    ("categories", "value", "got"),
    [
        (("no", "yes"), True, "true or false"),
        (("TRUE", "True"), True, "true or false"),
        (("0", "1"), True, "true or false"),
        (("False", "True"), "true", '"true"'),
        (("False", "True"), 1, "int"),
        (("8010", "8020"), 8010, "int"),
        (("1", "2"), 1.0, "float"),
        (("a", "b"), None, "null"),
        (("a", "b"), "A", '"A"'),
        (("a", "b"), "a b", '"a b"'),
        (("a ", "a"), " a", '" a"'),
        (("a", "b"), " ", '" "'),
        (("a", "b"), "e\u0301" * 1_000_000, '"e'),
    ],
)
def test_a_category_is_not_guessed(categories: tuple[str, ...], value: object, got: str) -> None:
    with pytest.raises(BadRequest, match=r"row 0, column colour: expected one of ") as caught:
        read_table([1, value, 3], spec_of(*categories))
    assert f"got {got}" in str(caught.value)


def test_a_body_of_another_encoding_is_refused() -> None:
    for encoding in ("utf-16", "utf-32", "latin-1"):
        with pytest.raises(BadRequest, match=r"byte . is not UTF-8"):
            read_table('[1, "é", 3]'.encode(encoding), SPEC)


def test_a_spec_survives_its_file() -> None:
    assert spec_from_dict(json.loads(json.dumps(spec_to_dict(SPEC)))) == SPEC


def test_a_feature_knows_its_column() -> None:
    columns = [SPEC.column_of(feature) for feature in range(5)]
    assert columns == ["age", "age", "colour", "colour", "size"]
