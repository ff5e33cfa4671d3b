"""What training leaves, as a page: for every kind of report, and the same for the same one."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from marwright.report.page import page_of
from marwright.report.train import train_sections
from marwright.training.record import TrainReport
from tests.archive.tiny import image_recipe
from tests.projects import ROOT
from tests.report.html import faults, links, words
from tests.report.train_reports import classifier, epochs, regression, replaced, troubled

# Drawing takes seconds.
pytestmark = pytest.mark.slow

REPORTS = {
    "two classes": classifier(2),
    "forty classes": troubled(40),
    "eighty classes": classifier(80, samples=200),
    "nothing wrong": classifier(3, right=1.0),
    "everything wrong": classifier(3, right=0.0),
    "one epoch": replaced(classifier(2), epochs=epochs(1), best_epoch=1),
    "one sample a class": classifier(5, samples=1),
    "regression": regression(),
    "one answer": regression(1),
}


def html(report: TrainReport) -> str:
    sections = train_sections(report, image_recipe(description="Sorts"))
    return page_of(sections, title="t", subtitle="s")


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_is_well_formed_and_has_a_number_everywhere(name: str) -> None:
    page = html(REPORTS[name])
    assert [*faults(page)] == []
    assert links(page) == []
    text = words(page)
    for wrong in ("NaN", "nan", "None", "∞", "inf ", "True"):
        assert wrong not in text.replace("None was found", ""), wrong
    assert not re.search(r'style="[^"]*(nan|inf)', page)


def test_sections_stand_in_their_order() -> None:
    anchors = re.findall('<section id="([^"]*)"', html(troubled(3)))
    assert anchors == ["training", "test-split", "most-wrong", "data-card", "model-card"]
    anchors = re.findall('<section id="([^"]*)"', html(classifier(3, right=1.0)))
    assert anchors == ["training", "test-split", "data-card", "model-card"]


def test_the_same_report_makes_the_same_page_in_another_process() -> None:
    command = """
from tests.report.test_train import html, troubled
import sys
sys.stdout.buffer.write(html(troubled(3)).encode())
"""
    other = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True, check=True,
    )  # fmt: skip
    assert other.stdout.decode() == html(troubled(3))


def test_drawing_a_page_needs_no_torch() -> None:
    command = "import marwright.report.model, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True)
