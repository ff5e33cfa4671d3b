"""From a recipe to tensors: data that cannot be used is refused, and serving reads the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from handlers.read import read_image, read_table
from handlers.spec import ImageSpec, TableSpec
from recipes.errors import DataError
from recipes.load import load_recipe
from recipes.types import Recipe
from tests.projects import ROOT
from tests.train.conftest import (
    ModuleMaker,
    image_recipe,
    image_samples,
    table_recipe,
    table_samples,
)
from train.data import fit_preprocess, inputs_of, open_dataset, targets_of
from train.types import ImageSamples, Samples, Splits

pytestmark = pytest.mark.torch


def splits_of(samples: Samples, train: int = 40) -> Splits:
    """Return splits by position, so that a test knows what is in which."""
    numbers = np.arange(len(samples))
    half = (train + len(samples)) // 2
    return Splits(
        samples=samples, train=numbers[:train], validation=numbers[train:half], test=numbers[half:]
    )


def opened(make_module: ModuleMaker, recipe: Recipe, samples: Any) -> Splits:
    make_module("train.datasets.tiny", load=lambda: samples)
    return open_dataset(recipe)


# --- opening --------------------------------------------------------------------------------


def test_a_data_set_is_opened_and_split(make_module: ModuleMaker) -> None:
    splits = opened(make_module, table_recipe(), table_samples(200))
    assert len(splits.train) > len(splits.test) > 0


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_the_shipped_data_is_opened(name: str) -> None:
    recipe = load_recipe(ROOT / "recipes" / f"{name}.toml")
    splits = open_dataset(recipe)
    sizes = [len(getattr(splits, part)) for part in ("train", "validation", "test")]
    assert sum(sizes) == {"digits": 1797, "diabetes": 442}[name]
    # The same samples in the same splits, on every machine.
    assert splits.digests() == open_dataset(recipe).digests()


def test_digits_are_split_in_about_the_same_proportions() -> None:
    splits = open_dataset(load_recipe(ROOT / "recipes/digits.toml"))
    targets = splits.samples.targets
    for label in range(10):
        whole = int((targets == label).sum())
        for name, share in (("test", 0.2), ("validation", 0.15)):
            part = int((targets[getattr(splits, name)] == label).sum())
            # Some 180 samples a class: four standard deviations are 0.12 and 0.11.
            assert part / whole == pytest.approx(share, abs=0.12), (label, name)


@pytest.mark.parametrize(
    ("recipe", "samples", "said"),
    [
        (image_recipe(), table_samples(), "holds TableSamples, not ImageSamples"),
        (table_recipe(), image_samples(), "holds ImageSamples, not TableSamples"),
    ],
)
def test_data_of_another_kind_is_refused(
    make_module: ModuleMaker, recipe: Recipe, samples: Samples, said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        opened(make_module, recipe, samples)
    assert str(caught.value).startswith("recipes/tiny.toml: [preprocess] kind: ")


def with_value(where: str, value: float) -> Samples:
    samples = table_samples(200)
    (samples.rows[7] if where == "rows" else samples.targets)[1] = value
    return samples


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (with_value("rows", np.nan), "NaN or infinite values"),
        (with_value("rows", -np.inf), "NaN or infinite values"),
        (with_value("targets", np.nan), "NaN or infinite values"),
        (dataclasses.replace(table_samples(), columns=("a", "b")), "60 targets and 2 columns"),
        (dataclasses.replace(table_samples(), targets=np.zeros(59)), "59 targets and 3 columns"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(
    make_module: ModuleMaker, samples: Samples, said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        opened(make_module, table_recipe(), samples)
    assert str(caught.value).startswith("train/datasets/tiny.py: ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ("dark",)}, "needs two labels or more"),
        ({"labels": ("dark", "dark")}, "each of them once"),
        ({"targets": np.full(60, 2)}, "a target is no index of its 2 labels"),
        ({"targets": np.full(60, -1)}, "a target is no index of its 2 labels"),
        ({"images": image_samples().images[1:]}, "59 images, but 60 targets"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    make_module: ModuleMaker, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        opened(make_module, image_recipe(), dataclasses.replace(image_samples(), **changes))


# --- fitting the preprocessing --------------------------------------------------------------


def test_rows_are_standardised_by_the_training_split_alone() -> None:
    samples = table_samples(60)
    # What is held out would change everything, if anyone looked.
    samples.rows[40:] *= 1e6
    samples.targets[40:] += 1e6
    splits = splits_of(samples)
    spec = fit_preprocess(table_recipe(), splits)
    assert isinstance(spec, TableSpec)
    assert (spec.columns, spec.target) == (("a", "b", "c"), "y")
    inputs = inputs_of(samples, splits.train, spec)
    targets = targets_of(samples, splits.train, spec)
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.float32)
    assert (inputs.shape, targets.shape) == ((40, 3), (40, 1))
    for values in (inputs, targets):
        assert values.mean(dim=0).tolist() == pytest.approx([0.0] * values.shape[1], abs=1e-5)
        deviation = values.std(dim=0, correction=0)
        assert deviation.tolist() == pytest.approx([1.0] * values.shape[1], abs=1e-5)


def test_rows_and_target_may_be_left_as_they_are() -> None:
    samples = table_samples()
    import msgspec

    recipe = msgspec.structs.replace(
        table_recipe(),
        preprocess=msgspec.structs.replace(
            table_recipe().preprocess, standardise=False, standardise_target=False
        ),
    )
    spec = fit_preprocess(recipe, splits_of(samples))
    numbers = np.arange(5)
    expected = torch.from_numpy(samples.rows[:5].astype(np.float32))
    assert torch.equal(inputs_of(samples, numbers, spec), expected)
    expected = torch.from_numpy(samples.targets[:5].astype(np.float32))
    assert torch.equal(targets_of(samples, numbers, spec)[:, 0], expected)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9 + 0.1])
def test_a_column_of_one_value_is_refused(value: float) -> None:
    samples = table_samples(60)
    samples.rows[:40, 1] = value
    with pytest.raises(DataError, match="one value only in the training split: b; leave them"):
        fit_preprocess(table_recipe(), splits_of(samples))


def test_a_target_of_one_value_is_refused() -> None:
    samples = table_samples(60)
    samples.targets[:40] = 0.1
    with pytest.raises(DataError, match="y has one value only in the training split"):
        fit_preprocess(table_recipe(), splits_of(samples))


def test_pixels_are_standardised_by_the_training_split_alone() -> None:
    samples = image_samples()
    for image in samples.images[40:]:
        image[:] = 255
    splits = splits_of(samples)
    spec = fit_preprocess(image_recipe(), splits)
    assert isinstance(spec, ImageSpec)
    inputs = inputs_of(samples, splits.train, spec)
    assert inputs.shape == (40, 1, 8, 8)
    assert float(inputs.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(inputs.std(correction=0)) == pytest.approx(1.0, abs=1e-4)


def test_each_channel_has_its_own_mean_and_deviation() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[..., 1], image[::2, :, 2] = 255, 255
    samples = ImageSamples(images=[image] * 9, targets=np.zeros(9, np.int64), labels=("a", "b"))
    spec = fit_preprocess(image_recipe(preprocess={"channels": 3}), splits_of(samples, 5))
    assert isinstance(spec, ImageSpec)
    assert spec.mean == (0.0, 1.0, 0.5)
    # A channel of one value has no deviation: a thousandth keeps its pixels finite.
    assert spec.std == (1e-3, 1e-3, 0.5)


@pytest.mark.parametrize("given", [{"mean": [0.25]}, {"std": [0.5]}, {"mean": [0.2], "std": [2]}])
def test_declared_means_and_deviations_are_kept(given: dict[str, list[float]]) -> None:
    splits = splits_of(image_samples())
    spec = fit_preprocess(image_recipe(preprocess=given), splits)
    measured = fit_preprocess(image_recipe(), splits)
    assert isinstance(spec, ImageSpec)
    assert isinstance(measured, ImageSpec)
    assert list(spec.mean) == given.get("mean", list(measured.mean))
    assert list(spec.std) == given.get("std", list(measured.std))


# --- what is trained on is what is served ---------------------------------------------------


def test_training_and_serving_read_the_same_tensor() -> None:
    images, rows = image_samples(), table_samples()
    image_spec = fit_preprocess(
        image_recipe(preprocess={"height": 7, "width": 5, "interpolation": "bicubic"}),
        splits_of(images),
    )
    table_spec = fit_preprocess(table_recipe(), splits_of(rows))
    assert isinstance(image_spec, ImageSpec)
    assert isinstance(table_spec, TableSpec)
    for index in (0, 17, 59):
        here = np.array([index])
        served = read_image(images.request(index)[0], image_spec)
        assert torch.equal(served, inputs_of(images, here, image_spec))
        served = read_table(rows.request(index)[0], table_spec)
        assert torch.equal(served, inputs_of(rows, here, table_spec))


def test_labels_are_their_indices() -> None:
    samples = image_samples()
    spec = fit_preprocess(image_recipe(), splits_of(samples))
    targets = targets_of(samples, np.array([3, 1]), spec)
    assert targets.dtype == torch.int64
    assert targets.tolist() == samples.targets[[3, 1]].tolist()
