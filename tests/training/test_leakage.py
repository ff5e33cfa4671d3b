"""Copies and near copies of training samples among those held out: found, and nothing else is."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images

from marwright.training import leakage
from marwright.training.datasets import breast_cancer, diabetes, digits
from marwright.training.leakage import SHOWN, duplicates
from marwright.training.samples import ImageSamples, Samples, TableSamples, TextSamples
from marwright.training.types import Splits
from tests.training.conftest import splits_by_place

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

Picture = Image.Image


def splits_of(samples: Samples, held_out: int) -> Splits:
    """Return splits whose last samples are held out: one for validation, the others to test."""
    splits = splits_by_place(samples, len(samples) - held_out)
    numbers = np.arange(len(samples))
    start = len(samples) - held_out
    return dataclasses.replace(
        splits, validation=numbers[start : start + 1], test=numbers[start + 1 :]
    )


def pictures(*images: Picture, targets: list[int] | None = None) -> ImageSamples:
    return ImageSamples(
        images=[np.asarray(image) for image in images],
        targets=np.array(targets or [0] * len(images), dtype=np.int64),
        labels=("a", "b"),
        names=[f"{number}.png" for number in range(len(images))],
    )


def table(rows: Any, **other: Any) -> TableSamples:
    rows = np.array(rows, dtype=np.float64)
    columns = tuple("abcdefgh"[: rows.shape[1]])
    values = {"targets": np.arange(float(len(rows))), "columns": columns, "target": "y"}
    return TableSamples(rows=rows, **(values | other))


def pairs_of(samples: Samples, held_out: int) -> list[tuple[str, str]]:
    found = duplicates(splits_of(samples, held_out))
    return [(pair.held_out, pair.train) for pair in found.pairs]


# --- equal samples --------------------------------------------------------------------------


def test_equal_samples_are_counted() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 4))
    # Two contents three times and twice; two of the samples are held out, where training has them.
    rows[1], rows[2], rows[18], rows[19] = rows[0], rows[0], rows[5], rows[0]
    targets = np.arange(20.0)
    targets[[0, 1, 2, 19]] = 7.0
    found = duplicates(splits_of(table(rows, targets=targets), 4))
    assert (found.exact, found.leaked, found.near, found.compared) == (4, 2, 0, 2)
    # Of the content that is there four times all targets are equal, of the other they are not.
    assert found.conflicting == 1
    assert [(pair.held_out, pair.train, pair.labels) for pair in found.pairs] == [
        ("sample 18", "sample 5", None),
        ("sample 19", "sample 0", None),
    ]


def test_samples_that_differ_are_no_duplicates() -> None:
    found = duplicates(splits_of(table(np.random.default_rng(0).normal(size=(20, 4))), 4))
    assert (found.exact, found.conflicting, found.leaked, found.near) == (0, 0, 0, 0)
    assert (found.compared, found.pairs) == (4, [])


def test_labels_of_a_pair_are_named() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 16)).astype(np.uint8)
    samples = ImageSamples(
        images=[noise[0], noise[1], noise[2], noise[0]],
        targets=np.array([0, 0, 0, 1]),
        labels=("cat", "dog"),
    )
    found = duplicates(splits_of(samples, 2))
    assert (found.leaked, found.conflicting) == (1, 1)
    assert found.pairs[0].labels == ("dog", "cat")


def test_some_of_many_pairs_are_named() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 4))
    found = duplicates(splits_of(table(np.concatenate([rows, rows])), 50))
    assert (found.leaked, len(found.pairs)) == (50, SHOWN)


def test_the_test_split_is_looked_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "MOST", 3)
    rows = np.random.default_rng(0).normal(size=(20, 4))
    near = rows[:8] + 1e-5
    found = duplicates(splits_of(table(np.concatenate([rows, near])), 8))
    # The first of them is held out for validation.
    assert (found.compared, found.near) == (3, 3)
    assert [pair.held_out for pair in found.pairs] == ["sample 21", "sample 22", "sample 23"]


# --- near copies of images ------------------------------------------------------------------


@pytest.fixture(scope="module")
def crops() -> list[Picture]:
    """Parts of two photographs that do not overlap, 200 pixels a side."""
    return [
        Image.fromarray(photo[y : y + 200, x : x + 200])
        for photo in load_sample_images().images
        for y in (0, 200)
        for x in (0, 200, 400)
    ]


def jpeg(image: Picture, quality: int) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def halved(image: Picture) -> Picture:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR)


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "JPEG, quality 95": lambda image: jpeg(image, 95),
    "JPEG, quality 75": lambda image: jpeg(image, 75),
    "JPEG, quality 50": lambda image: jpeg(image, 50),
    "half the size": halved,
    "half the size and back": lambda image: halved(image).resize(image.size),
    "a tenth darker": lambda image: ImageEnhance.Brightness(image).enhance(0.9),
    "without colours": lambda image: image.convert("L"),
    "half the size, a tenth darker, as JPEG": lambda image: jpeg(
        halved(ImageEnhance.Brightness(image).enhance(0.9)), 75
    ),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_that_was_saved_again_is_found(crops: list[Picture], how: str) -> None:
    samples = pictures(*crops, *(COPIES[how](crop) for crop in crops))
    expected = {(f"{12 + number}.png", f"{number}.png") for number in range(12)}
    assert set(pairs_of(samples, 12)) == expected


def test_other_parts_of_a_photograph_are_no_copies(crops: list[Picture]) -> None:
    found = duplicates(splits_of(pictures(*crops), 6))
    assert (found.compared, found.near, found.leaked) == (6, 0, 0)


def test_a_mirrored_image_is_no_copy(crops: list[Picture]) -> None:
    assert pairs_of(pictures(*crops, *map(ImageOps.mirror, crops)), 12) == []


def test_handwritten_digits_are_no_copies_of_each_other() -> None:
    samples = digits.load()
    found = duplicates(splits_of(samples, 400))
    assert (found.compared, found.near, found.leaked) == (400, 0, 0)


def test_images_of_one_colour_are_not_compared(crops: list[Picture]) -> None:
    plain = [Image.new("RGB", (20, 20), (value,) * 3) for value in (10, 100, 200)]
    found = duplicates(splits_of(pictures(*crops, *plain), 5))
    assert (found.compared, found.near) == (2, 0)


def test_noise_on_one_colour_is_no_pattern() -> None:
    chance = np.random.default_rng(0)
    noisy = [
        Image.fromarray((128 + chance.integers(-12, 13, (64, 64))).astype(np.uint8))
        for _ in range(40)
    ]
    found = duplicates(splits_of(pictures(*noisy), 20))
    assert found.near == 0


def test_a_file_is_compared_upright_and_decoded_no_larger_than_it_must(
    tmp_path: Path, crops: list[Picture]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for number, crop in enumerate(crops):
        large = crop.resize((800, 800), Image.Resampling.BICUBIC)
        large.save(tmp_path / f"{number}.jpg", quality=90)
        # The same photograph lying on its side, and the note that says so.
        large.rotate(90).save(tmp_path / f"{number}-turned.jpg", quality=90, exif=exif)
        files.append(tmp_path / f"{number}.jpg")
    files += [tmp_path / f"{number}-turned.jpg" for number in range(len(crops))]
    samples = ImageSamples(
        images=files, targets=np.zeros(24, np.int64), labels=("a", "b"),
        names=[file.stem for file in files],
    )  # fmt: skip
    expected = {(f"{number}-turned", f"{number}") for number in range(12)}
    assert set(pairs_of(samples, 12)) == expected


# --- near copies of rows --------------------------------------------------------------------


def rounded(values: np.ndarray, digits: int) -> np.ndarray:
    size = np.floor(np.log10(np.abs(np.where(values == 0, 1, values))))
    return np.round(values * 10.0 ** (digits - 1 - size)) / 10.0 ** (digits - 1 - size)


@pytest.mark.parametrize("load", [diabetes.load, breast_cancer.load])
@pytest.mark.parametrize(
    "copied", [lambda rows: rows.astype(np.float32), lambda rows: rounded(rows, 4)]
)
def test_a_row_that_was_rounded_is_found(
    load: Callable[[], TableSamples], copied: Callable[[np.ndarray], np.ndarray]
) -> None:
    samples = load()
    count = len(samples)
    # Nothing that is rounded is left out: some rows are the same to the last bit, and so equal.
    both = dataclasses.replace(
        samples,
        rows=np.concatenate([samples.rows, copied(samples.rows).astype(np.float64)]),
        targets=np.concatenate([samples.targets] * 2),
    )
    found = duplicates(splits_of(both, count))
    assert found.near + found.leaked == count
    assert all(
        int(pair.held_out.split()[1]) == int(pair.train.split()[1]) + count for pair in found.pairs
    )


@pytest.mark.parametrize("load", [diabetes.load, breast_cancer.load])
def test_other_rows_are_no_copies(load: Callable[[], TableSamples]) -> None:
    found = duplicates(splits_of(load(), 60))
    assert (found.compared, found.near, found.leaked) == (60, 0, 0)


def test_one_extreme_value_does_not_make_rows_alike() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4))
    rows[3] = 1e12
    assert duplicates(splits_of(table(rows), 20)).near == 0


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_rows_of_any_size_are_compared(size: float) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4))
    rows[:, 1] *= size
    rows[:50, 2] = 0.0
    rows[3, 2] = size
    near = rows[:10].copy()
    near[:, [0, 3]] += 1e-5
    assert duplicates(splits_of(table(np.concatenate([rows, near])), 10)).near == 10


def test_rows_far_from_zero_are_compared_exactly() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4)) + 1e9
    near = rows[:10] + 1e-4
    found = duplicates(splits_of(table(np.concatenate([rows, near])), 10))
    assert found.near == 10
    assert duplicates(splits_of(table(rows), 20)).near == 0


def test_rows_are_near_only_if_they_miss_the_same_values() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 5))
    rows[:3, 2] = np.nan
    # Near the first; near the second but for its gap, where it is in the middle of all others;
    # near the fourth, with a gap of its own.
    rows[3, 2] = np.nanmedian(rows[3:, 2])
    more = rows[[0, 1, 3]] + 1e-5
    more[1, 2], more[2, 2] = rows[3, 2], np.nan
    samples = table(np.concatenate([rows, more]), optional=(True,) * 5)
    assert pairs_of(samples, 3) == [("sample 30", "sample 0")]


def test_rows_are_near_only_if_they_have_the_same_categories() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 5))
    rows[:, 2] = np.arange(30) % 3
    more = rows[[0, 1, 2]]
    more[:, [0, 1, 3, 4]] += 1e-5
    more[1, 2], more[2, 2] = 0.0, np.nan
    samples = table(
        np.concatenate([rows, more]),
        categories=((), (), ("x", "y", "z"), (), ()),
        optional=(False, False, True, False, False),
    )
    assert pairs_of(samples, 3) == [("sample 30", "sample 0")]


def test_a_category_that_is_missing_twice_is_the_same() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 5))
    rows[:, 2] = np.arange(30) % 3
    rows[4, 2] = np.nan
    more = rows[[4]] + np.array([1e-5, 1e-5, 0, 1e-5, 1e-5])
    samples = table(
        np.concatenate([rows, more, rows[:1] + 9]),
        categories=((), (), ("x",) * 12, (), ()),
        optional=(False, False, True, False, False),
    )
    assert ("sample 30", "sample 4") in pairs_of(samples, 2)


@pytest.mark.parametrize("columns", [1, 2])
def test_few_columns_are_near_by_chance_and_not_compared(columns: int) -> None:
    rows = np.random.default_rng(0).normal(size=(500, columns))
    found = duplicates(splits_of(table(rows), 200))
    assert (found.compared, found.near) == (0, 0)


def test_a_column_that_training_has_no_value_of_is_passed_over() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 5))
    rows[:28, 2] = np.nan
    samples = table(rows, optional=(True,) * 5)
    assert duplicates(splits_of(samples, 2)).near == 0


def test_a_column_of_one_value_is_passed_over() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 5))
    rows[:, 2] = 4.2
    samples = table(np.concatenate([rows, rows[:2] + 1e-6]))
    assert pairs_of(samples, 2) == [("sample 31", "sample 1"), ("sample 30", "sample 0")]


# --- the search -----------------------------------------------------------------------------


@settings(derandomize=True, database=None, deadline=None, max_examples=40)
@given(
    asked=st.integers(0, 30), known=st.integers(0, 40), seed=st.integers(0, 99),
    blocks=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)  # fmt: skip
def test_the_nearest_is_found_in_any_blocks(
    asked: int, known: int, seed: int, blocks: tuple[int, int]
) -> None:
    chance = torch.Generator().manual_seed(seed)
    rows = torch.randn(asked, 3, dtype=torch.float64, generator=chance)
    others = torch.randn(known, 3, dtype=torch.float64, generator=chance)
    distances = torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist")
    expected = [
        (place, int(distances[place].argmin()))
        for place in range(asked)
        if known and float(distances[place].min()) <= 0.7
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leakage, "_ASKED", blocks[0])
        patch.setattr(leakage, "_KNOWN", blocks[1])
        assert [*leakage._nearest(rows, others, 0.7)] == expected


def test_of_equal_distances_the_first_counts() -> None:
    rows = np.random.default_rng(0).normal(size=(10, 4))
    rows[7] = rows[3]
    samples = table(np.concatenate([rows, rows[[3, 5]] + 1e-6]))
    assert pairs_of(samples, 2)[-1] == ("sample 10", "sample 3")


def test_texts_that_are_one_to_the_network_are_near_copies() -> None:
    header = "x" * 20
    samples = TextSamples(
        # Blanks and a mark in front are not read.
        texts=[f"\n{header}a", "short", "other", f"\ufeff {header}b", "word"],
        targets=np.zeros(5, dtype=np.int64),
        labels=("a", "b"),
    )
    splits = splits_of(samples, 2)
    assert duplicates(splits).near == 0
    assert duplicates(splits, max_bytes=21).near == 0
    found = duplicates(splits, max_bytes=20)
    assert [(pair.held_out, pair.train) for pair in found.pairs] == [
        (samples.name(3), samples.name(0))
    ]
