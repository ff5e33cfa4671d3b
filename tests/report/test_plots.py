"""The plots of a parity report: everything that was measured is drawn."""

from __future__ import annotations

import re

import pytest
from markupsafe import Markup

from marwright.parity.types import Layer, Plot
from marwright.report.plots import histogram, layers, scatter
from tests.report.html import faults, words

# Drawing takes seconds.
pytestmark = pytest.mark.slow

EDGES = [-2.0, -1.0, 0.0, 1.0]


def plot(
    reference: list[float], output: list[float], counts: tuple[int, int, int] = (0, 0, 0)
) -> Plot:
    return Plot(
        backend="onnx", reference=reference, output=output, edges=EDGES, counts=[*counts]
    )  # fmt: skip


def dots(svg: Markup, color: str) -> int:
    """Count what is drawn as a dot of a colour: ends of lines without length."""
    paths = re.findall(rf'<path d="([^"]*)"[^>]*stroke: var\(--{color}\)[^>]*linecap: round', svg)
    return sum(path.count("M ") for path in paths)


def bars(svg: Markup, color: str) -> int:
    return svg.count(f'style="fill: var(--{color})')


def test_bars_beyond_the_limit_have_the_colour_of_faults() -> None:
    svg = histogram(plot([], [], (5, 1, 1)), "limit", "a", "label")
    assert (bars(svg, "first"), bars(svg, "bad")) == (2, 1)
    svg = histogram(plot([], [], (5, 0, 1)), "spread", "a", "label")
    assert (bars(svg, "first"), bars(svg, "bad")) == (2, 0)
    assert "error ÷ spread" in words(svg)


def test_the_line_of_the_limit_is_in_every_histogram() -> None:
    for counts in ((0, 0, 0), (9, 0, 0), (0, 0, 9)):
        svg = histogram(plot([], [], counts), "limit", "a", "label")
        assert "limit" in words(svg).split()
        assert svg.count("stroke: var(--ink)") == 1


def test_each_pair_is_a_dot_in_both_plots() -> None:
    reference = [0.0, 1.0, 2.0, 3.0]
    svg = scatter(plot(reference, [0.0, 1.0, 2.5, 3.001]), 0.01, "a", "label")
    assert (dots(svg, "first"), dots(svg, "bad")) == (4 + 3, 1)
    assert "limit" in words(svg)
    svg = scatter(plot(reference, [0.0, 1.0, 2.5, 3.001]), None, "a", "label")
    assert (dots(svg, "first"), dots(svg, "bad")) == (8, 0)
    assert "limit" not in words(svg)


def test_dots_that_would_lie_on_each_other_are_one() -> None:
    svg = scatter(plot([0.0, *[1.0] * 500], [0.0, *[1.0] * 500]), None, "a", "label")
    assert dots(svg, "first") == 4


def test_outputs_that_are_all_the_same_can_be_drawn() -> None:
    for value in (0.0, 5.0, 1e30, -1e-30):
        svg = scatter(plot([value] * 3, [value] * 3), 1e-6, "a", "label")
        assert dots(svg, "first") == 2


def layer(error: float, float32: float = 1e-8) -> Layer:
    return Layer(node="$node$", op="Conv", shape=[1], error=error, float32=float32)


def points(svg: Markup, color: str) -> int:
    (line,) = re.findall(
        rf'<path d="([^"]*)"[^>]*style="fill: none; [^"]*stroke: var\(--{color}\)', svg
    )
    return len(re.findall("[ML] ", line))


def test_both_errors_are_drawn_after_each_node_that_has_one() -> None:
    svg = layers([layer(1e-8), layer(0), layer(1e-3), layer(1e-2)], None, "a", "label")
    assert (points(svg, "first"), points(svg, "second")) == (3, 4)
    assert "diverging" not in words(svg)


def test_the_diverging_node_is_marked() -> None:
    svg = layers([layer(1e-8), layer(1e-2)], 1, "a", "label")
    assert "first diverging node" in words(svg)
    assert points(svg, "bad") == 2


def test_one_node_and_no_error_can_be_drawn() -> None:
    for nodes in ([layer(1e-8)], [layer(0, 0)]):
        assert [*faults(layers(nodes, 0, "a", "label"))] == []


def test_nothing_that_a_report_says_is_drawn() -> None:
    assert "node$" not in layers([layer(1e-8)], 0, "a", "label")
