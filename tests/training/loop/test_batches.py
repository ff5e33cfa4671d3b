"""Batches: the same epoch again, rare classes more often, workers that change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from marwright.recipe.types import Fit
from marwright.training.loop.batches import Batches, Images, Tensors, class_weights, in_order
from tests.training.conftest import image_samples
from tests.training.loop.test_augment import SPEC, augmentation

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

CPU = torch.device("cpu")


def numbered(count: int, rare: int = 0) -> Tensors:
    """Rows that say their own number; the first `rare` of them are of class 1."""
    numbers = torch.arange(count)
    return Tensors(numbers[:, None].float(), (numbers < rare).long())


def drawn(batches: Batches, epoch: int) -> list[list[int]]:
    return [inputs[:, 0].int().tolist() for inputs, _ in batches.epoch(epoch)]


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    one, other = (Batches(numbered(30), Fit(batch_size=8, seed=3), CPU) for _ in range(2))
    first, second = drawn(one, 1), drawn(one, 2)
    assert drawn(other, 2) == second != first
    assert drawn(other, 1) == first
    assert drawn(Batches(numbered(30), Fit(batch_size=8, seed=4), CPU), 1) != first


def test_an_epoch_has_every_sample_once_but_for_the_last_batch() -> None:
    batches = Batches(numbered(30), Fit(batch_size=8), CPU)
    found = drawn(batches, 1)
    assert [len(batch) for batch in found] == [8, 8, 8]
    assert len(batches) == 3
    assert len({number for batch in found for number in batch}) == 24
    whole = Batches(numbered(6), Fit(batch_size=8), CPU)
    assert sorted(drawn(whole, 1)[0]) == list(range(6))


def test_a_rare_class_is_drawn_as_often_as_the_other() -> None:
    batches = Batches(numbered(1000, rare=50), Fit(batch_size=100, imbalance="sampler"), CPU)
    shares = [sum(n < 50 for batch in drawn(batches, e) for n in batch) / 1000 for e in (1, 2)]
    # Four standard deviations of 1000 draws are 0.063.
    assert shares == pytest.approx([0.5, 0.5], abs=0.063)


def test_classes_weigh_the_same_together() -> None:
    targets = torch.tensor([0] * 6 + [2] * 2)
    weights = class_weights(torch.cat([targets]))
    assert (weights * torch.bincount(targets)).tolist() == pytest.approx([4.0, 0.0, 4.0])
    assert float(weights[targets].mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_draw_the_same_again(workers: int) -> None:
    samples = image_samples(20)
    split = Images(samples, np.arange(20), SPEC, augmentation=augmentation(shift=2), kept=0)
    batches = Batches(split, Fit(batch_size=5, workers=workers), CPU)
    first, again, other = (
        torch.cat([inputs for inputs, _ in batches.epoch(number)]) for number in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("kept", "workers"), [(0, 0), (0, 2), (1 << 20, 2)])
def test_what_is_evaluated_comes_in_order_whoever_decodes_it(kept: int, workers: int) -> None:
    samples = image_samples(20)
    split = Images(samples, np.arange(20), SPEC, kept=kept)
    expected = Images(samples, np.arange(20), SPEC)[range(20)]
    found = in_order(split, Fit(workers=workers))
    assert isinstance(found, DataLoader) == (not kept and workers > 0)
    inputs, targets = (torch.cat(parts) for parts in zip(*found, strict=True))
    assert torch.equal(inputs, expected[0])
    assert torch.equal(targets, expected[1])
