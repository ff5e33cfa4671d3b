"""The curves of a training: every epoch is on them, and the best one is marked."""

from __future__ import annotations

import re

import msgspec
import pytest
from markupsafe import Markup

from marwright.report.curves import Curve, changes, curves, spans_powers
from marwright.report.style import SECOND
from marwright.training.record import Epoch
from tests.report.html import faults, words
from tests.report.train_reports import epochs

# Drawing takes seconds.
pytestmark = pytest.mark.slow


def drawn(values: list[float], some: list[Epoch] | None = None, best: int = 1) -> Markup:
    some = some or epochs(len(values))
    svg = curves([Curve(values=values)], some, best, "loss", "a", "label")
    assert [*faults(svg)] == []
    return svg


def points(svg: Markup, color: str = "first") -> list[tuple[float, float]]:
    (line,) = re.findall(
        rf'<path d="([^"]*)"[^>]*style="fill: none; [^"]*stroke: var\(--{color}\)', svg
    )
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", line)]


@pytest.mark.parametrize("count", [2, 60, 61, 200])
def test_each_epoch_is_a_point(count: int) -> None:
    svg = drawn([1 + at / count for at in range(count)])
    assert len(points(svg)) == count
    # Marks of each where they can be told apart.
    assert svg.count("<use ") >= count or count > 60


def test_a_tenfold_is_drawn_by_powers() -> None:
    svg = drawn([10.0, 1.0, 0.1])
    (_, first), (_, second), (_, third) = points(svg)
    assert second - first == pytest.approx(third - second, abs=0.01)
    assert {"10", "5", "2", "1", "0.5", "0.2", "0.1"} <= {*words(svg).split()}
    (_, first), (_, second), (_, third) = points(drawn([3.0, 2.0, 0.5]))
    assert third - second > 1.4 * (second - first)
    assert "10⁻²" in words(drawn([10.0, 1e-4]))


@pytest.mark.parametrize("values", [[0.0, 5.0], [-3.0, 0.9], [1.0, 10.0]])
def test_what_has_no_logarithm_or_needs_none_is_drawn_as_it_is(values: list[float]) -> None:
    assert not spans_powers(values)
    assert len(points(drawn(values))) == 2


@pytest.mark.parametrize("value", [0.0, 0.5, -7.0, 1e-9])
def test_one_epoch_can_be_drawn(value: float) -> None:
    svg = drawn([value])
    assert svg.count("<use ") >= 1
    assert "best: epoch 1" in words(svg)


def test_the_best_epoch_is_marked() -> None:
    svg = drawn([3.0, 2.0, 1.5, 1.8], best=3)
    assert "best: epoch 3" in words(svg)
    (line,) = re.findall(r'd="M (\S+) \S+ L (\S+) [^"]*"[^>]*stroke: var\(--ink\)', svg)
    assert float(line[0]) == float(line[1]) == points(svg)[2][0]


def test_where_another_number_of_stages_trains_is_marked() -> None:
    some = epochs(9, unfreeze=3)
    assert [*changes(some)] == [4, 7]
    svg = drawn([1.0] * 9, some)
    assert len(re.findall(r"stroke-dasharray[^>]*stroke: var\(--muted\)", svg)) == 2
    same = [msgspec.structs.replace(epoch, stages=6) for epoch in some]
    assert "stroke-dasharray" not in drawn([1.0] * 9, same)


def test_lines_are_told_apart_without_colours() -> None:
    lines = [Curve(values=[2.0, 1.0]), Curve(values=[3.0, 2.0], color=SECOND, style="--")]
    svg = curves(lines, epochs(2), 1, "loss", "a", "label")
    assert re.search(r"stroke-dasharray[^>]*stroke: var\(--second\)", svg)
    assert len(points(svg, "second")) == 2
