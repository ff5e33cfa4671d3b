"""The samples that a model is most wrong about."""

from __future__ import annotations

import msgspec

from marwright.report.page import page_of
from marwright.report.wrong import table, wrong_section
from marwright.training.record import TrainReport, Wrong
from tests.report.html import faults, words
from tests.report.train_reports import classifier, regression, troubled


def html(report: TrainReport) -> str:
    section = wrong_section(report)
    assert section is not None
    page = page_of([section], title="t", subtitle="s")
    assert [*faults(page)] == []
    return page


def row(**values: float | str | None) -> Wrong:
    return Wrong(name="n", loss=1.0, truth="1", answer="2", row=values)


def written(text: str) -> Wrong:
    return Wrong(name="n", loss=1.0, truth="1", answer="2", text=text)


def test_pictures_stand_with_truth_answer_and_probability() -> None:
    report = troubled()
    page = html(report)
    assert page.count("<img") == page.count("<article") == len(report.wrong) == 24
    assert page.count('<img class="pixels"') == 12
    text = words(page)
    assert "Of 238 test samples with a wrong label the 24 with the largest loss" in text
    one = report.wrong[0]
    assert f"Truth {one.truth} Answer {one.answer} Probability 0.644 Loss 5 img/0000.png" in text
    assert "12 more samples" in text


def test_all_wrong_ones_are_said_to_be_all() -> None:
    text = words(html(classifier(3)))
    assert "All test samples with a wrong label, the largest loss first." in text
    assert "more samples" not in text


def test_a_picture_that_is_none_is_not_shown_as_one() -> None:
    report = classifier(3)
    broken = msgspec.structs.replace(report.wrong[0], picture="AAAA")
    page = html(msgspec.structs.replace(report, wrong=[broken]))
    assert "<img" not in page and "is not a PNG" in words(page)


def test_rows_of_a_table_stand_with_their_columns() -> None:
    text = words(html(regression()))
    assert "Name Truth Answer Difference Loss age sex bmi bp sample 0 276 140.779 −135 3" in text
    assert "sample 0 276 140.779 −135 3 40 female 27.4 – sample 1" in text
    assert "The 5 test samples with the largest loss" in text
    assert "Probability" not in text


def test_columns_of_numbers_are_told_from_others() -> None:
    columns, rows = table([row(a=1, b="x"), row(a=None, c=2.5)])
    assert [(column.name, column.numeric) for column in columns] == [
        ("a", True), ("b", False), ("c", True)
    ]  # fmt: skip
    assert rows == [[1, "x", None], [None, None, 2.5]]


def test_text_stands_as_text_and_not_without_end() -> None:
    # What looks like a row of ours is a text like any other, however deep.
    texts = ("<b> not JSON", "x" * 900, '{"a": 1}', "[" * 100_000)
    columns, rows = table([written(text) for text in texts])
    assert [column.name for column in columns] == ["Sample"]
    assert rows[0] == ["<b> not JSON"] and rows[2] == ['{"a": 1}']
    assert len(str(rows[1][0])) == len(str(rows[3][0])) == 401


def test_too_many_columns_are_one_text() -> None:
    _, rows = table([row(**{f"c{at}": at for at in range(25)})])
    assert str(rows[0][0]).startswith("c0: 0, c1: 1, ")


def test_a_classifier_of_rows_has_probabilities_and_no_difference() -> None:
    report = classifier(3)
    wrong = [msgspec.structs.replace(one, picture="", text="<i>words") for one in report.wrong]
    text = words(html(msgspec.structs.replace(report, wrong=wrong)))
    assert "Name Truth Answer Probability Loss Sample img/0000.png" in text
    assert "<i>words" in text


def test_a_report_without_wrong_samples_has_no_such_section() -> None:
    assert wrong_section(classifier(3, right=1.0)) is None
