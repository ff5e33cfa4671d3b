"""The reliability diagram: each bin with its gap, and what chance leaves of it."""

from __future__ import annotations

import re

import pytest
from markupsafe import Markup

from marwright.report.reliability import bars, reliability
from marwright.training.record import Bin
from tests.report.html import faults, words

# Drawing takes seconds.
pytestmark = pytest.mark.slow


def drawn(*bins: Bin) -> Markup:
    svg = reliability(bins, "a", "label")
    assert [*faults(svg)] == []
    return svg


def heights(svg: Markup, color: str) -> list[float]:
    """Return the heights of bars of a colour, in the order in which they were drawn."""
    found = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: var\(--{color}\)', svg)
    ends = [[float(y) for y in re.findall(r"[ML] \S+ (\S+)", path)] for path in found]
    return [max(ys) - min(ys) for ys in ends]


def test_a_gap_has_the_colour_of_its_side() -> None:
    svg = drawn(Bin(samples=50, confidence=0.6, accuracy=0.3),
                Bin(samples=50, confidence=0.9, accuracy=1.0))  # fmt: skip
    first, second, _, _ = heights(svg, "first")
    (too_sure,), (not_sure,) = heights(svg, "bad"), heights(svg, "second")
    # Bars end at the smaller of both, the gap is on top.
    assert first == pytest.approx(too_sure, rel=0.01)
    assert second == pytest.approx(9 * not_sure, rel=0.01)
    assert {"accuracy", "samples", "confidence"} <= {*words(svg).split()}


def test_a_bin_has_the_interval_of_its_accuracy() -> None:
    few, many = (drawn(Bin(samples=samples, confidence=0.9, accuracy=0.8)) for samples in (5, 500))
    lengths = []
    for svg in (few, many):
        lines = re.findall(r'd="M (\S+) (\S+) L (\S+) ([^ "]+)"[^>]*stroke: var\(--ink\)', svg)
        (upright,) = [abs(float(y1) - float(y0)) for x0, y0, x1, y1 in lines if x0 == x1]
        lengths.append(upright)
    assert lengths[0] > 5 * lengths[1] > 0


def test_a_single_sample_is_seen_beside_thousands() -> None:
    svg = drawn(Bin(samples=1, confidence=0.4, accuracy=1.0),
                Bin(samples=9000, confidence=0.99, accuracy=0.99))  # fmt: skip
    assert all(height > 1 for height in heights(svg, "first"))


def test_bars_never_overlap() -> None:
    means = (0.0667, 0.0668, 0.2, 0.9999, 1.0)
    bins = [Bin(samples=1, confidence=mean, accuracy=1.0) for mean in means]
    places = [*bars(bins)]
    for (left, right), mean, (after, _) in zip(places, means, [*places[1:], (2.0, 2.0)],
                                               strict=True):  # fmt: skip
        assert left < mean < right <= after


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 1.0])
def test_one_bin_can_be_drawn(accuracy: float) -> None:
    drawn(Bin(samples=1, confidence=0.5, accuracy=accuracy))
