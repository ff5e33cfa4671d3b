"""A sample's split is decided by its content: it never moves, and its duplicates go with it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marwright.recipe.errors import DataError
from marwright.training.samples import ImageSamples, Samples, SplitName, TableSamples
from marwright.training.splits import Fixed, decided, split
from marwright.training.types import Splits
from tests.training.conftest import image_samples, table_samples

SHARES: dict[str, Any] = {"validation": 0.15, "test": 0.2, "salt": ""}
NAMES = get_args(SplitName)


def shares(**other: object) -> dict[str, Any]:
    return SHARES | other


def contents(splits: Splits) -> dict[str, list[bytes]]:
    """Return what each split holds, whatever the order of the samples."""
    return {
        name: sorted(splits.samples.content(index) for index in indices)
        for name, indices in splits.named().items()
    }


def letters(splits: Splits) -> str:
    """Return the split of each sample in order: t, v, or a dot for training."""
    found = ["."] * len(splits.samples)
    for index in splits.test:
        found[index] = "t"
    for index in splits.validation:
        found[index] = "v"
    return "".join(found)


def extended(samples: Samples, more: Samples) -> Samples:
    if isinstance(samples, ImageSamples):
        assert isinstance(more, ImageSamples)
        images = [*samples.images, *more.images]
        targets = np.concatenate([samples.targets, more.targets])
        return dataclasses.replace(samples, images=images, targets=targets)
    assert isinstance(samples, TableSamples)
    assert isinstance(more, TableSamples)
    return dataclasses.replace(
        samples,
        rows=np.concatenate([samples.rows, more.rows]),
        targets=np.concatenate([samples.targets, more.targets]),
    )


def labelled(targets: list[int], values: list[float] | None = None) -> TableSamples:
    """Rows of one column, whose values are their numbers if not given; as many labels as needed."""
    rows = np.arange(len(targets)) if values is None else values
    return TableSamples(
        rows=np.array(rows, dtype=np.float64)[:, None],
        targets=np.array(targets, dtype=np.int64),
        labels=tuple("abcdefgh"[: max(targets) + 1]),
        columns=("x",),
        target="y",
    )


def test_the_assignment_is_frozen() -> None:
    # Another rule would move samples that a published model was tested on into its training.
    samples = dataclasses.replace(
        table_samples(24), rows=np.arange(24.0)[:, None], columns=("x",), targets=np.zeros(24)
    )
    assert letters(split(samples, validation=0.3, test=0.3, salt="s")) == "v..t...vt..v.vtv.v.ttvtv"


@pytest.mark.parametrize("make", [image_samples, table_samples])
def test_every_sample_is_in_exactly_one_split(make: type) -> None:
    splits = split(make(100), **SHARES)
    together = np.concatenate([*splits.named().values()])
    assert sorted(together) == list(range(100))
    for indices in splits.named().values():
        assert list(indices) == sorted(indices)


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
        (0, SHARES, "the train split holds 0 of 0 samples"),
        (3, SHARES, "split holds"),
        (100, shares(test=1e-9), "the test split holds 0 of 100 samples"),
        (100, shares(validation=1e-9), "the validation split holds 0 of 100 samples"),
    ],
)
def test_a_split_of_too_few_is_refused(count: int, values: dict[str, Any], empty: str) -> None:
    with pytest.raises(DataError, match=empty) as caught:
        split(table_samples(count), **values)
    assert "[data] validation or test" in str(caught.value)


def test_equal_samples_only_cannot_be_split() -> None:
    samples = table_samples(50)
    samples.rows[:] = 1.0
    with pytest.raises(DataError, match="split holds 0 of 50"):
        split(samples, **SHARES)


# --- small classes --------------------------------------------------------------------------


def test_each_class_is_in_each_split() -> None:
    # Six samples of a class: by chance alone a split goes without one in four of ten times.
    splits = split(labelled([0] * 300 + [1] * 6 + [2] * 3), **SHARES)
    for indices in splits.named().values():
        assert set(splits.samples.targets[indices].tolist()) == {0, 1, 2}


def test_only_a_class_that_is_missing_is_made_up_for() -> None:
    alone = letters(split(dataclasses.replace(labelled([0] * 303), labels=()), **SHARES))
    made_up = letters(split(labelled([0] * 300 + [1] * 3), **SHARES))
    assert made_up[:300] == alone[:300]
    assert sorted(made_up[300:]) == [".", "t", "v"]


def place_of(value: float) -> float:
    """Return a row's place in the interval from 0 to 1, as the page on splits says it."""
    digest = hashlib.sha256(b"\0" + np.array([value], dtype="<f8").tobytes()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def test_the_sample_that_lies_nearest_is_moved() -> None:
    # Test ends at 0.2, and validation at 0.35. All small classes lack validation.
    by_place = sorted((place_of(number), float(number)) for number in range(1000, 5000))

    def near(place: float) -> float:
        return next(value for found, value in by_place if found >= place)

    below = [near(place) for place in (0.01, 0.1, 0.19, 0.9)]
    above = [near(place) for place in (0.01, 0.02, 0.38, 0.9)]
    samples = labelled([0] * 200 + [1] * 4 + [2] * 4, [*range(200), *below, *above])
    found = letters(split(samples, **SHARES))
    assert found[200:204] == "ttv."
    assert found[204:] == "ttv."


@pytest.mark.parametrize("few", [1, 2])
def test_a_class_of_too_few_samples_is_refused(few: int) -> None:
    with pytest.raises(DataError, match=f"the class 'b' has {few} samples, none of them for "):
        split(labelled([0] * 100 + [1] * few), **SHARES)


def test_copies_are_one_sample_to_a_class() -> None:
    # Five samples, but two contents only.
    with pytest.raises(DataError, match="the class 'b' has 5 samples, none of them for "):
        split(labelled([0] * 100 + [1] * 5, [*range(100), 500, 500, 500, 501, 501]), **SHARES)


def test_a_sample_moves_with_its_copies() -> None:
    values = [*range(100), *[500, 501, 502] * 2]
    splits = split(labelled([0] * 100 + [1] * 6, values), **SHARES)
    found = letters(splits)
    assert found[100:103] == found[103:]
    assert sorted(found[100:103]) == [".", "t", "v"]


def test_making_up_for_one_class_takes_nothing_from_another() -> None:
    # Each sample of the small classes has a copy of the other label, which moves with it.
    values = [*range(200), *[500, 501, 502, 503] * 2]
    splits = split(labelled([0] * 200 + [1] * 4 + [2] * 4, values), **SHARES)
    for indices in splits.named().values():
        assert set(splits.samples.targets[indices].tolist()) == {0, 1, 2}
    found = letters(splits)
    assert found[200:204] == found[204:]


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(3, 12), min_size=2, max_size=5),
    salt=st.text(max_size=3),
    copies=st.lists(st.integers(0, 40), max_size=5),
)
def test_classes_of_three_are_represented_and_copies_stay_together(
    sizes: list[int], salt: str, copies: list[int]
) -> None:
    targets = [label for label, size in enumerate(sizes) for _ in range(size)]
    values = [float(number) for number in range(len(targets))]
    # Copies of some samples, of the same class.
    copied = [place % len(targets) for place in copies]
    samples = labelled(
        targets + [targets[place] for place in copied],
        values + [values[place] for place in copied],
    )
    splits = split(samples, validation=0.2, test=0.2, salt=salt)
    for indices in splits.named().values():
        assert set(samples.targets[indices].tolist()) == set(range(len(sizes)))
    found = letters(splits)
    assert all(found[len(targets) + n] == found[place] for n, place in enumerate(copied))


