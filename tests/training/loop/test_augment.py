"""Augmentation: each image for itself, training only, and nothing where nothing is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from marwright.recipe.types import Augment
from marwright.runtime.spec import ImageSpec
from marwright.training.loop.augment import Augmentation, shifted
from marwright.training.loop.batches import Images
from tests.training.conftest import image_samples

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]


def numbered(count: int, channels: int = 2, height: int = 5, width: int = 4) -> torch.Tensor:
    """Images all of whose pixels are different."""
    size = channels * height * width
    return torch.arange(count * size, dtype=torch.float32).reshape(count, channels, height, width)


@pytest.mark.parametrize("most", [1, 2, 6])
def test_images_move_within_the_range_and_in_each_direction(most: int) -> None:
    images = numbered(1).expand(400, -1, -1, -1)
    torch.manual_seed(0)
    moved = shifted(images, most)
    assert moved.shape == images.shape
    # Every way to cut the picture out of one with repeated edges, by how far it moved.
    padded = nn.functional.pad(images[:1], (most,) * 4, mode="replicate")[0]
    ways = {
        (down, right): padded[:, down : down + 5, right : right + 4]
        for down in range(2 * most + 1)
        for right in range(2 * most + 1)
    }
    found = {way for image in moved for way, cut in ways.items() if torch.equal(image, cut)}
    assert all(any(torch.equal(image, cut) for cut in ways.values()) for image in moved)
    # Where edges are repeated beyond the picture, several ways look alike.
    assert {way[0] for way in found} == {way[1] for way in found} == set(range(2 * most + 1))


def test_each_image_moves_by_itself_and_its_channels_together() -> None:
    torch.manual_seed(0)
    images = numbered(1).expand(50, -1, -1, -1)
    moved = shifted(images, 1)
    assert len({tuple(image.flatten().tolist()) for image in moved}) > 5
    # The second channel is the first and 20, in whatever way both were moved.
    assert torch.equal(moved[:, 1], moved[:, 0] + 20)


def test_a_shift_leaves_its_input_alone() -> None:
    images = numbered(3)
    before = images.clone()
    shifted(images, 2)
    assert torch.equal(images, before)


SPEC = ImageSpec(
    channels=1, height=8, width=8, fit="stretch", interpolation="bilinear", mean=(0.5,), std=(0.25,)
)
PIXELS = torch.arange(6 * 64, dtype=torch.uint8).reshape(6, 1, 8, 8)


def augmentation(labels: int = 2, **options: object) -> Augmentation:
    return Augmentation(Augment(**options), SPEC, labels)


def test_without_options_nothing_changes() -> None:
    change = augmentation()
    assert torch.equal(change.changed(PIXELS), PIXELS)
    inputs, targets = PIXELS.float(), torch.tensor([0, 1, 0, 1, 0, 1])
    assert change.mixed(inputs, targets) == (inputs, targets)
    assert not change.crops


def test_about_half_of_the_images_are_mirrored() -> None:
    torch.manual_seed(0)
    many = PIXELS[:1].expand(200, -1, -1, -1)
    changed = augmentation(flip=True).changed(many)
    mirrored = [torch.equal(image, PIXELS[0].flip(-1)) for image in changed]
    assert all(m or torch.equal(i, PIXELS[0]) for i, m in zip(changed, mirrored, strict=True))
    assert 70 < sum(mirrored) < 130


@pytest.mark.parametrize("options", [{"rotate": 30.0}, {"color": 0.5}, {"erase": 0.9}])
def test_each_image_is_changed_by_itself(options: dict[str, float]) -> None:
    torch.manual_seed(0)
    many = PIXELS[:1].expand(30, -1, -1, -1)
    changed = augmentation(**options).changed(many)
    assert changed.shape == many.shape
    assert changed.dtype == torch.uint8
    assert len({tuple(image.flatten().tolist()) for image in changed}) > 10


def test_what_is_erased_is_the_mean() -> None:
    torch.manual_seed(0)
    changed = augmentation(erase=0.99).changed(torch.zeros(20, 1, 8, 8, dtype=torch.uint8))
    assert set(changed.unique().tolist()) == {0, round(255 * 0.5)}


def test_a_crop_is_a_part_of_the_original_in_the_networks_size() -> None:
    torch.manual_seed(0)
    samples = image_samples(3)
    change = augmentation(crop=0.3)
    assert change.crops
    crops = change.cropped([samples.image(0)] * 20)
    assert crops.shape == (20, 1, 8, 8)
    assert crops.dtype == torch.uint8
    assert len({tuple(crop.flatten().tolist()) for crop in crops}) > 10
    assert crops.max() <= samples.images[0].max()


@pytest.mark.parametrize(
    "options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}]
)
def test_mixed_targets_are_shares_of_labels(options: dict[str, float]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(16, 1, 8, 8)
    mixed, shares = augmentation(labels=3, **options).mixed(inputs, torch.arange(16) % 3)
    assert mixed.shape == inputs.shape
    assert not torch.equal(mixed, inputs)
    assert shares.shape == (16, 3)
    assert torch.allclose(shares.sum(dim=1), torch.ones(16))


def test_one_sample_is_not_mixed() -> None:
    inputs, targets = torch.randn(1, 1, 8, 8), torch.tensor([1])
    assert augmentation(mixup=1.0).mixed(inputs, targets) == (inputs, targets)


def test_only_training_batches_are_augmented() -> None:
    samples, indices = image_samples(12), np.arange(12)
    plain = Images(samples, indices, SPEC)
    changed = Images(samples, indices, SPEC, augmentation=augmentation(shift=3))
    torch.manual_seed(0)
    assert torch.equal(plain[[0, 5]][0], plain[[0, 5]][0])
    assert not torch.equal(changed[[0, 5]][0], changed[[0, 5]][0])
    assert torch.equal(changed[[0, 5]][1], plain[[0, 5]][1])


@pytest.mark.parametrize("crop", [1.0, 0.5])
def test_what_is_not_kept_is_the_same(crop: float) -> None:
    samples, indices = image_samples(12), np.arange(3, 9)
    change = augmentation(crop=crop) if crop < 1 else None
    kept = Images(samples, indices, SPEC, augmentation=change)
    decoded = Images(samples, indices, SPEC, augmentation=change, kept=0)
    assert (kept.is_kept, decoded.is_kept) == (crop == 1.0, False)
    found = []
    for split in (kept, decoded):
        torch.manual_seed(3)
        found.append(split[[1, 4]])
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
