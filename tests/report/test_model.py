"""A model's page is made of the reports that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from marwright.archive.types import to_json
from marwright.recipe.errors import MarwrightError
from marwright.report.model import write_model_page
from tests.archive.tiny import answers_report, image_recipe
from tests.report.html import faults, words
from tests.report.reports import quantised, reduced
from tests.report.train_reports import classifier

# Drawing takes seconds.
pytestmark = pytest.mark.slow

REPORTS = {
    "answers.json": answers_report(),
    "parity.json": reduced(9, 3),
    "quantise.json": quantised(),
    "train.json": classifier(2),
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


def test_all_that_there_is_stands_on_it_training_first(tmp_path: Path) -> None:
    anchors = re.findall('<section id="([^"]*)"', page(tmp_path, REPORTS))
    assert anchors[:6] == [
        "training", "test-split", "most-wrong", "data-card", "model-card", "parity"
    ]  # fmt: skip
    assert anchors[-2:] == ["quantise", "answers"]


def test_a_gate_that_failed_without_a_training_report_has_its_page(tmp_path: Path) -> None:
    gate = {name: report for name, report in REPORTS.items() if name != "train.json"}
    anchors = re.findall('<section id="([^"]*)"', page(tmp_path, gate))
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
    said = f"{name}: not a report of this version: make it again, or remove it$"
    with pytest.raises(MarwrightError, match=said):
        write_model_page(tmp_path / "report.html", image_recipe(), {name: tmp_path / name})
