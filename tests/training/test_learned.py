"""What the model that another one starts from has learned of is no test of that one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from marwright.recipe.errors import DataError
from marwright.recipe.load import load_recipe
from marwright.recipe.types import varied
from marwright.training.data import open_dataset
from marwright.training.learned import known_before, learned_of, read_learned, write_learned
from marwright.training.types import NOTHING
from tests.projects import ROOT

pytestmark = pytest.mark.slow

RECIPE = load_recipe(ROOT / "archive" / "diabetes.toml")


def test_the_same_division_has_nothing_in_common() -> None:
    parent = open_dataset(RECIPE, Path())
    splits = parent.splits
    assert len(parent.learned.train) == len(splits.train)
    assert len(parent.learned.validation) == len(splits.validation)
    child = open_dataset(RECIPE, Path(), parent.learned)
    assert child.duplicates.before == 0
    assert np.array_equal(child.learned.train, parent.learned.train)


def test_another_division_is_counted_and_refused() -> None:
    parent = open_dataset(RECIPE, Path())
    train, validation = {*parent.splits.train}, {*parent.splits.validation}
    for settings in ({"data.split_salt": "again"}, {"data.test": 0.3}):
        other = varied(RECIPE, settings)
        child = open_dataset(other, Path(), parent.learned)
        known = ({*child.splits.test} & (train | validation)) | ({*child.splits.validation} & train)
        assert child.duplicates.before == len(known) > 0
        refusing = varied(other, {"data.near_duplicates": "refuse"})
        with pytest.raises(DataError, match="were learned by the model that this one starts from"):
            open_dataset(refusing, Path(), parent.learned)


def test_what_was_learned_of_is_handed_on(tmp_path: Path) -> None:
    splits = open_dataset(RECIPE, Path()).splits
    few = dataclasses.replace(splits, train=splits.train[:5], validation=splits.validation[:2])
    write_learned(learned_of(few, NOTHING), tmp_path / "learned.safetensors")
    first = read_learned(tmp_path / "learned.safetensors")
    assert (len(first.train), len(first.validation), first.train.dtype) == (5, 2, np.uint64)
    later = learned_of(dataclasses.replace(splits, train=splits.test[:3]), first)
    assert (len(later.train), len(later.validation)) == (8, len(splits.validation))
    moved = dataclasses.replace(
        splits, test=splits.validation[:4], validation=splits.train[:9], train=splits.test
    )
    assert known_before(moved, later).tolist() == [
        *splits.validation[:4].tolist(), *splits.train[:5].tolist()
    ]  # fmt: skip
    assert known_before(splits, read_learned(None)).size == 0
