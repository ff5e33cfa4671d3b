"""SVG that is part of a page."""

from __future__ import annotations

import re

from markupsafe import Markup
from matplotlib import rcParams
from matplotlib.figure import Figure

from marwright.report.style import BAD, CSS, VARIABLES
from marwright.report.svg import drawing, inline
from tests.report.html import faults, words


def drawn(name: str, label: str = "label") -> Markup:
    with drawing(name):
        figure = Figure(figsize=(2, 2))
        axes = figure.add_axes((0.2, 0.2, 0.7, 0.7))
        axes.plot([0, 1, 2], [0.123456789, 1, 2], color=BAD, marker="o")
        axes.set_xlabel("$a$ < b")
        return inline(figure, label)


def test_names_of_parts_are_those_of_one_plot() -> None:
    one, other = drawn("one"), drawn("other")
    ids = [{*re.findall(r' id="([^"]*)"', svg)} for svg in (one, other)]
    assert len(ids[0]) == len(ids[1]) > 0
    assert not ids[0] & ids[1]
    assert [*faults(one + other)] == []
    # Without names of their own they would be the same ones.
    assert "id b twice" in [*faults('<p id="b"></p><p id="b"></p>')]
    assert any("twice" in fault for fault in faults(one + one))


def test_the_same_figure_is_the_same_text() -> None:
    assert drawn("one") == drawn("one")


def test_colours_are_the_pages_own() -> None:
    svg = drawn("one")
    assert "stroke: var(--bad)" in svg
    assert "#0102" not in svg
    assert [name for name in VARIABLES.values() if f"{name[4:-1]}: #" not in CSS] == []


def test_text_is_text_and_formulas_are_not_set() -> None:
    svg = drawn("one")
    assert "$a$ &lt; b" in svg
    assert "$a$ < b" in words(svg)
    assert "font-size" in svg and "font-family" not in svg


def test_nothing_but_the_plot_is_in_it() -> None:
    svg = drawn("one")
    assert svg.startswith("<svg ") and svg.endswith("</svg>")
    for part in ("xmlns", "<style", "<metadata", "<?xml", "<!DOCTYPE", "\n"):
        assert part not in svg
    assert not re.search(r"\d\.\d{6}", svg)


def test_it_is_read_aloud_as_its_label() -> None:
    svg = drawn("one", 'a "b" <c>')
    assert 'role="img" aria-label="a &quot;b&quot; &lt;c&gt;"' in svg


def test_settings_are_as_before_afterwards() -> None:
    before = dict(rcParams)
    with drawing("one"):
        assert rcParams["svg.hashsalt"] == "one"
    assert dict(rcParams) == before
