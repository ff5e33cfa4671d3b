"""Numbers as a page shows them."""

from __future__ import annotations

import math

import pytest

from marwright.report.numbers import count, listed, measured, number, plural, power, shape, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (8.0, "8"),
        (0.5, "0.5"),
        (0.47012, "0.470"),
        (-2.5, "−2.5"),
        (1e-4, "0.0001"),
        (12_436.0, "12,400"),
        (999_999.5, "1.00e6"),
        (3.8147e-6, "3.81e-6"),
        (1e-6, "1e-6"),
        (1e300, "1e300"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "NaN"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_more_digits_are_shown_on_request() -> None:
    assert number(0.989_010_989, 5) == "0.98901"
    assert number(12_436.4, 6) == "12,436.4"


def test_what_was_not_measured_is_a_dash() -> None:
    assert (measured(-1.0), measured(0.0), measured(0.25)) == ("–", "0", "0.25")
    assert (count(-1), count(0), count(12_345)) == ("–", "0", "12,345")


def test_powers_of_ten() -> None:
    assert [power(n) for n in (-12, -1, 0, 1, 2)] == ["10⁻¹²", "10⁻¹", "1", "10", "10²"]


def test_sizes_of_files() -> None:
    shown = [size(n) for n in (0, 512, 4000, 1_023_000, 1_024_000, 46_800_000)]
    assert shown == ["0 KiB", "0.5 KiB", "3.91 KiB", "999 KiB", "0.977 MiB", "44.6 MiB"]


def test_words_around_numbers() -> None:
    assert (plural(1, "case"), plural(2_000, "case")) == ("1 case", "2,000 cases")
    assert (shape([3, 224, 224]), shape([])) == ("3 × 224 × 224", "–")
    assert [listed("abc"[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
