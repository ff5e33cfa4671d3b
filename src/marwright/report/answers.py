"""What the handler answered, as a section."""

from __future__ import annotations

from marwright.archive.types import AnswersReport
from marwright.report.numbers import listed, plural
from marwright.report.page import Section, render, verdict_box
from marwright.report.templates.answers import ANSWERS


def answers_section(report: AnswersReport) -> Section:
    """Say how many requests went through the handler over which exports, and what was wrong."""
    text = f"{plural(report.requests, 'held-out request')} went through the handler as raw bytes"
    if report.exports:
        text += f", over {listed(report.exports)}"
    if report.ok:
        # With a note, what the answers say is what could not be checked.
        answer = "an answer" if report.notes else "the answer that the export's outputs call for"
        read = f"was read as the tensor that training makes of it, and got {answer}"
        # What a handler of another kind left open is listed below.
        text += f". Each {'got an answer' if report.absent else read}"
    body = render(ANSWERS, report=report, verdict=verdict_box(ok=report.ok, text=f"{text}."))
    return Section(title="Answers", anchor="answers", body=body)
