"""Bodies are found, and answers are JSON whatever a client sent."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.request import BadRequest, body_of, json_answer, json_error

# All of Unicode, halves of surrogate pairs too: a JSON escape can name them.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=2000)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({"body": b"x"}, b"x"),
        ({"data": b"x"}, b"x"),
        ({"body": b"x", "data": b"y"}, b"x"),
        ({"data": b"x", "note": b"y"}, b"x"),
        ({"photo": b"x"}, b"x"),
        ({"body": None}, None),
        ({"body": b""}, b""),
    ],
)
def test_the_body_or_the_only_field_is_meant(fields: dict[str, Any], body: object) -> None:
    assert body_of(fields) == body


def test_an_empty_request_is_refused() -> None:
    with pytest.raises(BadRequest, match="the request is empty") as caught:
        body_of({})
    assert caught.value.status == 400


def test_several_fields_are_named_and_refused() -> None:
    with pytest.raises(BadRequest, match=r"several form fields \(left, right\): name the one"):
        body_of({"right": b"x", "left": b"y"})


def test_of_many_long_names_little_is_said() -> None:
    with pytest.raises(BadRequest) as caught:
        body_of({f"{number}{'x' * 10_000}": b"" for number in range(1000)})
    assert len(str(caught.value)) < 400


def test_an_answer_is_compact_json() -> None:
    assert json_answer({"a": [1.5, "é"]}) == '{"a":[1.5,"é"]}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_answer_holds_no_nan(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_answer({"predictions": [value]})


def test_an_error_names_status_and_problem() -> None:
    assert json.loads(json_error(413, "too large")) == {"error": "too large", "status": 413}


@pytest.mark.parametrize("length", [500, 501, 1_000_000])
def test_a_long_problem_is_cut(length: int) -> None:
    said = json.loads(json_error(400, "x" * length))["error"]
    assert said == ("x" * 500 if length == 500 else "x" * 499 + "…")


@settings(derandomize=True, database=None, deadline=None)
@given(problem=ANY_TEXT)
def test_any_problem_becomes_short_valid_json(problem: str) -> None:
    body = json_error(400, problem)
    said = json.loads(body.decode("utf-8"))["error"]
    assert len(said) <= 500
    # Half a surrogate pair cannot be encoded; all else of a short problem stays.
    if len(problem) <= 500:
        assert said == problem.encode(errors="replace").decode()
    else:
        assert said.endswith("…")
