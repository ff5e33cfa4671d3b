"""The data card counts what is in each split."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np

from marwright.training.card import data_card
from marwright.training.record import DataCard, Duplicates
from marwright.training.samples import Fault, Samples
from marwright.training.types import NOTHING, Opened
from tests.training.conftest import (
    image_recipe,
    image_samples,
    splits_by_place,
    table_recipe,
    table_samples,
)

NONE = Duplicates(exact=1, conflicting=0, leaked=0, near=0, compared=20, pairs=[])
FAULTS = (Fault(where="a.png", what="the file is empty"),)


def opened(samples: Samples) -> Opened:
    return Opened(splits=splits_by_place(samples), faults=FAULTS, duplicates=NONE, learned=NOTHING)


def test_samples_are_counted_by_split_and_label() -> None:
    # A label that a split has no sample of is counted too.
    targets = np.array([0] * 30 + [1] * 10 + [0] * 10 + [1] * 9 + [2])
    samples = dataclasses.replace(
        image_samples(), targets=targets, labels=("dark", "bright", "grey")
    )
    card = data_card(opened(samples), image_recipe())
    assert card.dataset == "tiny"
    assert card.labels == ["dark", "bright", "grey"]
    assert card.counts == {"train": [30, 10, 0], "validation": [10, 0, 0], "test": [0, 9, 1]}
    assert card.target == {}
    assert (card.faults, card.duplicates) == ([*FAULTS], NONE)


def test_the_range_of_a_value_is_told_of_each_split() -> None:
    samples = dataclasses.replace(table_samples(), targets=np.arange(60.0))
    card = data_card(opened(samples), table_recipe())
    assert card.counts == {"train": [40], "validation": [10], "test": [10]}
    assert card.target == {
        "train": (0.0, 19.5, 39.0), "validation": (40.0, 44.5, 49.0), "test": (50.0, 54.5, 59.0)
    }  # fmt: skip
    assert card.labels == []


def test_a_card_is_read_as_it_was_written() -> None:
    for samples, recipe in ((image_samples(), image_recipe()), (table_samples(), table_recipe())):
        card = data_card(opened(samples), recipe)
        assert msgspec.json.decode(msgspec.json.encode(card), type=DataCard) == card
