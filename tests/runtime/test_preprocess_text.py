"""Texts become the numbers of their bytes: cut at a character's end, padded to the longest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marwright.runtime.preprocess import batched, text_array, text_bytes
from marwright.runtime.request import trimmed
from marwright.runtime.spec import IDS, PADDING, TextSpec

pytestmark = pytest.mark.torch

SPEC = TextSpec(max_bytes=8)
STEADY = settings(derandomize=True, database=None, deadline=None)


def numbers(text: str, spec: TextSpec = SPEC) -> list[int]:
    rows: list[list[int]] = text_array([text], spec).tolist()
    return rows[0]


def test_each_byte_is_its_value_plus_one() -> None:
    tensor = text_array(["Aé"], SPEC)
    assert tensor.dtype == np.int64
    assert tensor.tolist() == [[0x41 + 1, 0xC3 + 1, 0xA9 + 1]]
    assert numbers("\0") == [1]
    assert PADDING not in numbers("\0\0")


def test_a_batch_is_as_long_as_its_longest() -> None:
    assert text_array(["abc", "a", "ab"], SPEC).tolist() == [
        [98, 99, 100], [98, 0, 0], [98, 99, 0],
    ]  # fmt: skip
    # Never of no length, which no network takes.
    assert text_array([""], SPEC).tolist() == [[0]]
    assert text_array([], SPEC).shape == (0, 1)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("12345678", "12345678"),
        ("123456789", "12345678"),
        ("1234567é", "1234567"),
        ("123456é", "123456é"),
        ("123456€", "123456"),
        ("12345€", "12345€"),
        ("12345😀", "12345"),
        ("1234😀", "1234😀"),
        ("éééé", "éééé"),
        ("ééééé", "éééé"),
        # Two characters to a person, whole ones to Unicode.
        ("1234567e\u0301", "1234567e"),
    ],
)
def test_a_cut_is_behind_the_last_whole_character(text: str, read: str) -> None:
    assert text_bytes(text, SPEC) == read.encode()
    assert numbers(text) == [byte + 1 for byte in read.encode()]


@STEADY
@given(text=st.text(min_size=1), longest=st.integers(4, 20))
def test_what_is_read_is_the_beginning(text: str, longest: int) -> None:
    spec = TextSpec(max_bytes=longest)
    found = numbers(text, spec)
    read = bytes(number - 1 for number in found).decode()
    text = trimmed(text)
    assert text.startswith(read)
    assert len(found) <= longest
    # Another character would not have fitted.
    assert read == text or len(found) + len(text[len(read)].encode()) > longest
    assert all(0 < number < IDS for number in found)


def test_requests_of_several_lengths_are_joined() -> None:
    parts = [text_array([text], SPEC) for text in ("a", "abcd", "ab")]
    joined = batched(parts)
    assert joined.dtype == np.int64
    assert np.array_equal(joined, text_array(["a", "abcd", "ab"], SPEC))
    assert np.array_equal(batched(parts[1:2]), parts[1])


def test_other_samples_are_joined_as_they_are() -> None:
    parts = [np.random.default_rng(n).random((n, 1, 2, 3), np.float32) for n in (1, 4, 2)]
    assert np.array_equal(batched(parts), np.concatenate(parts))
