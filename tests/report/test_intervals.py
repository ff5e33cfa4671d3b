"""Intervals of shares, against published ones."""

from __future__ import annotations

import pytest

from marwright.report.intervals import wilson


@pytest.mark.parametrize(
    ("some", "of", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_the_published_ones(some: int, of: int, low: float, high: float) -> None:
    """Newcombe, Two-sided confidence intervals for the single proportion (1998), table I."""
    assert wilson(some, of) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(of - some, of)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_ends_are_exact_where_all_or_none_are() -> None:
    for of in (1, 3, 49, 364):
        assert wilson(0, of)[0] == 0.0 < wilson(0, of)[1] < 1.0
        assert 0.0 < wilson(of, of)[0] < wilson(of, of)[1] == 1.0


def test_of_no_samples_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
