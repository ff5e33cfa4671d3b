"""A CSV file becomes texts and their labels; what cannot be used is named by its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marwright.recipe.errors import DataError
from marwright.training.datasets.text_csv import load
from marwright.training.samples import TextSamples

LETTERS = """\
id,mood,words
1,glad,"It works, at last"
2,sad, "It said ""no"" again
and again"
3,glad,schön ✓
"""


def loaded(folder: Path, content: str, **params: Any) -> TextSamples:
    file = folder / "letters.csv"
    file.write_text(content, encoding="utf-8")
    return load(file, **({"text": "words", "target": "mood"} | params))


def test_texts_and_labels(tmp_path: Path) -> None:
    samples = loaded(tmp_path, LETTERS)
    assert [*samples.texts] == ["It works, at last", 'It said "no" again\nand again', "schön ✓"]
    assert samples.labels == ("glad", "sad")
    assert samples.targets.dtype == np.int64
    assert samples.targets.tolist() == [0, 1, 0]
    assert samples.faults == ()
    assert [*samples.names] == [f"letters.csv row {number}" for number in (2, 3, 4)]


def test_labels_may_be_numbers(tmp_path: Path) -> None:
    samples = loaded(tmp_path, "words,mood\na,10\nb,9\n")
    assert samples.labels == ("9", "10")
    assert samples.targets.tolist() == [1, 0]


def test_accents_of_labels_have_one_form(tmp_path: Path) -> None:
    samples = loaded(tmp_path, "words,mood\na,caf\u00e9\nb,bar\nc,cafe\u0301\n")
    assert samples.labels == ("bar", "caf\u00e9")
    assert samples.targets.tolist() == [1, 0, 1]


def test_what_is_missing_is_a_fault_of_its_row(tmp_path: Path) -> None:
    samples = loaded(tmp_path, "words,mood\na,x\n,x\nb,\nc,y\nd\n")
    assert [*samples.texts] == ["a", "c"]
    assert [(fault.where, fault.what) for fault in samples.faults] == [
        ("letters.csv row 3", "words is missing"),
        ("letters.csv row 4", "mood is missing"),
        ("letters.csv row 6", "has 1 cells, not 2"),
    ]


def test_a_column_may_decide_the_splits(tmp_path: Path) -> None:
    content = "words,mood,part\na,x,train\nb,y,test\nc,x,validation\nd,y,tset\n"
    samples = loaded(tmp_path, content, split_column="part")
    assert [*samples.fixed] == ["train", "test", "validation"]
    (fault,) = samples.faults
    assert "'tset', not train, validation, test or empty" in fault.what


def test_a_text_may_be_longer_than_pythons_own_limit(tmp_path: Path) -> None:
    long = "so " * 100_000
    samples = loaded(tmp_path, f"words\tmood\n{long}\tx\nb\ty\n", delimiter="tab")
    assert samples.texts[0] == long.strip()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"text": "word"}, r"text: letters\.csv has no column 'word'; did you mean \"words\"\?"),
        ({"target": "moods"}, r"target: letters\.csv has no column 'moods'"),
        ({"target": "words"}, "columns of their own"),
        ({"split_column": "mood"}, "columns of their own"),
        ({"split_column": "part"}, r"split_column: letters\.csv has no column 'part'"),
    ],
)
def test_columns_that_there_are_not_are_refused(
    tmp_path: Path, params: dict[str, str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        loaded(tmp_path, LETTERS, **params)


def test_it_reads_one_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name one CSV file"):
        load(text="words", target="mood")


def test_a_wrong_delimiter_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one column, 'words;mood': set .* delimiter = \";\""):
        loaded(tmp_path, "words;mood\na;x\n")


def test_a_column_without_any_split_is_refused_as_a_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no cell of 'id' is train, validation, test; .* '1'"):
        loaded(tmp_path, LETTERS, split_column="id")
