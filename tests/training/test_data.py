"""From a recipe to its splits: data that cannot be used is refused, or left out and counted."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from marwright.recipe.errors import DataError
from marwright.recipe.load import load_recipe
from marwright.recipe.types import Recipe, varied
from marwright.training.data import open_dataset, open_trained_dataset
from marwright.training.samples import Fault, ImageSamples, Samples, TableSamples
from marwright.training.types import Meta, Opened
from tests.projects import ROOT
from tests.training.conftest import (
    ModuleMaker,
    image_recipe,
    image_samples,
    table_recipe,
    table_samples,
)

pytestmark = pytest.mark.torch

SKIP = {"faulty": "skip"}


def opened(make_module: ModuleMaker, recipe: Recipe, samples: Any) -> Opened:
    make_module("marwright.training.datasets.tiny", load=lambda: samples)
    return open_dataset(recipe, Path())


def meta_of(opened: Opened) -> Meta:
    """Return what a checkpoint of this data says of it."""
    return Meta(
        task="classification", preprocess={}, labels=list(opened.splits.samples.labels),
        outputs=2, metrics={}, test_loss=0, validation_loss=0, epochs=1, best_epoch=1, seed=0,
        device="cpu", splits=opened.splits.digests(), split_sizes={}, faults=list(opened.faults),
        versions={},
    )  # fmt: skip


# --- opening --------------------------------------------------------------------------------


def test_a_data_set_is_opened_and_split(make_module: ModuleMaker) -> None:
    found = opened(make_module, table_recipe(), table_samples(200))
    splits = found.splits
    assert len(splits.train) > len(splits.test) > 0
    assert (found.faults, found.duplicates.exact) == ((), 0)
    assert found.duplicates.compared == len(splits.test) + len(splits.validation)


# Two digits are nearly the same once they are centred.
@pytest.mark.parametrize(("name", "count", "near"), [("digits", 1797, 1), ("diabetes", 442, 0)])
def test_the_shipped_data_is_opened(name: str, count: int, near: int) -> None:
    recipe = load_recipe(ROOT / "archive" / f"{name}.toml")
    found = open_dataset(recipe, ROOT)
    splits = found.splits
    assert sum(map(len, splits.named().values())) == count
    assert (found.faults, found.duplicates.near, found.duplicates.leaked) == ((), near, 0)
    # The same samples in the same splits, on every machine.
    assert splits.digests() == open_dataset(recipe, ROOT).splits.digests()


def test_digits_are_split_in_about_the_same_proportions() -> None:
    splits = open_dataset(load_recipe(ROOT / "archive/digits.toml"), ROOT).splits
    targets = splits.samples.targets
    for label in range(10):
        whole = int((targets == label).sum())
        for name, share in (("test", 0.2), ("validation", 0.15)):
            part = int((targets[getattr(splits, name)] == label).sum())
            # Some 180 samples a class: four standard deviations are 0.12 and 0.11.
            assert part / whole == pytest.approx(share, abs=0.12), (label, name)


def test_files_and_params_are_given_to_the_data_set(make_module: ModuleMaker) -> None:
    given: list[Any] = []

    def load(*paths: Path, count: int) -> Samples:
        given.extend(paths)
        return table_samples(count)

    make_module("marwright.training.datasets.tiny", load=load)
    data = {"files": ["a.csv", "b/c"], "params": {"count": 90}}
    splits = open_dataset(table_recipe(data=data), ROOT).splits
    assert given == [ROOT / "a.csv", ROOT / "b/c"]
    assert len(splits.samples) == 90


def test_names_that_numpy_made_become_plain_texts(make_module: ModuleMaker) -> None:
    """As `target_names` of scikit-learn and `np.unique` give them."""
    rows = table_samples(90)
    for labels in (np.array(["a", "b"]), np.array([3, 7]), [np.str_("a"), "b"]):
        samples = dataclasses.replace(
            rows, labels=labels, targets=(rows.targets > 0).astype(np.int64), names=None,
            columns=np.array(rows.columns), optional=np.zeros(len(rows.columns), dtype=bool),
        )  # fmt: skip
        make_module("marwright.training.datasets.tiny", load=lambda samples=samples: samples)
        recipe = varied(table_recipe(), {"task": "classification"})
        found = open_dataset(recipe, Path()).splits.samples
        assert isinstance(found, TableSamples)
        assert all(type(name) is str for name in (*found.labels, *found.columns))
        assert all(type(value) is bool for value in found.optional)
        msgspec.json.encode([found.labels, found.columns, found.optional, found.name(0)])


# --- what a data set's author got wrong -----------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "samples", "said"),
    [
        (image_recipe(), table_samples(), "holds TableSamples, not ImageSamples"),
        (table_recipe(), image_samples(), "holds ImageSamples, not TableSamples"),
        (table_recipe(), None, "holds NoneType, not TableSamples"),
    ],
)
def test_data_of_another_kind_is_refused(
    make_module: ModuleMaker, recipe: Recipe, samples: Samples, said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        opened(make_module, recipe, samples)
    assert str(caught.value).startswith("archive/tiny.toml: [preprocess] kind: ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"columns": ("a", "b")}, "60 targets and 2 columns"),
        ({"targets": np.zeros(59)}, "59 targets and 3 columns"),
        ({"targets": np.zeros((60, 1))}, r"targets are float64 \(60, 1\), not float64 of 1 axes"),
        ({"targets": np.zeros(60, np.int64)}, r"targets are int64 \(60,\), not float64 of 1 axes"),
        ({"targets": [0.0] * 60}, "targets are a list, not an array"),
        ({"rows": np.zeros((60, 3), np.float32)}, r"rows are float32 \(60, 3\), not float64 of 2"),
        ({"names": ["x"] * 59}, "59 names, but 60 targets"),
        ({"names": ["x", "y"] * 30}, "the name 'x' stands for two samples"),
        ({"fixed": ["test"]}, "1 fixed, but 60 targets"),
        ({"fixed": ["val"] * 60}, "fixed has 'val'; a split is one of train, validation, test"),
        ({"columns": ("a", "b", "a")}, "the column 'a' is there twice"),
        ({"categories": ((), ())}, "2 categories, but 3 columns"),
        ({"categories": ((), (), ("x", "x"))}, "c has the category 'x' twice"),
        ({"optional": (True,)}, "1 optional, but 3 columns"),
        ({"labels": ("p", "q")}, 'task = "regression", and its targets are labels'),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(
    make_module: ModuleMaker, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        opened(make_module, table_recipe(), dataclasses.replace(table_samples(), **changes))
    assert str(caught.value).startswith("marwright/training/datasets/tiny.py: ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ("dark",)}, "needs two labels or more"),
        ({"labels": ("dark", "dark")}, "each of them once"),
        ({"labels": ()}, 'task = "classification", and its targets are values, not labels'),
        ({"targets": np.zeros(60, np.int32)}, r"targets are int32 \(60,\), not int64 of 1 axes"),
        ({"images": image_samples().images[1:]}, "59 images, but 60 targets"),
        ({"targets": np.full(60, 2)}, "its target 2 is no index of 2 labels"),
        ({"targets": np.full(60, -1)}, "its target -1 is no index of 2 labels"),
        ({"targets": np.zeros(60, np.int64)}, "class 'bright': no samples"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    make_module: ModuleMaker, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        opened(make_module, image_recipe(), dataclasses.replace(image_samples(), **changes))
    assert str(caught.value).startswith("marwright/training/datasets/tiny.py: ")


def test_what_a_data_sets_own_code_raises_says_whose_it_is(make_module: ModuleMaker) -> None:
    def load() -> Samples:
        raise KeyError("price")

    make_module("marwright.training.datasets.tiny", load=load)
    said = r"^marwright/training/datasets/tiny\.py: load\(\) failed: KeyError: 'price'$"
    with pytest.raises(DataError, match=said):
        open_dataset(table_recipe(), Path())


def test_what_a_data_set_says_itself_is_not_said_again(make_module: ModuleMaker) -> None:
    def load() -> Samples:
        raise DataError("a.csv: no rows")

    make_module("marwright.training.datasets.tiny", load=load)
    with pytest.raises(DataError, match=r"^a\.csv: no rows$"):
        open_dataset(table_recipe(), Path())


def test_a_data_set_that_cannot_be_imported_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "marwright.training.datasets.tiny", None)
    with pytest.raises(
        DataError, match=r"^marwright/training/datasets/tiny\.py: load\(\) failed: ModuleNot"
    ):
        open_dataset(table_recipe(), Path())


def test_too_few_samples_say_whose_they_are(make_module: ModuleMaker) -> None:
    with pytest.raises(
        DataError, match=r"^marwright/training/datasets/tiny\.py: the \w+ split holds"
    ):
        opened(make_module, table_recipe(), table_samples(3))


# --- faults ---------------------------------------------------------------------------------


def spoiled(count: int = 200) -> Samples:
    samples = table_samples(count)
    samples.rows[7, 1] = np.inf
    samples.targets[9] = np.nan
    return dataclasses.replace(samples, faults=(Fault(where="row 5000", what="has 2 cells"),))


def test_faulty_rows_are_refused(make_module: ModuleMaker) -> None:
    with pytest.raises(DataError) as caught:
        opened(make_module, table_recipe(), spoiled())
    assert str(caught.value).splitlines() == [
        "marwright/training/datasets/tiny.py: 3 faults in the data:",
        "  row 5000: has 2 cells",
        "  sample 7: b is inf",
        "  sample 9: its target is nan",
        'mend them, or leave them out with [data] faulty = "skip"',
    ]


def test_faulty_rows_are_left_out_and_counted(make_module: ModuleMaker) -> None:
    found = opened(make_module, table_recipe(data=SKIP), spoiled())
    assert [fault.where for fault in found.faults] == ["row 5000", "sample 7", "sample 9"]
    assert len(found.splits.samples) == 198
    # The others are where they would be anyway.
    whole = opened(make_module, table_recipe(), table_samples(200)).splits
    for name, indices in found.splits.named().items():
        names = [found.splits.samples.name(index) for index in indices]
        expected = [whole.samples.name(index) for index in getattr(whole, name)]
        assert names == [one for one in expected if one not in ("sample 7", "sample 9")]


# --- the data set of a checkpoint -----------------------------------------------------------


def test_the_data_set_of_a_checkpoint_is_split_as_it_was(make_module: ModuleMaker) -> None:
    recipe = table_recipe(data=SKIP)
    found = opened(make_module, recipe, spoiled())
    splits = open_trained_dataset(recipe, Path(), meta_of(found))
    assert splits.digests() == found.splits.digests()
    assert [splits.samples.name(i) for i in splits.test] == [
        found.splits.samples.name(i) for i in found.splits.test
    ]


def write_images(folder: Path) -> ImageSamples:
    """Write forty images of two classes, three of them corrupt, and of a third class only those."""
    for number, image in enumerate(image_samples(40).images):
        assert isinstance(image, np.ndarray)
        Image.fromarray(image).save(folder / f"{number}.png")
    for number in (5, 38, 39):
        (folder / f"{number}.png").write_bytes(b"these are words")
    targets = image_samples(40).targets
    targets[[38, 39]] = 2
    return ImageSamples(
        images=[folder / f"{number}.png" for number in range(40)],
        targets=targets,
        labels=("dark", "bright", "lost"),
        names=[f"{number}.png" for number in range(40)],
    )


def test_images_are_left_out_again_without_being_decoded(
    make_module: ModuleMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = image_recipe(data=SKIP)
    found = opened(make_module, recipe, write_images(tmp_path))
    assert [fault.where for fault in found.faults] == ["5.png", "38.png", "39.png", "class 'lost'"]
    assert found.splits.samples.labels == ("dark", "bright")
    monkeypatch.setattr("marwright.training.audit.open_image", None)
    splits = open_trained_dataset(recipe, Path(), meta_of(found))
    assert splits.digests() == found.splits.digests()
    assert splits.samples.labels == ("dark", "bright")


@pytest.mark.parametrize("changed", ["a value", "a target", "a row more", "a row less"])
def test_a_data_set_that_has_changed_is_refused(make_module: ModuleMaker, changed: str) -> None:
    recipe = table_recipe()
    meta = meta_of(opened(make_module, recipe, table_samples(200)))
    samples = table_samples(201 if changed == "a row more" else 200)
    if changed == "a value":
        samples.rows[3, 1] += 1
    elif changed == "a target":
        samples.targets[3] += 1
    elif changed == "a row less":
        samples = dataclasses.replace(samples, rows=samples.rows[1:], targets=samples.targets[1:])
    make_module("marwright.training.datasets.tiny", load=lambda: samples)
    with pytest.raises(DataError, match="is not the one that the weights were trained with"):
        open_trained_dataset(recipe, Path(), meta)


def test_a_file_that_is_gone_since_is_named(make_module: ModuleMaker, tmp_path: Path) -> None:
    recipe = image_recipe(data=SKIP)
    samples = write_images(tmp_path)
    meta = meta_of(opened(make_module, recipe, samples))
    (tmp_path / "3.png").unlink()
    with pytest.raises(DataError, match=r"a sample cannot be read any more: .*3\.png"):
        open_trained_dataset(recipe, Path(), meta)


# --- data sets that read files --------------------------------------------------------------


def test_a_folder_of_photographs_is_opened_and_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, target in enumerate(image_samples().targets):
        folder = tmp_path / "photos" / ("dark", "bright")[target]
        folder.mkdir(parents=True, exist_ok=True)
        image = image_samples().images[number]
        assert isinstance(image, np.ndarray)
        Image.fromarray(image).save(folder / f"{number}.png")
    (tmp_path / "photos/dark/cut.png").write_bytes(b"\x89PNG")
    (tmp_path / "photos/notes.txt").write_bytes(b"words")
    (tmp_path / "photos/empty").mkdir()
    recipe = image_recipe(data={"dataset": "image_folder", "files": ["photos"], **SKIP})
    found = open_dataset(recipe, Path())
    assert [(fault.where, fault.what.partition(" (")[0]) for fault in found.faults] == [
        ("notes.txt", "not in the folder of a class"),
        ("dark/cut.png", "not an image of a known format"),
        ("class 'empty'", "no samples"),
    ]
    assert found.splits.samples.labels == ("bright", "dark")
    assert len(found.splits.samples) == 60
    assert open_trained_dataset(recipe, Path(), meta_of(found)).digests() == found.splits.digests()
    # As mended, the others stay where they are; only the class is missed no more.
    (tmp_path / "photos/dark/cut.png").unlink()
    (tmp_path / "photos/notes.txt").unlink()
    (tmp_path / "photos/empty").rmdir()
    refusing = image_recipe(data={"dataset": "image_folder", "files": ["photos"]})
    assert open_dataset(refusing, Path()).splits.digests() == found.splits.digests()


def test_a_csv_file_is_opened_and_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{n * 7 % 50},{'' if n % 9 == 0 else 'xyz'[n % 3]},{n}" for n in range(120)]
    lines[30:32] = ["nan,x,3", "1,y"]
    (tmp_path / "a.csv").write_text("\n".join(["size,kind,price", *lines]), encoding="utf-8")
    data = {"dataset": "csv", "files": ["a.csv"], "params": {"target": "price"}}
    with pytest.raises(DataError, match=r"2 faults in the data:\n  a\.csv row 32: size is 'nan'\n"):
        open_dataset(table_recipe(data=data), Path())
    recipe = table_recipe(data=data | SKIP)
    found = open_dataset(recipe, Path())
    assert [fault.where for fault in found.faults] == ["a.csv row 32", "a.csv row 33"]
    assert len(found.splits.samples) == 118
    assert open_trained_dataset(recipe, Path(), meta_of(found)).digests() == found.splits.digests()


# --- near copies ----------------------------------------------------------------------------


def with_near_copies() -> Samples:
    """Rows, each with a near copy, so that some of these are in another split."""
    samples = table_samples(100)
    return dataclasses.replace(
        samples,
        rows=np.concatenate([samples.rows, samples.rows * (1 + 1e-7)]),
        targets=np.concatenate([samples.targets, samples.targets]),
    )


def test_near_copies_are_reported(make_module: ModuleMaker) -> None:
    found = opened(make_module, table_recipe(), with_near_copies()).duplicates
    assert found.near > 20
    assert {abs(int(p.held_out.split()[1]) - int(p.train.split()[1])) for p in found.pairs} == {100}


def test_near_copies_are_refused_where_the_recipe_says_so(make_module: ModuleMaker) -> None:
    recipe = table_recipe(data={"near_duplicates": "refuse"})
    with pytest.raises(DataError) as caught:
        opened(make_module, recipe, with_near_copies())
    first, *pairs, more, last = str(caught.value).splitlines()
    assert first.startswith(
        "marwright/training/datasets/tiny.py: of the held-out samples 0 equal and "
    )
    assert len(pairs) == 20
    assert all(pair.startswith("  sample ") and " is sample " in pair for pair in pairs)
    assert more.startswith("  and ")
    assert last == 'remove them, or set [data] near_duplicates = "report"'


def test_samples_that_differ_pass_where_copies_are_refused(make_module: ModuleMaker) -> None:
    recipe = table_recipe(data={"near_duplicates": "refuse"})
    assert opened(make_module, recipe, table_samples(200)).duplicates.near == 0


def test_a_data_set_that_leaks_by_its_own_division_is_refused(make_module: ModuleMaker) -> None:
    samples = with_near_copies()
    samples.rows[100:] = samples.rows[:100]
    samples = dataclasses.replace(samples, fixed=[*[""] * 100, *["test"] * 100])
    recipe = table_recipe(data={"near_duplicates": "refuse"})
    with pytest.raises(DataError, match=r"of the held-out samples 8[0-9] equal and 0 nearly equal"):
        opened(make_module, recipe, samples)


def test_what_is_found_can_be_written(make_module: ModuleMaker) -> None:
    samples = dataclasses.replace(
        with_near_copies(), names=np.array([f"row {number}" for number in range(200)])
    )
    found = opened(make_module, table_recipe(), samples)
    assert msgspec.json.decode(msgspec.json.encode(found.duplicates))["near"] > 20
