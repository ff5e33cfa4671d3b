"""A model's page is made of the reports that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from archive.types import to_json
from report.model import write_model_page
from tests.archive.tiny import answers_report, image_recipe
from tests.report.html import faults, words
from tests.report.reports import quantised, reduced

# Drawing takes seconds.
pytestmark = pytest.mark.slow

REPORTS = {
    "answers.json": answers_report(),
    "parity.json": reduced(9, 3),
    "quantise.json": quantised(),
}


def page(tmp_path: Path, reports: dict[str, Any]) -> str:
    files = {name: tmp_path / name for name in reports}
    for name, file in files.items():
        file.write_bytes(to_json(reports[name]))
    write_model_page(tmp_path / "report.html", image_recipe(description="Arrows"), files)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [*faults(html)] == []
    assert words(html).startswith("tiny_image 1.2 tiny_image 1.2 Arrows")
    return html


def test_all_that_there_is_stands_on_it_the_gate_first(tmp_path: Path) -> None:
    anchors = re.findall('<section id="([^"]*)"', page(tmp_path, REPORTS))
    assert (anchors[0], anchors[-2:]) == ("parity", ["quantise", "answers"])


@pytest.mark.parametrize(
    ("name", "title"), [("quantise.json", "Quantisation to int8"), ("answers.json", "Answers")]
)
def test_one_report_makes_a_page(tmp_path: Path, name: str, title: str) -> None:
    html = page(tmp_path, {name: REPORTS[name]})
    assert f"{title} ✓ Passes" in words(html)
    assert html.count("<section") == 1


@pytest.mark.parametrize("name", REPORTS)
def test_what_is_no_report_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=f"^{name}: not a report of this version$"):
        write_model_page(tmp_path / "report.html", image_recipe(), {name: tmp_path / name})
