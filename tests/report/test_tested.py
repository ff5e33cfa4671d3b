"""The test split, as a section."""

from __future__ import annotations

import msgspec
import pytest

from marwright.report import tested
from marwright.report.page import page_of
from marwright.training.record import Bin, Classified, ClassScore, Predicted, TrainReport
from tests.report.html import faults, words
from tests.report.train_reports import classifier, regression, replaced, troubled

# Drawing takes seconds.
pytestmark = pytest.mark.slow


def html(report: TrainReport) -> str:
    section = tested.tested_section(report)
    assert section is not None
    page = page_of([section], title="t", subtitle="s")
    assert [*faults(page)] == []
    return page


def test_a_classifier_is_shown_by_class_and_by_confidence() -> None:
    page = html(classifier(2))
    text = words(page)
    assert "77 samples, of which 68 got the right label and 9 a wrong one." in text
    assert "cat 40 0.943 0.825 0.681 to 0.913 0.88 dog 37" in text
    assert "the mean gap, is 0.0123 ." in text
    assert "Accuracy by confidence in 12 bins" in page
    assert page.count("<svg") == 1


def test_of_many_classes_the_worst_are_in_sight() -> None:
    report = troubled(40)
    in_sight, _, rest = html(report).partition("All 40 classes")
    assert in_sight.count('<td class="bars"') == 10 and rest.count('<td class="bars"') == 40
    assert report.classified is not None
    worst = min(report.classified.classes, key=lambda one: one.f1)
    assert f"F1 {worst.label} {worst.samples} " in words(in_sight)


def test_what_cannot_be_measured_is_a_dash_and_no_zero() -> None:
    classes = [
        ClassScore(label="a", samples=4, precision=1.0, recall=0.5, f1=2 / 3),
        ClassScore(label="absent", samples=0, precision=0.0, recall=0.0, f1=0.0),
        ClassScore(label="never", samples=3, precision=0.0, recall=0.0, f1=0.0),
    ]
    matrix = [[2, 2, 0], [0, 0, 0], [0, 3, 0]]
    found = Classified(classes=classes, confusion=matrix, calibration=[])
    assert [(row.precision, row.recall, row.f1) for row in tested.rows(found)] == [
        (1.0, 0.5, 2 / 3), (0.0, None, None), (None, 0.0, 0.0)
    ]  # fmt: skip
    page = html(replaced(classifier(3), classified=found))
    assert "absent 0 0 – – – never 3 – 0 0 to 0.561 0" in words(page)
    assert "Calibration" not in words(page) and "<svg" not in page


def test_nothing_wrong_is_said_without_a_zero() -> None:
    text = words(html(classifier(3, right=1.0)))
    assert "112 samples, of which 112 got the right label. Confusion" in text


def test_all_samples_in_one_bin() -> None:
    report = classifier(2)
    assert report.classified is not None
    bins = [Bin(samples=77, confidence=1.0, accuracy=1.0)]
    one = msgspec.structs.replace(report.classified, calibration=bins)
    page = html(replaced(report, classified=one, metrics={}))
    assert "1 1 0 77" in words(page) and "expected calibration" not in words(page)


def test_a_regression_is_shown_by_its_answers() -> None:
    page = html(regression())
    text = words(page)
    assert "90 samples; the target is progression . An R² of 0.438 means" in text
    assert "Mean absolute error 47.61 64.64 in the target's units" in text
    assert "Always answering the mean of the training split has −0.0074" in text
    assert "Answer against target : 90 samples; right ones lie on the line." in text
    assert "on average, 90 % from −" in text
    assert page.count("<svg") == 2
    assert "90 answers against targets: targets go from" in page


def test_pairs_that_are_some_of_the_samples_are_told_to_be() -> None:
    report = regression()
    counts = {**report.data.counts, "test": [4321]}
    data = msgspec.structs.replace(report.data, counts=counts)
    assert ": 90 samples of 4,321; right ones" in words(html(replaced(report, data=data)))


def test_one_pair_can_be_shown() -> None:
    one = Predicted(target="<y>", pairs=[(3.0, 5.0)])
    text = words(html(replaced(regression(), predicted=one)))
    assert "Answer less target : 2 on average, 90 % from 2 to 2." in text


def test_without_answers_there_is_no_such_section() -> None:
    none = Predicted(target="y", pairs=[])
    assert tested.tested_section(replaced(regression(), predicted=none)) is None
    assert tested.tested_section(replaced(classifier(2), classified=None)) is None
