"""What is trained on is what is served."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from marwright.runtime.read import read_image, read_table
from marwright.runtime.spec import ImageSpec, TableSpec
from marwright.training.preprocess import fit_preprocess
from marwright.training.samples import ImageSamples
from marwright.training.tensors import inputs_of, pixels_of, targets_of
from tests.training.conftest import (
    image_recipe,
    image_samples,
    splits_by_place,
    table_recipe,
    table_samples,
)

pytestmark = pytest.mark.torch


def test_training_and_serving_read_the_same_image() -> None:
    samples = image_samples()
    recipe = image_recipe(preprocess={"height": 7, "width": 5, "interpolation": "bicubic"})
    spec = fit_preprocess(recipe, splits_by_place(samples))
    assert isinstance(spec, ImageSpec)
    for index in (0, 17, 59):
        served = read_image(samples.request(index)[0], spec)
        assert torch.equal(torch.from_numpy(served), inputs_of(samples, np.array([index]), spec))


def test_training_and_serving_turn_a_photograph_alike(tmp_path: Path) -> None:
    # Stored lying on its side, as cameras do, and saved as JPEG.
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    samples = ImageSamples(
        images=[tmp_path / "a.jpg"], targets=np.zeros(1, np.int64), labels=("a", "b")
    )
    spec = ImageSpec(
        channels=3, height=12, width=8, fit="stretch", interpolation="bilinear",
        mean=(0.5,) * 3, std=(0.25,) * 3,
    )  # fmt: skip
    served = read_image(samples.request(0)[0], spec)
    assert torch.equal(torch.from_numpy(served), inputs_of(samples, np.array([0]), spec))


def test_training_and_serving_read_the_same_row() -> None:
    samples = table_samples()
    samples.rows[17, 1] = np.nan
    samples = dataclasses.replace(samples, optional=(False, True, False))
    spec = fit_preprocess(table_recipe(), splits_by_place(samples))
    assert isinstance(spec, TableSpec)
    for index in (0, 17, 59):
        served = read_table(samples.request(index)[0], spec)
        assert torch.equal(torch.from_numpy(served), inputs_of(samples, np.array([index]), spec))


def test_training_and_serving_read_the_same_category() -> None:
    samples = table_samples()
    samples.rows[:, 2] = np.arange(60) % 3
    samples = dataclasses.replace(samples, categories=((), (), ("x", "y", "z")))
    spec = fit_preprocess(table_recipe(), splits_by_place(samples))
    assert isinstance(spec, TableSpec)
    for index in (0, 1, 2):
        served = read_table(samples.request(index)[0], spec)
        assert torch.equal(torch.from_numpy(served), inputs_of(samples, np.array([index]), spec))
        assert served[0, 2:].tolist() == [float(place == index) for place in range(3)]


def test_pixels_are_in_the_networks_size() -> None:
    samples = image_samples()
    spec = fit_preprocess(image_recipe(preprocess={"height": 7}), splits_by_place(samples))
    assert isinstance(spec, ImageSpec)
    pixels = pixels_of(samples, np.array([3, 1]), spec)
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (2, 1, 7, 8))


def test_labels_are_their_indices() -> None:
    samples = image_samples()
    spec = fit_preprocess(image_recipe(), splits_by_place(samples))
    targets = targets_of(samples, np.array([3, 1]), spec)
    assert targets.dtype == torch.int64
    assert targets.tolist() == samples.targets[[3, 1]].tolist()


def test_labels_of_rows_are_their_indices() -> None:
    samples = dataclasses.replace(
        table_samples(), targets=np.arange(60, dtype=np.int64) % 2, labels=("a", "b")
    )
    spec = fit_preprocess(table_recipe(), splits_by_place(samples))
    targets = targets_of(samples, np.array([3, 2]), spec)
    assert (targets.dtype, targets.tolist()) == (torch.int64, [1, 0])


def test_values_are_scaled_and_of_one_column() -> None:
    samples = table_samples()
    spec = fit_preprocess(table_recipe(), splits_by_place(samples))
    assert isinstance(spec, TableSpec)
    targets = targets_of(samples, np.array([3, 1]), spec)
    assert (targets.dtype, targets.shape) == (torch.float32, (2, 1))
    back = targets[:, 0].double() * spec.target_std + spec.target_mean
    assert back.tolist() == pytest.approx(samples.targets[[3, 1]].tolist(), rel=1e-5)
