"""`[data] labels` puts the labels of any data set into one order, and refuses another set."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from marwright.recipe.errors import DataError
from marwright.recipe.types import Recipe
from marwright.training.data import open_dataset, open_trained_dataset
from marwright.training.samples import ImageSamples, Samples, TextSamples
from marwright.training.types import Meta
from tests.training.conftest import ModuleMaker, image_recipe, image_samples, table_samples

pytestmark = pytest.mark.usefixtures("calm_torch")


def text_samples(count: int = 60) -> TextSamples:
    targets = np.arange(count) % 2
    texts = [f"{'good' if target else 'bad'} {at}" for at, target in enumerate(targets)]
    return TextSamples(texts=texts, targets=targets.astype(np.int64), labels=("bad", "good"))


def classified_rows() -> Samples:
    rows = table_samples()
    targets = (rows.targets > np.median(rows.targets)).astype(np.int64)
    return dataclasses.replace(rows, targets=targets, labels=("low", "high"))


KINDS = {
    "image": (image_samples, {}),
    "text": (text_samples, {"kind": "text", "max_bytes": 16}),
    "table": (classified_rows, {"kind": "table"}),
}


def recipe_of(kind: str, labels: str | list[str]) -> Recipe:
    values = msgspec.to_builtins(image_recipe())
    if kind != "image":
        values["preprocess"] = KINDS[kind][1]
    values["data"]["labels"] = labels
    return msgspec.convert(values, Recipe)


def opened(make_module: ModuleMaker, samples: Samples, recipe: Recipe):
    make_module("marwright.training.datasets.tiny", load=lambda: samples)
    return open_dataset(recipe, Path()).splits


def by_content(splits) -> dict[bytes, str]:
    """The label of each sample, by its content."""
    samples = splits.samples
    return {
        samples.content(at): samples.labels[target] for at, target in enumerate(samples.targets)
    }


@pytest.mark.parametrize("kind", KINDS)
def test_another_order_changes_numbers_and_no_meaning(make_module: ModuleMaker, kind: str) -> None:
    samples = KINDS[kind][0]()
    plain = opened(make_module, samples, recipe_of(kind, ""))
    same = opened(make_module, samples, recipe_of(kind, list(samples.labels)))
    other = opened(make_module, samples, recipe_of(kind, [*reversed(samples.labels)]))
    assert same.samples.labels == plain.samples.labels
    assert same.digests() == plain.digests()
    assert other.samples.labels == tuple(reversed(samples.labels))
    assert (other.samples.targets == 1 - plain.samples.targets).all()
    assert by_content(other) == by_content(plain)
    for name, indices in plain.named().items():
        assert (other.named()[name] == indices).all()


def test_a_file_says_the_order(
    make_module: ModuleMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"0": ["n1", "bright"], "1": ["n0", "dark"]}
    (tmp_path / "index_to_name.json").write_text(json.dumps(names))
    found = opened(make_module, image_samples(), recipe_of("image", "index_to_name.json"))
    assert found.samples.labels == ("bright", "dark")


def test_labels_in_another_form_of_unicode_are_the_same(make_module: ModuleMaker) -> None:
    """The model answers as the data set writes them."""
    samples = image_samples()
    accents = ImageSamples(images=samples.images, targets=samples.targets, labels=("e\u0301", "a"))
    assert opened(make_module, accents, recipe_of("image", ["a", "é"])).samples.labels == (
        "a", "e\u0301",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["dark", "brigth"], "does not name 'bright', of which there are samples"),
        (["dark", "bright", "grey"], "has no label 'grey'"),
        (["dark", "bright", "brigt"], "has no label 'brigt'; did you mean \"bright\"?"),
        (["dark", "dark"], "the label 'dark' is there twice"),
        ([f"label {at}" for at in range(2000)], "does not name 'dark', 'bright', of which"),
    ],
)
def test_another_set_of_labels_is_refused(
    make_module: ModuleMaker, labels: list[str], said: str
) -> None:
    with pytest.raises(DataError) as caught:
        opened(make_module, image_samples(), recipe_of("image", labels))
    assert str(caught.value).startswith("archive/tiny.toml: [data] labels: ")
    assert said in str(caught.value) and len(str(caught.value)) < 400


def test_a_file_that_is_wrong_is_named(
    make_module: ModuleMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("bright\nblack\n")
    with pytest.raises(DataError, match=r"^names\.txt: does not name 'dark'"):
        opened(make_module, image_samples(), recipe_of("image", "names.txt"))


def test_a_declared_label_is_not_left_out_in_silence(make_module: ModuleMaker) -> None:
    """Its output would be another label's."""
    samples = image_samples()
    empty = ImageSamples(
        images=samples.images, targets=samples.targets, labels=("dark", "bright", "grey")
    )
    recipe = recipe_of("image", ["grey", "dark", "bright"])
    recipe = msgspec.structs.replace(
        recipe, data=msgspec.structs.replace(recipe.data, faulty="skip")
    )
    with pytest.raises(DataError, match="no sample of 'grey' can be used"):
        opened(make_module, empty, recipe)


def test_later_steps_open_the_data_in_that_order(make_module: ModuleMaker) -> None:
    recipe = recipe_of("image", ["bright", "dark"])
    splits = opened(make_module, image_samples(), recipe)
    meta = Meta(
        task="classification", preprocess={}, labels=["bright", "dark"], outputs=2, metrics={},
        test_loss=0, validation_loss=0, epochs=1, best_epoch=1, seed=0, device="cpu",
        splits=splits.digests(), split_sizes={}, versions={},
    )  # fmt: skip
    assert open_trained_dataset(recipe, Path(), meta).samples.labels == ("bright", "dark")
    with pytest.raises(DataError, match="is not the one that the weights were trained with"):
        open_trained_dataset(recipe_of("image", ["dark", "bright"]), Path(), meta)