@settings(derandomize=True, database=None, deadline=None, max_examples=20)
@given(order=st.permutations(range(24)))
def test_who_is_moved_does_not_depend_on_the_order(order: list[int]) -> None:
    samples = labelled([0] * 18 + [1] * 3 + [2] * 3)
    moved = dataclasses.replace(samples, rows=samples.rows[order], targets=samples.targets[order])
    assert contents(split(moved, **SHARES)) == contents(split(samples, **SHARES))


def test_a_class_that_has_grown_moves_none_but_those_that_made_up() -> None:
    small = labelled([0] * 100 + [1] * 3)
    large = labelled([0] * 100 + [1] * 60)
    before, after = letters(split(small, **SHARES)), letters(split(large, **SHARES))
    assert before[:100] == after[:100]
    # These are where their hashes say, now that there are enough.
    unmade = split(dataclasses.replace(large, labels=()), **SHARES)
    assert after == letters(unmade)


# --- what the data set decides --------------------------------------------------------------


def fixed_rows(fixed: list[Fixed], targets: list[int] | None = None) -> TableSamples:
    samples = labelled(targets or [0] * len(fixed))
    samples = dataclasses.replace(samples, fixed=fixed)
    return samples if targets else dataclasses.replace(samples, labels=())


def test_a_decided_test_split_takes_nothing_else() -> None:
    samples = fixed_rows(["test"] * 20 + [""] * 400)
    splits = split(samples, **SHARES)
    assert splits.test.tolist() == list(range(20))
    # Four standard deviations of 400 draws of the recipe's share are 0.071.
    assert len(splits.validation) / 400 == pytest.approx(0.15, abs=0.072)
    assert len(splits.train) + len(splits.validation) == 400


