"""Bodies are found, and answers are JSON whatever a client sent."""

from __future__ import annotations

import json
import math
import time
from typing import Any
from urllib.parse import quote, quote_plus

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
        ({"file": b"x"}, b"x"),
        ({"image": b"x"}, b"x"),
        ({"body": None}, None),
        ({"body": b""}, b""),
        # TorchServe has read this one: `/invocations?model_name=digits`.
        ({"model_name": b"digits", "body": b"x"}, b"x"),
        ({"data": b"x", "model_name": b"digits"}, b"x"),
    ],
)
def test_the_body_or_the_only_field_is_meant(fields: dict[str, Any], body: object) -> None:
    assert body_of(fields) == body


def test_an_empty_request_is_refused() -> None:
    with pytest.raises(BadRequest, match="the request is empty") as caught:
        body_of({})
    assert caught.value.status == 400


URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
MULTIPART = {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize("headers", [None, {}, URLENCODED])
@pytest.mark.parametrize(
    "fields",
    [
        {'{"text": "a ': b' b"}'},
        {'[["a': b'b"]]'},
        {" {": b"1"},
        {"hello": b""},
        {"data": b""},
        {"data": bytearray()},
        {"text": b"half of it"},
        {"a": b"b"},
        {"": b"x"},
    ],
    ids=str,
)
def test_half_a_body_is_refused_with_the_header_to_send(
    fields: dict[str, Any], headers: dict[str, str] | None
) -> None:
    with pytest.raises(BadRequest, match="Content-Type: application/json") as caught:
        body_of(fields, headers)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ({}, None),
        ({"data": b"hello ", " goodbye": b""}, None),
        ({"body": b"hello ", " goodbye": b""}, None),
        ({"data": b"x", "note": b"y"}, None),
        ({"data": b"x", "model_name": b"y"}, len("data=x&model_name=y")),
        # A field of the same name stood in front: only the last one arrives.
        ({"data": b"bbbbbbbb"}, len("data=a&data=bbbbbbbb")),
        ({"data": b'{"b": 2}'}, len('data={"a": 1}&data={"b": 2}')),
    ],
)
def test_a_form_that_a_client_did_not_mean_is_refused(
    fields: dict[str, bytes], length: int | None
) -> None:
    headers = URLENCODED | ({"Content-Length": str(length)} if length else {})
    with pytest.raises(BadRequest, match="Content-Type") as caught:
        body_of(fields, headers)
    assert caught.value.status == 415


@pytest.mark.parametrize("value", ["x", "a b", "a+b%", '{"a": "é&="}', "x" * 100_000])
@pytest.mark.parametrize("encode", [quote, quote_plus, lambda text: quote(text, safe="")])
def test_a_whole_form_field_is_taken(value: str, encode: Any) -> None:
    length = len("data=" + encode(value))
    headers = URLENCODED | {"content-length": str(length)}
    assert body_of({"data": value.encode()}, headers) == value.encode()


def test_in_a_form_of_files_any_field_may_be_meant() -> None:
    assert body_of({"photo": b"x"}, MULTIPART) == b"x"
    assert body_of({"model_name": b"digits", "photo": b"x"}, MULTIPART) == b"x"
    # A field cannot pass for a header.
    told = {"content-type": {"content-type": "x"}, **URLENCODED}
    with pytest.raises(BadRequest, match="Content-Type"):
        body_of({"content-type": b"x"}, told)
    with pytest.raises(BadRequest, match="Content-Type"):
        body_of({"photo": b""}, MULTIPART)


def of_files(*values: bytes, name: str = "data") -> int:
    """Return how long a form is that curl makes of files, all under one name."""
    head = f'\r\nContent-Disposition: form-data; name="{name}"; filename="{"é" * 100}.jpg"'
    part = len((head + "\r\nContent-Type: image/jpeg\r\n\r\n\r\n").encode())
    return sum(part + len(value) + 72 for value in values) + 74


