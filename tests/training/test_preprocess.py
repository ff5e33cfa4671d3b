"""The preprocessing is fitted on the training split alone, and refuses what cannot be scaled."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from marwright.recipe.errors import DataError
from marwright.runtime.preprocess import image_pixels
from marwright.runtime.spec import ImageSpec, TableSpec
from marwright.training import preprocess
from marwright.training.preprocess import fit_preprocess
from marwright.training.samples import ImageSamples, TableSamples
from marwright.training.tensors import inputs_of, targets_of
from tests.training.conftest import (
    image_recipe,
    image_samples,
    splits_by_place,
    table_recipe,
    table_samples,
)

pytestmark = pytest.mark.torch


def table_spec(samples: TableSamples, train: int = 40, **options: str) -> TableSpec:
    spec = fit_preprocess(table_recipe(preprocess=options), splits_by_place(samples, train))
    assert isinstance(spec, TableSpec)
    return spec


def image_spec(samples: ImageSamples, train: int = 40, **options: object) -> ImageSpec:
    spec = fit_preprocess(image_recipe(preprocess=options), splits_by_place(samples, train))
    assert isinstance(spec, ImageSpec)
    return spec


def columns_of(*columns: list[float], optional: bool = False) -> TableSamples:
    """Rows of the given columns, 20 times over, all of them of the training split but a few."""
    rows = np.array(columns, dtype=np.float64).T
    rows = np.concatenate([rows] * 20)
    return TableSamples(
        rows=rows,
        targets=np.arange(float(len(rows))),
        columns=tuple("abcdef"[: len(columns)]),
        target="y",
        optional=(optional,) * len(columns),
    )


# --- tables ---------------------------------------------------------------------------------


def test_rows_are_standardised_by_the_training_split_alone() -> None:
    samples = table_samples(60)
    # What is held out would change everything, if anyone looked.
    samples.rows[40:] *= 1e6
    samples.targets[40:] += 1e6
    spec = table_spec(samples)
    assert (spec.columns, spec.target) == (("a", "b", "c"), "y")
    train = np.arange(40)
    for values in (inputs_of(samples, train, spec), targets_of(samples, train, spec)):
        assert values.mean(dim=0).tolist() == pytest.approx([0.0] * values.shape[1], abs=1e-5)
        deviation = values.std(dim=0, correction=0)
        assert deviation.tolist() == pytest.approx([1.0] * values.shape[1], abs=1e-5)


def test_a_robust_scale_is_of_the_quartiles() -> None:
    # One value among 21 is far away, and changes nothing.
    samples = columns_of([0.0, 1.0, 2.0, 3.0, 4.0])
    samples.rows[7] = 1e9
    spec = table_spec(samples, 90, scale="robust")
    assert (spec.center, spec.scale) == ((2.0,), (2.0,))
    standard = table_spec(samples, 90)
    assert standard.scale[0] > 1e7


def test_where_the_quartiles_are_one_value_a_robust_scale_is_the_deviation() -> None:
    samples = columns_of([0.0, 0.0, 0.0, 0.0, 5.0])
    assert table_spec(samples, 90, scale="robust").scale == (pytest.approx(2.0),)


def test_rows_and_target_may_be_left_as_they_are() -> None:
    samples = table_samples()
    # Of one value only, which nothing divides by here.
    samples.rows[:, 1] = 0.1
    spec = table_spec(samples, scale="none", scale_target="none")
    numbers = np.arange(5)
    expected = torch.from_numpy(samples.rows[:5].astype(np.float32))
    assert torch.equal(inputs_of(samples, numbers, spec), expected)
    expected = torch.from_numpy(samples.targets[:5].astype(np.float32))
    assert torch.equal(targets_of(samples, numbers, spec)[:, 0], expected)


def test_what_is_missing_counts_for_nothing_and_becomes_the_median() -> None:
    samples = columns_of([1.0, np.nan, 2.0, 6.0], optional=True)
    spec = table_spec(samples, 76)
    assert spec.optional == (True,)
    assert spec.fill == (2.0,)
    assert spec.center == (pytest.approx(3.0),)
    assert spec.scale == (pytest.approx(np.std([1, 2, 6])),)
    inputs = inputs_of(samples, np.arange(4), spec)
    assert inputs[:, 1].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert inputs[1, 0] == inputs[2, 0]


def test_categories_become_a_feature_each_and_are_not_scaled() -> None:
    samples = dataclasses.replace(
        columns_of([0.0, 1.0, np.nan], [5.0, 6.0, 7.0]),
        categories=(("red", "green"), ()),
        optional=(True, False),
    )
    spec = table_spec(samples, 57)
    assert spec.features == ("a = red", "a = green", "b")
    inputs = inputs_of(samples, np.arange(3), spec)
    assert inputs[:, :2].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert float(inputs[:, 2].mean()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("scale", ["standard", "robust", "none"])
def test_a_table_of_categories_only_has_nothing_to_scale(scale: str) -> None:
    samples = dataclasses.replace(columns_of([0.0, 1.0]), categories=(("red", "green"),))
    spec = table_spec(samples, 38, scale=scale)
    assert inputs_of(samples, np.arange(2), spec).tolist() == [[1, 0], [0, 1]]


def test_labels_are_not_scaled() -> None:
    samples = dataclasses.replace(
        table_samples(), targets=np.zeros(60, dtype=np.int64), labels=("a", "b")
    )
    spec = table_spec(samples)
    assert (spec.target_mean, spec.target_std) == (0.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9 + 0.1])
@pytest.mark.parametrize("scale", ["standard", "robust"])
def test_a_column_of_one_value_is_refused(value: float, scale: str) -> None:
    samples = table_samples(60)
    samples.rows[:40, 1] = value
    with pytest.raises(DataError, match="one value only in the training split: b; leave") as caught:
        table_spec(samples, scale=scale)
    assert str(caught.value).startswith("marwright/training/datasets/tiny.py: ")


def test_a_column_of_one_value_and_gaps_is_refused() -> None:
    samples = columns_of([1.0, np.nan], [1.0, 2.0], optional=True)
    with pytest.raises(DataError, match="one value only in the training split: a; leave"):
        table_spec(samples, 38)


@pytest.mark.parametrize("scale", ["standard", "none"])
def test_a_column_without_a_value_is_refused(scale: str) -> None:
    samples = columns_of([np.nan, np.nan], [1.0, 2.0], optional=True)
    # Only what is held out has one.
    samples.rows[38:, 0] = 3.0
    with pytest.raises(DataError, match="no value in the training split: a; leave"):
        table_spec(samples, 38, scale=scale)


@pytest.mark.parametrize("values", [[1e200, -1e200], [1e-200, 2e-200], [1.7e308, -1.7e308]])
def test_a_column_that_no_deviation_can_be_told_of_is_refused(values: list[float]) -> None:
    samples = columns_of([1.0, 2.0], values)
    with pytest.raises(DataError, match="too large or too small to be scaled: b; use other units"):
        table_spec(samples, 38)


def test_a_target_of_one_value_is_refused() -> None:
    samples = table_samples(60)
    samples.targets[:40] = 0.1
    with pytest.raises(DataError, match="the target y has one value only in the training split"):
        table_spec(samples)


def test_a_target_that_is_too_large_is_refused() -> None:
    samples = table_samples(60)
    samples.targets[0] = 1e300
    with pytest.raises(DataError, match="too large or too small to be scaled: y"):
        table_spec(samples)


# --- images ---------------------------------------------------------------------------------


def test_pixels_are_standardised_by_the_training_split_alone() -> None:
    samples = image_samples()
    for image in samples.images[40:]:
        assert isinstance(image, np.ndarray)
        image[:] = 255
    spec = image_spec(samples)
    inputs = inputs_of(samples, np.arange(40), spec)
    assert inputs.shape == (40, 1, 8, 8)
    assert float(inputs.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(inputs.std(correction=0)) == pytest.approx(1.0, abs=1e-4)


def test_each_channel_has_its_own_mean_and_deviation() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[..., 1], image[::2, :, 2] = 255, 255
    samples = ImageSamples(images=[image] * 9, targets=np.zeros(9, np.int64), labels=("a", "b"))
    spec = image_spec(samples, 5, channels=3)
    assert spec.mean == (0.0, 1.0, 0.5)
    # A channel of one value has no deviation: a thousandth keeps its pixels finite.
    assert spec.std == (1e-3, 1e-3, 0.5)


def test_pixels_are_counted_in_the_networks_size() -> None:
    samples = image_samples()
    spec = image_spec(samples, height=5, width=6)
    pixels = np.stack([image_pixels(samples.image(i), spec) for i in range(40)]) / 255
    assert spec.mean == (pytest.approx(float(pixels.mean()), abs=1e-6),)
    assert spec.std == (pytest.approx(float(pixels.std()), abs=1e-6),)


def test_blocks_of_images_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = image_samples()
    whole = image_spec(samples)
    monkeypatch.setattr(preprocess, "_BLOCK", 7)
    assert image_spec(samples) == whole


@pytest.mark.parametrize("given", [{"mean": [0.25]}, {"std": [0.5]}, {"mean": [0.2], "std": [2]}])
def test_declared_means_and_deviations_are_kept(given: dict[str, list[float]]) -> None:
    samples = image_samples()
    spec, measured = image_spec(samples, **given), image_spec(samples)
    assert list(spec.mean) == given.get("mean", list(measured.mean))
    assert list(spec.std) == given.get("std", list(measured.std))


def test_what_is_declared_needs_no_image(tmp_path: Path) -> None:
    samples = ImageSamples(
        images=[tmp_path / "gone.png"] * 4, targets=np.zeros(4, np.int64), labels=("a", "b")
    )
    splits = dataclasses.replace(splits_by_place(image_samples(4), 2), samples=samples)
    recipe = image_recipe(preprocess={"mean": [0.5], "std": [0.25]})
    spec = fit_preprocess(recipe, splits)
    assert isinstance(spec, ImageSpec)
    assert (spec.mean, spec.std) == ((0.5,), (0.25,))


def test_images_in_files_are_read_as_those_in_memory(tmp_path: Path) -> None:
    samples = image_samples()
    files = []
    for number, image in enumerate(samples.images):
        assert isinstance(image, np.ndarray)
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(files[-1])
    assert image_spec(dataclasses.replace(samples, images=files)) == image_spec(samples)