def test_a_decided_validation_split_leaves_training_and_test() -> None:
    splits = split(fixed_rows(["validation"] * 20 + [""] * 400), **SHARES)
    assert splits.validation.tolist() == list(range(20))
    assert len(splits.test) / 400 == pytest.approx(0.2, abs=0.08)


def test_all_three_may_be_decided() -> None:
    fixed: list[Fixed] = ["test", "train", "validation"] * 5
    splits = split(fixed_rows(fixed), **SHARES)
    for name, indices in splits.named().items():
        assert [fixed[index] for index in indices] == [name] * 5


def test_what_is_free_beside_three_decided_splits_has_nowhere_to_go() -> None:
    samples = fixed_rows([*["test", "train", "validation"] * 5, ""])
    with pytest.raises(DataError, match="sample 15 is free, but the data set decides all three"):
        split(samples, **SHARES)


def test_a_decided_training_split_takes_nothing_else() -> None:
    splits = split(fixed_rows(["train"] * 20 + [""] * 400), **SHARES)
    assert splits.train.tolist() == list(range(20))
    # The others share what is free, in the proportion that the recipe gives them.
    assert len(splits.test) / 400 == pytest.approx(0.2 / 0.35, abs=0.1)
    assert len(splits.validation) + len(splits.test) == 400


def test_training_and_test_decided_leave_validation() -> None:
    splits = split(fixed_rows(["train", "test"] * 10 + [""] * 30), **SHARES)
    assert splits.validation.tolist() == list(range(20, 50))


def test_a_sample_that_is_decided_is_never_moved() -> None:
    # A free copy of a decided sample is moved to make up for its class; the decided one stays.
    samples = labelled([0] * 200 + [1] * 6, [*range(200), 500, 501, 502, 500, 501, 502])
    for salt in "abcdefgh":
        fixed: list[Fixed] = ["", *["test"] * 20, *[""] * 182, "test", "test", "test"]
        splits = split(dataclasses.replace(samples, fixed=fixed), **shares(salt=salt))
        found = letters(splits)
        assert [index for index, letter in enumerate(found) if letter == "t"] == [
            index for index, name in enumerate(fixed) if name
        ]
        assert set(found[200:203]) == {".", "v"}


@pytest.mark.parametrize(
    ("extra", "missing"), [("test", "validation and train"), ("validation", "test and train")]
)
def test_a_class_in_one_decided_split_only_is_refused(extra: SplitName, missing: str) -> None:
    fixed: list[Fixed] = ["test", "train", "validation"] * 5 + [extra] * 4
    with pytest.raises(DataError, match=f"the class 'b' has 4 samples, none of them for {missing}"):
        split(fixed_rows(fixed, [0] * 15 + [1] * 4), **SHARES)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["train", "validation", "test"], ["train", "validation", "test"]),
        (["train", "test", "train"], ["", "test", ""]),
        (["train", "validation", ""], ["", "validation", ""]),
        (["train", "train"], ["", ""]),
        ([], []),
    ],
)
def test_training_is_divided_where_a_split_is_not_given(
    found: list[Fixed], expected: list[Fixed]
) -> None:
    assert decided(found) == expected


# --- the numbers of docs/adr/0010-splits-by-digest.md -----------------------------------------


def test_the_share_of_a_class_varies_as_draws_do() -> None:
    # A class of 100 samples under 300 salts: its share of the test split has mean 0.2 and standard
    # deviation sqrt(0.2 * 0.8 / 100) = 0.04; four standard errors are 0.0092 and 0.0065.
    samples = dataclasses.replace(labelled([0] * 100), labels=())
    found = [
        Counter(letters(split(samples, **shares(salt=str(salt)))))["t"] / 100 for salt in range(300)
    ]
    assert np.mean(found) == pytest.approx(0.2, abs=0.0093)
    assert np.std(found) == pytest.approx(0.04, abs=0.0066)
