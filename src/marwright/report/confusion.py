"""A confusion matrix as a picture that is a table, and the pairs that are confused most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from marwright.report.page import render
from marwright.report.templates.confusion import CONFUSION
from marwright.training.record import Classified

# Classes up to which cells hold their counts, and those up to which there is a picture at all: of
# more, its cells could not be told apart.
_COUNTED, _DRAWN = 14, 60
# Letters of a label that fit above a column.
_SHORT = 4
# How strong the colour of a cell is, in percent: that of a single sample must be seen, and behind a
# count the strongest must not hide it.
_BEHIND_COUNTS, _ALONE = (12, 50), (25, 100)
# Confused pairs that are in sight, and in the page.
_FEW, _MOST = 8, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """How many samples of a class got an answer; `shade` is a percentage of the colour."""

    many: int
    shade: int
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Confused:
    """How many samples of the class `truth`, which has `of`, were answered as `answer`."""

    truth: str
    answer: str
    many: int
    of: int


def confusion(found: Classified) -> Markup:
    """Return a matrix with a row of cells for each true class, and the most confused pairs."""
    labels = [one.label for one in found.classes]
    pairs = confused(labels, found.confusion)
    counted = len(labels) <= _COUNTED
    cells = rows(found.confusion, *(_BEHIND_COUNTS if counted else _ALONE))
    return render(
        CONFUSION,
        labels=labels,
        rows=[*zip(labels, cells, strict=True)] if len(labels) <= _DRAWN else [],
        counted=counted,
        tall=not counted or max(map(len, labels)) > _SHORT,
        pairs=pairs[:_MOST],
        left_out=len(pairs[_MOST:]),
        in_sight=_FEW,
    )


def rows(matrix: Sequence[Sequence[int]], faint: int, strong: int) -> Iterator[list[Cell]]:
    """Yield the cells of each row, from `faint` to `strong` by the root of their part of it."""
    for truth, row in enumerate(matrix):
        of = sum(row)
        yield [
            Cell(
                many=many,
                shade=round(faint + (strong - faint) * math.sqrt(many / of)) if many else 0,
                right=truth == answer,
            )
            for answer, many in enumerate(row)
        ]


def confused(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[Confused]:
    """Return the pairs of truth and wrong answer, the most frequent first."""
    found = [
        Confused(truth=labels[truth], answer=labels[answer], many=many, of=sum(row))
        for truth, row in enumerate(matrix)
        for answer, many in enumerate(row)
        if many and truth != answer
    ]
    return sorted(found, key=lambda pair: (-pair.many, -pair.many / pair.of))