@pytest.mark.parametrize("value", [b"x" * 3000, bytearray(3000), "é" * 1500])
def test_a_form_that_lost_a_file_is_refused(value: Any) -> None:
    sent = value.encode() if isinstance(value, str) else bytes(value)
    whole = MULTIPART | {"content-length": str(of_files(sent))}
    assert body_of({"data": value}, whole) == value
    for first in (sent, b"x" * 5_000_000):
        half = MULTIPART | {"content-length": str(of_files(first, sent))}
        with pytest.raises(BadRequest, match="two fields of one name") as caught:
            body_of({"data": value}, half)
        assert caught.value.status == 415
    noted = MULTIPART | {"content-length": str(of_files(sent, sent))}
    # TorchServe has decoded a part of JSON, and nobody knows how long it was.
    assert body_of({"data": {"a": 1}}, noted) == {"a": 1}


@pytest.mark.parametrize("kind", [bytes, str])
@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("utf-16le", "hi"),
        ("utf-16-be", "hi"),
        ("UTF-32LE", "hi"),
        ("iso-2022-jp", "日本"),
        # What these bytes are in UTF-8 is another text.
        ("latin-1", "Ã©"),
    ],
)
def test_a_text_of_another_encoding_is_not_read_as_utf_8(
    charset: str, text: str, kind: type
) -> None:
    sent = text.encode(charset)
    # TorchServe decodes the body of `text/…` before.
    body = sent.decode() if kind is str else sent
    for told in (f"text/plain; charset={charset}", f'Text/plain;a=b; Charset = "{charset}"'):
        with pytest.raises(BadRequest, match=f"in '{charset}': send it in UTF-8") as caught:
            body_of({"body": body}, {"Content-Type": told})
        assert caught.value.status == 415


@pytest.mark.parametrize(
    ("told", "body"),
    [
        ("text/plain; charset=utf-8", "größe".encode()),
        ("text/plain; charset=UTF8", "größe"),
        ('text/plain; charset="utf-8"; format=flowed', "größe"),
        # ASCII is the same in all of these.
        ("text/plain; charset=ISO-8859-1", "hello\r\n"),
        ("text/plain; charset=windows-1252", b"hello"),
        ("text/plain; charset=", "größe"),
        # `file --mime` says so of an image.
        ("image/png; charset=binary", b"\x89PNG\0"),
        ("application/json; charset=utf-16", {"text": "größe"}),
        ("text/plain", "größe\0"),
    ],
)
def test_an_encoding_that_makes_no_difference_is_taken(told: str, body: object) -> None:
    assert body_of({"body": body}, {"Content-Type": told}) == body


def test_a_long_content_type_costs_little() -> None:
    started = time.process_time()
    for told in ("text/" + ";" * 60_000, "text/;" + " ;charset" * 7_000, "text/;" + " " * 60_000):
        assert body_of({"body": "é\0"}, {"Content-Type": told}) == "é\0"
    assert time.process_time() - started < 0.5


def test_millions_of_fields_are_refused_at_once() -> None:
    fields = {f"{number}": b"" for number in range(1_000_000)}
    started = time.process_time()
    for headers in (None, URLENCODED, MULTIPART):
        with pytest.raises(BadRequest):
            body_of(fields, headers)
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize("headers", [None, {}, MULTIPART, {"Content-Type": "text/plain"}])
@pytest.mark.parametrize(
    "names",
    [
        ["left", "right"],
        # TorchServe's own handlers take `data`, others `body`.
        ["body", "data"],
        ["data", "note"],
        ["body", "file"],
        ["body", "data", "model_name"],
    ],
    ids=str,
)
@pytest.mark.parametrize("second", [b"y", b"", {"a": 1}], ids=str)
def test_several_fields_are_named_and_refused(
    names: list[str], headers: dict[str, str] | None, second: Any
) -> None:
    values = dict(zip(names, [b"x", second, b"z"], strict=False))
    for fields in (values, dict(reversed(values.items()))):
        said = rf"several form fields \({', '.join(names)}\): send one, called `data`"
        with pytest.raises(BadRequest, match=said) as caught:
            body_of(fields, headers)
        assert caught.value.status == 400


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
