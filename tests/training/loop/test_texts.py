"""Batches of texts: of about one length, every text as often as without, the same by their seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from marwright.recipe.types import Fit
from marwright.runtime.preprocess import text_array
from marwright.runtime.spec import PADDING, TextSpec
from marwright.training.loop.batches import Batches, Texts
from marwright.training.samples import TextSamples

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

CPU = torch.device("cpu")
SPEC = TextSpec(max_bytes=64)


def texts(count: int, rare: int = 0) -> Texts:
    """Texts of many lengths; their first characters are their own. The first are of class 1."""
    chance = np.random.default_rng(0)
    samples = TextSamples(
        texts=[chr(0x4E00 + n) + "x" * int(chance.integers(60)) for n in range(count)],
        targets=(np.arange(count) < rare).astype(np.int64),
        labels=("a", "b"),
    )
    return Texts(samples, np.arange(count), SPEC)


def drawn(batches: Batches, epoch: int) -> list[list[int]]:
    """Return the numbers of the texts of each batch of an epoch."""
    return [
        [ord(bytes(byte - 1 for byte in row[:3]).decode()) - 0x4E00 for row in inputs.tolist()]
        for inputs, _ in batches.epoch(epoch)
    ]


def test_a_batch_is_as_long_as_its_own_longest() -> None:
    split = texts(4)
    inputs, targets = split[[2, 0]]
    assert inputs.shape == (2, max(split.lengths[2], split.lengths[0]))
    assert (inputs != PADDING).sum(dim=1).tolist() == [split.lengths[2], split.lengths[0]]
    assert targets.tolist() == [0, 0]
    assert [len(found) for found, _ in split] == [4]


def test_what_is_beyond_the_limit_is_not_kept() -> None:
    samples = TextSamples(texts=["é" * 50], targets=np.array([0]), labels=("a", "b"))
    split = Texts(samples, np.array([0]), TextSpec(max_bytes=5))
    assert split.lengths == [4]
    assert np.array_equal(split[[0]][0], text_array(["éé"], SPEC))


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    one, other = (Batches(texts(100), Fit(batch_size=8, seed=3), CPU) for _ in range(2))
    first, second = drawn(one, 1), drawn(one, 2)
    assert drawn(other, 2) == second != first
    assert drawn(other, 1) == first
    assert drawn(Batches(texts(100), Fit(batch_size=8, seed=4), CPU), 1) != first


@pytest.mark.parametrize(("count", "size", "batches"), [(30, 8, 3), (32, 8, 4), (6, 8, 1)])
def test_an_epoch_has_every_text_once_but_for_the_last_batch(
    count: int, size: int, batches: int
) -> None:
    made = Batches(texts(count), Fit(batch_size=size), CPU)
    found = drawn(made, 1)
    assert len(found) == len(made) == batches
    numbers = [number for batch in found for number in batch]
    assert len(numbers) == len(set(numbers)) == min(count, batches * size)


def test_what_is_left_out_is_not_always_the_longest() -> None:
    made = Batches(texts(30), Fit(batch_size=8), CPU)
    left = [set(range(30)) - {n for batch in drawn(made, e) for n in batch} for e in range(1, 6)]
    assert len(set.union(*left)) > 12


def test_batches_are_of_about_one_length_and_in_no_order_of_it() -> None:
    split = texts(640)
    made = Batches(split, Fit(batch_size=16), CPU)
    lengths = np.array([[split.lengths[n] for n in batch] for batch in drawn(made, 1)])
    assert lengths.std(axis=1).mean() < 0.1 * lengths.std()
    order = lengths.mean(axis=1)
    # Neither rising nor falling.
    assert 0.3 < (np.diff(order) > 0).mean() < 0.7


def test_which_texts_meet_is_by_chance() -> None:
    made = Batches(texts(2000), Fit(batch_size=16), CPU)
    first, second = ({frozenset(batch) for batch in drawn(made, epoch)} for epoch in (1, 2))
    assert not first & second


def test_a_rare_class_is_drawn_as_often_as_the_other() -> None:
    batches = Batches(texts(1000, rare=50), Fit(batch_size=100, imbalance="sampler"), CPU)
    shares = [sum(n < 50 for batch in drawn(batches, e) for n in batch) / 1000 for e in (1, 2)]
    # Four standard deviations of 1000 draws are 0.063.
    assert shares == pytest.approx([0.5, 0.5], abs=0.063)
