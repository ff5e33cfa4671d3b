"""The frame of a page, and that a page needs nothing but itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from marwright.report.page import Section, page_of, render, write_page
from marwright.report.parity import parity_sections
from tests.report.html import faults, links, words
from tests.report.reports import failing, healthy

# Drawing takes seconds.
pytestmark = pytest.mark.slow

REPORTS = {
    "healthy": healthy(60, 12),
    "failing": failing(60, 12),
    "table": healthy(60, 12, "regression"),
}


def section(anchor: str, body: str = "<p>text</p>") -> Section:
    return Section(title=f"About {anchor}", anchor=anchor, body=Markup(body))


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_is_well_formed_and_needs_nothing_else(name: str) -> None:
    html = page_of(parity_sections(REPORTS[name]), title=name, subtitle="subtitle")
    assert [*faults(html)] == []
    assert links(html) == []
    assert html.count("<svg") == 7


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<script>a()</script>", "<script>"),
        ("<p onclick='a()'>b</p>", "p has onclick"),
        ("<a href='b.html'>c</a> <img alt='a' src='data:image/png;base64,AA'>", None),
        ("<img alt='a' src='b.png'>", "<img> of b.png"),
        ("<a href='//b.org/c'>d</a>", "leads to //b.org/c"),
        ("<img src='data:image/png;base64,AA'>", "<img> without alt"),
        ("<a href='https://a.org'>b</a>", "leads to https://a.org"),
        ("<a href='javascript:a()'>b</a>", "leads to javascript:a()"),
        ("<a href='#gone'>b</a>", "#gone leads nowhere"),
        ("<p id='b'>c</p><p id='b'>c</p>", "id b twice"),
        ("<style>@import 'a.css'</style>", "names @import"),
        ("<p style='background: url(a.png)'>b</p>", "names url(a"),
        ("<table><tr><th>a</th></tr></table>", "<th> without scope"),
        ("<svg></svg>", "<svg> without aria-label"),
        ("<p>a</i>", "</i> closes nothing"),
        ("<p>a", "</section> closes nothing"),
    ],
)
def test_a_fault_of_a_page_is_found(body: str, fault: str | None) -> None:
    found = [*faults(page_of([section("a", body)], title="t", subtitle="s"))]
    assert found == [] if fault is None else fault in found


def test_sections_are_named_and_led_to() -> None:
    html = page_of([section("a"), section("b")], title="digits", subtitle="1.0 · sorts")
    assert "<title>digits</title>" in html
    assert words(html) == ("digits digits 1.0 · sorts About a About b About a text About b text")
    assert html.index('href="#b"') < html.index('id="a"') < html.index('id="b"')


def test_one_section_needs_no_list_of_them() -> None:
    assert "<nav" not in page_of([section("a")], title="t", subtitle="s")


def test_text_is_escaped_wherever_it_comes_from() -> None:
    evil = "<script>alert(1)</script>"
    unsafe = Section(title=evil, anchor="a", body=evil)  # type: ignore[arg-type]
    html = page_of([unsafe, section("b")], title=evil, subtitle=evil)
    assert [*faults(html)] == []
    assert html.count("&lt;script&gt;") == 6


def test_no_code_could_run_and_nothing_be_loaded() -> None:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policy in page_of([], title="t", subtitle="s")


def test_two_sections_cannot_share_an_anchor() -> None:
    with pytest.raises(AssertionError, match="'a', 'a'"):
        page_of([section("a"), section("a")], title="t", subtitle="s")


def test_a_value_that_a_template_misses_is_an_error() -> None:
    assert render("{{ a }}", a="<") == "&lt;"
    with pytest.raises(UndefinedError, match="'b' is undefined"):
        render("{{ b }}", a="<")


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    for _ in range(2):
        write_page(target, [section("ä")], title="t", subtitle="s")
        assert target.read_text(encoding="utf-8") == page_of(
            [section("ä")], title="t", subtitle="s"
        )
    assert [*target.parent.iterdir()] == [target]
