"""A sample's split is decided by its content: it never moves, and its duplicates go with it."""

from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.errors import DataError
from tests.train.conftest import image_samples, table_samples
from train.splits import split, split_of
from train.types import ImageSamples, Samples, SplitName, Splits, TableSamples

SHARES = {"validation": 0.15, "test": 0.2, "salt": ""}
NAMES = get_args(SplitName)


def shares(**other: object) -> dict[str, object]:
    return SHARES | other


def contents(splits: Splits) -> dict[str, list[bytes]]:
    """Return what each split holds, whatever the order of the samples."""
    return {
        name: sorted(splits.samples.content(index) for index in getattr(splits, name))
        for name in NAMES
    }


def extended(samples: Samples, more: Samples) -> Samples:
    if isinstance(samples, ImageSamples):
        assert isinstance(more, ImageSamples)
        images = [*samples.images, *more.images]
        targets = np.concatenate([samples.targets, more.targets])
        return dataclasses.replace(samples, images=images, targets=targets)
    assert isinstance(more, TableSamples)
    return dataclasses.replace(
        samples,
        rows=np.concatenate([samples.rows, more.rows]),
        targets=np.concatenate([samples.targets, more.targets]),
    )


@settings(derandomize=True, database=None, deadline=None)
@given(content=st.binary(max_size=50), salt=st.text(max_size=5))
def test_a_split_is_a_function_of_the_content_and_the_salt(content: bytes, salt: str) -> None:
    first = split_of(content, validation=0.3, test=0.3, salt=salt)
    assert first in NAMES
    assert split_of(bytes(content), validation=0.3, test=0.3, salt=salt) == first


def test_the_assignment_is_frozen() -> None:
    # Another rule would move samples that a published model was tested on into its training.
    names = [split_of(b"%d" % number, validation=0.3, test=0.3, salt="s") for number in range(12)]
    letters = "".join(name[0] if name != "train" else "." for name in names)
    assert letters == "....t.tvv..t"


@pytest.mark.parametrize("make", [image_samples, table_samples])
def test_every_sample_is_in_exactly_one_split(make: type) -> None:
    splits = split(make(100), **SHARES)
    together = np.concatenate([getattr(splits, name) for name in NAMES])
    assert sorted(together) == list(range(100))
    for name in NAMES:
        assert list(getattr(splits, name)) == sorted(getattr(splits, name))


@pytest.mark.parametrize("make", [image_samples, table_samples])
@settings(derandomize=True, database=None, deadline=None, max_examples=20)
@given(seed=st.integers(1, 1000), count=st.integers(1, 40))
def test_adding_samples_moves_none(make: type, seed: int, count: int) -> None:
    samples = make(100)
    before = contents(split(samples, **SHARES))
    after = contents(split(extended(samples, make(count, seed=seed)), **SHARES))
    for name in NAMES:
        assert set(before[name]) <= set(after[name])
    assert sum(map(len, after.values())) == 100 + count


@settings(derandomize=True, database=None, deadline=None, max_examples=20)
@given(order=st.permutations(range(60)))
def test_another_order_changes_no_split(order: list[int]) -> None:
    samples = table_samples(60)
    moved = dataclasses.replace(samples, rows=samples.rows[order], targets=samples.targets[order])
    assert contents(split(moved, **SHARES)) == contents(split(samples, **SHARES))


@pytest.mark.parametrize("make", [image_samples, table_samples])
def test_exact_duplicates_stay_together(make: type) -> None:
    samples = make(80)
    # The same samples again, some with another label: the leak would be the same.
    again = dataclasses.replace(samples, targets=samples.targets[::-1].copy())
    splits = split(extended(samples, again), **SHARES)
    for name in NAMES:
        indices = set(getattr(splits, name).tolist())
        assert indices == {(index + 80) % 160 for index in indices}


def test_another_salt_is_another_split() -> None:
    samples = table_samples(100)
    plain, salted = split(samples, **SHARES), split(samples, **shares(salt="a"))
    assert plain.digests() != salted.digests()


def test_shares_are_met_and_larger_ones_keep_what_they_had() -> None:
    samples = table_samples(2000)
    small, large = split(samples, **shares(test=0.1)), split(samples, **shares(test=0.2))
    # Four standard deviations of 2000 draws are 0.027 and 0.036.
    assert len(small.test) / 2000 == pytest.approx(0.1, abs=0.027)
    assert len(large.test) / 2000 == pytest.approx(0.2, abs=0.036)
    assert len(large.validation) / 2000 == pytest.approx(0.15, abs=0.032)
    assert set(small.test) < set(large.test)


@pytest.mark.parametrize(
    ("count", "values", "empty"),
    [
        (3, SHARES, "split holds"),
        (100, shares(test=1e-9), "the test split holds 0 of 100 samples"),
        (100, shares(validation=1e-9), "the validation split holds 0 of 100 samples"),
    ],
)
def test_a_split_of_too_few_is_refused(count: int, values: dict[str, object], empty: str) -> None:
    with pytest.raises(DataError, match=empty) as caught:
        split(table_samples(count), **values)  # type: ignore[arg-type]
    assert "[data] validation or test" in str(caught.value)


def test_equal_samples_only_cannot_be_split() -> None:
    samples = table_samples(50)
    samples.rows[:] = 1.0
    with pytest.raises(DataError, match="split holds 0 of 50"):
        split(samples, **SHARES)
