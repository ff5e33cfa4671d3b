"""What the handler answered: a page claims what was checked, and no more."""

from __future__ import annotations

import msgspec

from marwright.archive.types import AnswersReport
from marwright.report.answers import answers_section
from marwright.report.page import page_of
from tests.archive.tiny import answers_report
from tests.report.html import faults, words

NOTE = 'the answers are not {"predictions": [value, …]}: values are not checked'
RIGHT = "and got the answer that the export's outputs call for."


def text(report: AnswersReport) -> str:
    page = page_of([answers_section(report)], title="t", subtitle="s")
    assert [*faults(page)] == []
    return words(page).partition("Answers ")[2]


def test_right_answers_are_those_that_the_outputs_call_for() -> None:
    report = msgspec.structs.replace(answers_report(), exports=["model.onnx", "torchscript"])
    assert text(report) == (
        "✓ Passes 10 held-out requests went through the handler as raw bytes, over model.onnx and "
        f"torchscript. Each was read as the tensor that training makes of it, {RIGHT}"
    )


def test_what_was_not_checked_is_not_claimed() -> None:
    said = text(msgspec.structs.replace(answers_report(), notes=[NOTE]))
    assert f"as the tensor that training makes of it, and got an answer. Notes {NOTE}" in said
    assert RIGHT not in said


def test_checks_that_there_were_none_of_are_listed() -> None:
    said = text(msgspec.structs.replace(answers_report(), absent=["labels", "several rows"]))
    assert said == (
        "✓ Passes 10 held-out requests went through the handler as raw bytes, over torchscript. "
        "Each got an answer. Not checked labels several rows"
    )


def test_wrong_answers_are_named() -> None:
    said = text(answers_report("the second <b> is wrong", "so is the third"))
    assert said == (
        "✗ Fails 10 held-out requests went through the handler as raw bytes, over torchscript. "
        "What is wrong the second <b> is wrong so is the third"
    )
    nothing = AnswersReport(ok=False, requests=0, exports=[], problems=["it cannot be loaded"])
    assert "0 held-out requests went through the handler as raw bytes. What is wrong" in text(
        nothing
    )
