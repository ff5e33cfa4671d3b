"""The test samples with the largest losses, as a section: as pictures, or as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marwright.report.limits import right_of
from marwright.report.numbers import plural
from marwright.report.page import Section, render
from marwright.report.templates.wrong import PICTURES, TABLE
from marwright.report.worst import picture
from marwright.training.record import TrainReport, Wrong

# Samples in sight.
_FEW = 12
# Columns that rows may have to stand side by side, and letters of a text that are shown.
_COLUMNS, _LETTERS = 24, 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table's rows; `numeric` where all of its values are numbers or missing."""

    name: str
    numeric: bool


def wrong_section(report: TrainReport) -> Section | None:
    """Return the samples that a report calls most wrong, in its order; None without any."""
    wrong = report.wrong
    if not wrong:
        return None
    if any(one.picture for one in wrong):
        body = render(
            PICTURES,
            lead=_lead(report),
            cards=[(one, picture(one.picture), shortened(one.text)) for one in wrong],
            in_sight=_FEW,
        )
    else:
        columns, rows = table(wrong)
        body = render(
            TABLE,
            lead=_lead(report),
            columns=columns,
            rows=[*zip(wrong, rows, strict=True)],
            has_probability=any(one.probability is not None for one in wrong),
            has_difference=report.task == "regression",
            in_sight=_FEW,
        )
    return Section(title="Most wrong", anchor="most-wrong", body=body)


def _lead(report: TrainReport) -> str:
    shown = len(report.wrong)
    if report.classified is None:
        return f"The {plural(shown, 'test sample')} with the largest loss, the largest first."
    right, of = right_of(report.classified)
    if shown < of - right:
        return (
            f"Of {of - right:,} test samples with a wrong label the {shown:,} with the largest "
            "loss, the largest first."
        )
    return "All test samples with a wrong label, the largest loss first."


def table(wrong: Sequence[Wrong]) -> tuple[list[Column], list[list[object]]]:
    """Return what the samples are as columns and rows: a row's own values, or one text.

    What is missing is None.
    """
    names = list(dict.fromkeys(name for one in wrong for name in one.row))
    if not names or len(names) > _COLUMNS:
        texts = [one.text or ", ".join(f"{k}: {v}" for k, v in one.row.items()) for one in wrong]
        return [Column(name="Sample", numeric=False)], [[shortened(text)] for text in texts]
    rows: list[list[object]] = [[one.row.get(name) for name in names] for one in wrong]
    return [
        Column(name=name, numeric=all(isinstance(value, int | float | None) for value in column))
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    ], rows


def shortened(text: str) -> str:
    """Return a text, or as much of it as a page shows."""
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS].rstrip()}…"
