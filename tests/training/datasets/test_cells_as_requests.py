"""A cell of a CSV file means what the same text means in a request."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marwright.runtime.preprocess import table_array, text_array
from marwright.runtime.read import read_table, read_text, text_problem
from marwright.runtime.request import is_json, trimmed
from marwright.runtime.spec import TableSpec, TextSpec
from marwright.training.datasets import text_csv
from marwright.training.datasets.csv import load

pytestmark = pytest.mark.torch

SPEC = TextSpec(max_bytes=64)


def written(
    folders: pytest.TempPathFactory, rows: Iterable[tuple[Any, ...]], quoting: Literal[0, 1]
) -> Path:
    file = folders.mktemp("csv") / "cells.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened, quoting=quoting).writerows(rows)
    return file


# What may stand around a text or in it, and be taken in one way here and in another there.
ODD = [*" \t\r\n\x0b\x1c\x85\xa0\u3000\ufeff\0{\"',;é😀ab", "e\u0301"]


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(
    text=st.lists(st.sampled_from(ODD), max_size=8).map("".join),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
@example(text="  a \n", quoting=csv.QUOTE_ALL)
@example(text="\ufeff \ufeffa", quoting=csv.QUOTE_MINIMAL)
@example(text="a\r\nb", quoting=csv.QUOTE_ALL)
@example(text="\0", quoting=csv.QUOTE_ALL)
def test_a_cell_and_a_request_are_one_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, quoting: Literal[0, 1]
) -> None:
    rows = [("words", "mood"), ("one", "glad"), (text, "sad"), ("two", "sad")]
    samples = text_csv.load(written(tmp_path_factory, rows, quoting), text="words", target="mood")
    if text_problem(text):
        assert len(samples.texts) == 2 and samples.faults[0].what == "words is missing"
        return
    trained = text_array(samples.texts[1:2], SPEC)
    assert np.array_equal(trained, read_text({"text": text}, SPEC))
    if not is_json(text):
        assert np.array_equal(trained, read_text(text.encode(), SPEC))
    sent, _ = samples.request(1)
    assert np.array_equal(trained, read_text(sent, SPEC))


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(
    cells=st.lists(
        st.lists(st.sampled_from([*" \t\n\xa0\ufeff\0é1_", "e\u0301", "a", "nan"]), max_size=4).map(
            "".join
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_cell_and_a_request_are_one_category(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str]
) -> None:
    rows = [("colour", "price"), ("red", 1), *[(cell, 2) for cell in cells]]
    samples = load(
        written(tmp_path_factory, rows, csv.QUOTE_ALL), target="price", categorical=["colour"]
    )
    spec = TableSpec(
        columns=samples.columns, categories=samples.categories, optional=samples.optional,
        fill=(0.0,), center=(0.0,), scale=(1.0,), target="price", target_mean=0.0, target_std=1.0,
    )  # fmt: skip
    for place, cell in enumerate(cells, start=1):
        trained = table_array(samples.rows[place : place + 1], spec)
        # A cell of blanks is a missing value, which JSON calls null.
        sent = [cell if trimmed(cell) else None]
        assert np.array_equal(trained, read_table(sent, spec))
