"""The plots of a regression's answers."""

from __future__ import annotations

import re

import pytest

from marwright.report.residuals import against, histogram, residuals
from tests.report.html import faults, words
from tests.report.test_plots import bars, dots
from tests.report.train_reports import regression

# Drawing takes seconds.
pytestmark = pytest.mark.slow


def test_each_pair_is_a_dot_and_the_line_is_where_both_are_equal() -> None:
    svg = against([(0.0, 1.0), (5.0, 3.0), (2.0, 2.0)], "a", "label")
    assert [*faults(svg)] == []
    assert dots(svg, "first") == 3
    assert re.search(r"stroke: var\(--ink\)", svg)
    assert {"answer", "target"} <= {*words(svg).split()}


def test_each_answer_is_in_the_histogram() -> None:
    found = regression(90).predicted
    assert found is not None
    edges, counts = histogram([answer - target for target, answer in found.pairs])
    assert sum(counts) == 90 and len(counts) == 10 == len(edges) - 1
    svg = residuals(found.pairs, "a", "label")
    assert [*faults(svg)] == []
    assert bars(svg, "first") == sum(many > 0 for many in counts)
    assert len(histogram([float(at) for at in range(5000)])[1]) == 30


def test_the_outermost_values_are_counted() -> None:
    assert histogram([-1.0, 0.0, 2.0, 3.0]) == ([-1.0, 1.0, 3.0], [2, 2])


@pytest.mark.parametrize("value", [0.0, 3.5, -1e9, 1e-12])
def test_answers_that_are_all_off_by_the_same_can_be_drawn(value: float) -> None:
    (low, high), counts = histogram([value] * 3)
    assert low < value < high and counts == [3]
    pairs = [(0.0, value)] * 3
    for svg in (residuals(pairs, "a", "label"), against(pairs, "a", "label")):
        assert [*faults(svg)] == []
