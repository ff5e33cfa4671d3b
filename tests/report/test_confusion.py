"""The confusion matrix, as a picture that can be read."""

from __future__ import annotations

import re

import msgspec
import pytest

from marwright.report.confusion import confused, confusion, rows
from marwright.report.page import Section, page_of
from marwright.training.record import Classified
from tests.report.html import faults, words
from tests.report.train_reports import classifier


def found(classes: int, right: float = 0.8) -> Classified:
    report = classifier(classes, right=right).classified
    assert report is not None
    return report


def html(found: Classified) -> str:
    page = page_of([Section(title="t", anchor="a", body=confusion(found))], title="t", subtitle="s")
    assert [*faults(page)] == []
    return page


def cells(html: str, kind: str) -> int:
    return len(re.findall(rf'<td class="{kind}"', html))


@pytest.mark.parametrize("classes", [2, 14, 15, 40, 60])
def test_each_cell_that_is_not_empty_is_drawn(classes: int) -> None:
    matrix = found(classes)
    drawn = html(matrix)
    right = [row[at] for at, row in enumerate(matrix.confusion)]
    filled = sum(many > 0 for row in matrix.confusion for many in row)
    assert cells(drawn, "right") == sum(many > 0 for many in right)
    assert cells(drawn, "right") + cells(drawn, "wrong") == filled
    assert len(re.findall(r"<tr><th scope=.row. title", drawn)) == classes


def test_counts_stand_in_the_cells_of_few_classes_and_behind_those_of_many() -> None:
    few, many = html(found(14)), html(found(15))
    assert re.search(r"--shade:\d+%\"><span class=\"\">\d+</span></td>", few)
    # Where there is no room for it, it is there for those who do not look.
    assert re.search(
        r"--shade:\d+%\" title=\"[^\"]+\"><span class=\"unseen\">\d+</span></td>", many
    )
    assert not re.search(r"--shade:\d+%\">\d+</td>", many)
    assert 'title="cat as cat: ' in many and 'title="cat as cat: ' not in few
    assert "Point at a cell for its count" in words(many)


def test_of_very_many_classes_there_are_pairs_alone() -> None:
    drawn = html(found(61))
    assert "With 61 classes, a picture of the whole matrix could not be read" in words(drawn)
    assert 'style="--shade' not in drawn
    assert "Most confused" in words(drawn)


def test_a_shade_goes_by_the_part_of_the_row() -> None:
    (first, second) = rows([[1, 99], [0, 0]], 20, 100)
    assert [(cell.many, cell.shade, cell.right) for cell in first] == [
        (1, 28, True),
        (99, 100, False),
    ]
    assert [cell.shade for cell in second] == [0, 0]


def test_the_most_frequent_confusion_stands_first() -> None:
    pairs = confused(["a", "b", "c"], [[5, 2, 0], [0, 9, 2], [3, 0, 1]])
    assert [(pair.truth, pair.answer, pair.many, pair.of) for pair in pairs] == [
        ("c", "a", 3, 4), ("a", "b", 2, 7), ("b", "c", 2, 11)
    ]  # fmt: skip


def test_pairs_are_in_sight_or_in_the_page_or_counted() -> None:
    count = 12
    labels = [classifier(2).data.labels[0]] * count
    matrix = [[1] * count for _ in range(count)]
    base = found(count)
    classes = [msgspec.structs.replace(one, label=label)
               for one, label in zip(base.classes, labels, strict=True)]  # fmt: skip
    text = words(html(msgspec.structs.replace(base, classes=classes, confusion=matrix)))
    assert "52 more pairs" in text
    assert "72 pairs that are as rare or rarer are left out." in text


def test_nothing_confused_is_said() -> None:
    text = words(html(found(3, right=1.0)))
    assert "No two classes were confused." in text and "Most confused" not in text


def test_labels_are_escaped() -> None:
    base = found(15)
    classes = [msgspec.structs.replace(one, label=f'"><script>{at}')
               for at, one in enumerate(base.classes)]  # fmt: skip
    html(msgspec.structs.replace(base, classes=classes))
