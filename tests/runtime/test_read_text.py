"""What is a text and what is not, by its content: a tensor, or a `BadRequest` that says why not."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marwright.runtime.preprocess import text_array, text_bytes
from marwright.runtime.read import read_text, text_problem
from marwright.runtime.request import BadRequest, is_json, trimmed
from marwright.runtime.spec import TextSpec

pytestmark = pytest.mark.torch

SPEC = TextSpec(max_bytes=32)
STEADY = settings(derandomize=True, database=None, deadline=None, max_examples=200)
HOW = 'send one text in UTF-8, or JSON {"text": "…"}'


def refusal(body: object) -> str:
    with pytest.raises(BadRequest) as caught:
        read_text(body, SPEC)
    assert caught.value.status == 400
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        # As a worker hands over text/plain, application/octet-stream and application/json.
        ("Guten Tag", "Guten Tag"),
        ("größe".encode(), "größe"),
        (bytearray(b"abc"), "abc"),
        ({"text": "größe"}, "größe"),
        # JSON that nobody has decoded yet.
        (b'{"text": "gr\\u00f6\\u00dfe"}', "größe"),
        (b' \n{"text":"a"} ', "a"),
        # What does not begin with { is never JSON, whatever else it looks like.
        (b'"quoted"', '"quoted"'),
        (b"[1, 2]", "[1, 2]"),
        (b"3", "3"),
        (b"null", "null"),
        (b"a {b}", "a {b}"),
        # The text of an object is not looked into again.
        ({"text": '{"text": "a"}'}, '{"text": "a"}'),
        ({"text": "{"}, "{"),
        # Blanks around a text are no part of it, as in a cell of a CSV file; those within are.
        (b"  a ", "a"),
        (b"\r\n a \t b\n", "a \t b"),
        ({"text": "\u3000a\u00a0\x1c"}, "a"),
        # Nor is a byte order mark, wherever it came from.
        (b"\xef\xbb\xbfa", "a"),
        ("\ufeffa", "a"),
        ({"text": "\ufeffa"}, "a"),
        (b'\xef\xbb\xbf{"text": "a"}', "a"),
        ('\ufeff \n{"text": "a"}', "a"),
        (bytearray(b'\xef\xbb\xbf{"text": "\xef\xbb\xbfa"}'), "a"),
        ('\ufeff \ufeff{"text": " \ufeff a"}', "a"),
        # One behind it is.
        ("a\ufeff", "a\ufeff"),
        (b"\x00", "\x00"),
    ],
)
def test_a_text_is_read(body: object, text: str) -> None:
    assert text_bytes(text, SPEC) == text.encode()
    tensor = read_text(body, SPEC)
    assert tensor.dtype == np.int64
    assert np.array_equal(tensor, text_array([text], SPEC))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", f"the text is empty: {HOW}"),
        ("", f"the text is empty: {HOW}"),
        (b" \t\r\n", f"the text is blank: {HOW}"),
        ("\u3000\u00a0", f"the text is blank: {HOW}"),
        (b"\xef\xbb\xbf", f"the text is empty: {HOW}"),
        ("\ufeff \n", f"the text is blank: {HOW}"),
        ({"text": ""}, f"the text is empty: {HOW}"),
        (b'{"text": " "}', f"the text is blank: {HOW}"),
        (b"abc\xff", f"byte 3 is not UTF-8: {HOW}"),
        ("größe".encode("latin-1"), f"byte 2 is not UTF-8: {HOW}"),
        ("größe".encode("utf-16"), f"byte 0 is not UTF-8: {HOW}"),
        (b'{"text": "\\ud800"}', f"the text holds half a surrogate pair: {HOW}"),
        ({"text": 3}, '"text": expected a string, got int'),
        ({"text": None}, '"text": expected a string, got null'),
        ({"text": ["a"]}, '"text": expected a string, got a list'),
        ({"txt": "a"}, 'expected {"text": "…"}, got the keys txt'),
        ({"text": "a", "b": 1}, 'expected {"text": "…"}, got the keys text, b'),
        ({}, 'expected {"text": "…"}, got {}'),
        (["a"], f"expected a text, got a list: {HOW}"),
        (3, f"expected a text, got int: {HOW}"),
        (True, f"expected a text, got true or false: {HOW}"),
        (None, f"expected a text, got null: {HOW}"),
    ],
)
def test_what_is_no_text_is_refused_with_what_to_send(body: object, said: str) -> None:
    assert refusal(body) == said


@pytest.mark.parametrize("body", [b'{"a"', b"{", b"  {hello}", b"{'text': 'a'}", "{" * 10_000])
def test_what_begins_like_json_and_is_none_is_not_guessed_at(body: Any) -> None:
    said = refusal(body)
    assert said.startswith("what begins with { is read as JSON, and this is none (")
    assert said.endswith('): send such a text as {"text": "…"}')


@pytest.mark.parametrize(
    "body",
    [
        "{" + ", ".join(f'"{number}": 1' for number in range(900_000)) + "}",
        '{"text": [' + "[]," * 3_000_000 + "[]]}",
        '{"text": "a", "b": [' + "{}," * 3_000_000 + "{}]}",
        '{"text": ' + "[" * 9_000_000,
        '\ufeff {"text": "' + '\\"' * 4_000_000,
        '{"text": "' + "\\" * 9_000_001 + '"}',
    ],
    ids=["keys", "lists", "objects", "depth", "quotes", "backslashes"],
)
def test_what_is_not_one_string_is_refused_before_it_is_parsed(body: str) -> None:
    started = time.process_time()
    assert refusal(body).startswith("what begins with { is read as JSON, and this is not one str")
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("text", ['"' * 90_000, "\\" * 90_000, "é\n" * 90_000, "{[,:]}" * 90_000])
@pytest.mark.parametrize("ascii", [False, True])
def test_a_long_text_of_json_is_read(text: str, ascii: bool) -> None:
    body = f"\ufeff\n{json.dumps({'text': text}, ensure_ascii=ascii, indent=1)}\r\n"
    assert np.array_equal(read_text(body, SPEC), text_array([text], SPEC))


@pytest.mark.parametrize("body", ['{"text": "a", "text": "b"}', '{"text": "a", "te\\u0078t": "a"}'])
def test_a_text_that_is_there_twice_is_refused(body: str) -> None:
    assert refusal(body) == 'the key "text" stands twice in one object'


def test_a_text_that_begins_like_json_can_be_sent() -> None:
    for text in ('{"a"', "{", ' {"text": "b"}'):
        body = json.dumps({"text": text}).encode()
        assert np.array_equal(read_text(body, SPEC), text_array([text], SPEC))


@pytest.mark.parametrize("around", [" ", "\ufeff", " \ufeff", "\r\n"])
def test_what_does_not_count_costs_little(around: str) -> None:
    # As long as a request may be.
    many = around * (10_000_000 // len(around.encode()))
    started = time.process_time()
    assert trimmed(f"{many}a") == "a"
    assert trimmed(f"{many}a{many}b ") == f"a{many}b"
    assert trimmed(many) == ""
    assert time.process_time() - started < 2


@STEADY
@given(text=st.text(st.sampled_from([*" \t\n\x0b\x1c\x85\xa0\u2028\ufeff\0a{"]), max_size=12))
def test_trimming_is_done_once(text: str) -> None:
    found = trimmed(text)
    assert trimmed(found) == found
    assert trimmed(f"\ufeff \ufeff{text}\n") == found
    assert found in text
    assert found == found.strip()


@STEADY
@given(body=st.binary(max_size=60))
@example(b"{}")
@example(b'{"text": "\\udfff"}')
def test_any_bytes_are_a_text_or_a_bad_request(body: bytes) -> None:
    try:
        tensor = read_text(body, SPEC)
    except BadRequest as refused:
        assert refused.status == 400
    else:
        assert tensor.shape[0] == 1
        assert 1 <= tensor.shape[1] <= SPEC.max_bytes
        assert int(tensor.min()) > 0


@STEADY
@given(text=st.text(max_size=40))
def test_a_text_is_the_same_in_json_and_by_itself(text: str) -> None:
    if text_problem(text):
        assert refusal({"text": text}) == f"{text_problem(text)}: {HOW}"
        return
    read = read_text(json.dumps({"text": text}).encode(), SPEC)
    assert np.array_equal(read, text_array([text], SPEC))
    if not is_json(text):
        assert np.array_equal(read_text(text.encode(), SPEC), read)
