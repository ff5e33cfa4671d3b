"""Folders of images become samples, in one order everywhere; what is no image is named."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from marwright.recipe.errors import DataError
from marwright.training.datasets.image_folder import load
from marwright.training.samples import ImageSamples
from marwright.training.splits import split


def folder_of(root: Path, *names: str) -> Path:
    """Write files of a few bytes, or empty folders, whose names end with a slash."""
    for name in names:
        place = root / name
        if name.endswith("/"):
            place.mkdir(parents=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(name.encode())
    return root


def labelled(samples: ImageSamples) -> dict[str, str]:
    """Return the labels of samples by their names."""
    targets = samples.targets.tolist()
    return {
        name: samples.labels[target] for name, target in zip(samples.names, targets, strict=True)
    }


def faults(samples: ImageSamples) -> list[tuple[str, str]]:
    return [(fault.where, fault.what) for fault in samples.faults]


# --- classes --------------------------------------------------------------------------------


def test_a_folder_is_a_class(tmp_path: Path) -> None:
    samples = load(folder_of(tmp_path, "dog/2.jpg", "cat/b.png", "cat/a.png", "dog/10.jpg"))
    assert samples.labels == ("cat", "dog")
    # In the order of their names, which do not depend on the system.
    assert list(labelled(samples).items()) == [
        ("cat/a.png", "cat"), ("cat/b.png", "cat"), ("dog/10.jpg", "dog"), ("dog/2.jpg", "dog")
    ]  # fmt: skip
    assert samples.images == [tmp_path / name for name in samples.names]
    assert samples.content(0) == b"cat/a.png"
    assert (samples.faults, samples.fixed) == ((), ["", "", "", ""])


def test_images_lie_as_deep_as_one_likes(tmp_path: Path) -> None:
    samples = load(folder_of(tmp_path, "cat/2024/may/a.png", "cat/b.png", "dog/x/y/z/c.png"))
    assert labelled(samples) == {
        "cat/2024/may/a.png": "cat", "cat/b.png": "cat", "dog/x/y/z/c.png": "dog"
    }  # fmt: skip


def test_samples_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    # As folders, `a` comes before `a-b`; as part of a name it comes behind.
    samples = load(folder_of(tmp_path, "a/1.png", "a-b/1.png", "B/1.png", "a/c/1.png", "a/c.png"))
    assert list(samples.names) == ["B/1.png", "a-b/1.png", "a/1.png", "a/c.png", "a/c/1.png"]


@pytest.mark.parametrize("suffix", ["jpg", "JPG", "jpeg", "Png", "webp", "bmp", "gif"])
def test_suffixes_of_images(tmp_path: Path, suffix: str) -> None:
    samples = load(folder_of(tmp_path, f"cat/a.{suffix}", "dog/b.png"))
    assert (len(samples), samples.faults) == (2, ())


def test_what_is_no_image_is_a_fault(tmp_path: Path) -> None:
    root = folder_of(
        tmp_path, "README.md", "stray.png", "cat/a.png", "cat/notes.txt", "dog/b.png", "dog/old/c"
    )
    samples = load(root)
    assert len(samples) == 2
    assert faults(samples) == [
        ("README.md", "not in the folder of a class"),
        ("cat/notes.txt", "not an image file name"),
        ("dog/old/c", "not an image file name"),
        ("stray.png", "not in the folder of a class"),
    ]


def test_hidden_files_and_litter_are_passed_over(tmp_path: Path) -> None:
    root = folder_of(
        tmp_path, ".git/a.png", ".DS_Store", "cat/.a.png", "cat/Thumbs.db", "cat/.cache/b.png",
        "__MACOSX/cat/a.png", "desktop.ini", "cat/a.png", "dog/b.png",
    )  # fmt: skip
    samples = load(root)
    assert list(samples.names) == ["cat/a.png", "dog/b.png"]
    assert (samples.labels, samples.faults) == (("cat", "dog"), ())


def test_an_empty_folder_is_a_class_without_samples(tmp_path: Path) -> None:
    samples = load(folder_of(tmp_path, "cat/a.png", "dog/", "eel/.hidden", "fox/b.png"))
    assert samples.labels == ("cat", "dog", "eel", "fox")
    assert samples.targets.tolist() == [0, 3]


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    elsewhere = folder_of(tmp_path / "elsewhere", "a.png")
    root = folder_of(tmp_path / "root", "cat/b.png", "dog/c.png")
    (root / "eel").symlink_to(elsewhere, target_is_directory=True)
    (root / "cat/more").symlink_to(elsewhere, target_is_directory=True)
    samples = load(root)
    assert list(samples.names) == ["cat/b.png", "dog/c.png"]
    assert faults(samples) == [
        ("cat/more", "a link to a folder is not followed"),
        ("eel", "a link to a folder is not followed"),
    ]


def test_a_link_to_a_file_is_the_file(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "cat/b.png", "dog/c.png")
    (root / "dog/d.png").symlink_to(root / "cat/b.png")
    samples = load(root)
    assert samples.content(2) == b"cat/b.png"


def test_accents_are_the_same_in_either_form(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = folder_of(tmp_path, f"train/{composed}/a.png", f"test/{apart}/b.png", "train/x/c.png")
    samples = load(root)
    assert samples.labels == (composed, "x")
    assert f"test/{composed}/b.png" in samples.names
    assert [samples.content(index) for index in range(3)] == [
        f"test/{apart}/b.png".encode(), f"train/{composed}/a.png".encode(), b"train/x/c.png"
    ]  # fmt: skip


def test_a_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "cat/a.png", "dog/b.png")
    try:
        (root / os.fsdecode(b"cat/\xff.png")).write_bytes(b"1")
    except OSError:
        pytest.skip("this system has no such names")
    samples = load(root)
    assert "cat/\ufffd.png" in samples.names
    assert all(name.encode() for name in samples.names)


@pytest.mark.parametrize("count", [0, 2])
def test_one_folder_is_named(tmp_path: Path, count: int) -> None:
    with pytest.raises(DataError, match=r"\[data\] files: name one folder"):
        load(*[tmp_path] * count)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = folder_of(tmp_path, "a.png") / "a.png"
    with pytest.raises(DataError, match="name one folder"):
        load(file)


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pets", "a.png", ".hidden/b.png")
    with pytest.raises(DataError, match=r"^pets/: no folders of classes$"):
        load(root)


# --- folders of splits ----------------------------------------------------------------------


def names_by_split(samples: ImageSamples) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, fixed in zip(samples.names, samples.fixed, strict=True):
        found.setdefault(fixed, []).append(name)
    return found


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_folders_of_three_splits_decide_them(tmp_path: Path, validation: str) -> None:
    root = folder_of(
        tmp_path, "train/cat/a.png", f"{validation}/cat/b.png", "test/cat/c.png", "test/dog/d.png"
    )
    samples = load(root)
    assert samples.labels == ("cat", "dog")
    assert names_by_split(samples) == {
        "train": ["train/cat/a.png"],
        "validation": [f"{validation}/cat/b.png"],
        "test": ["test/cat/c.png", "test/dog/d.png"],
    }


@pytest.mark.parametrize(("other", "split"), [("test", "test"), ("val", "validation")])
def test_training_is_divided_where_one_split_is_not_there(
    tmp_path: Path, other: str, split: str
) -> None:
    samples = load(folder_of(tmp_path, "train/cat/a.png", "train/dog/b.png", f"{other}/cat/c.png"))
    assert names_by_split(samples) == {
        "": ["train/cat/a.png", "train/dog/b.png"], split: [f"{other}/cat/c.png"]
    }  # fmt: skip


def test_a_folder_of_training_alone_is_divided(tmp_path: Path) -> None:
    samples = load(folder_of(tmp_path, "train/cat/a.png", "train/dog/b.png"))
    assert samples.labels == ("cat", "dog")
    assert list(samples.fixed) == ["", ""]


def test_a_decided_test_folder_stays_as_it_is(tmp_path: Path) -> None:
    names = [f"train/{label}/{number}.png" for label in ("cat", "dog") for number in range(40)]
    names += [f"test/{label}/{number}.png" for label in ("cat", "dog") for number in range(5)]
    samples = load(folder_of(tmp_path, *names))
    splits = split(samples, validation=0.2, test=0.2, salt="")
    assert {samples.name(index).partition("/")[0] for index in splits.test} == {"test"}
    assert len(splits.test) == 10
    found = Counter(samples.name(i).partition("/")[0] for i in [*splits.train, *splits.validation])
    assert found == {"train": 80}


def test_a_class_may_be_called_train_or_test(tmp_path: Path) -> None:
    samples = load(folder_of(tmp_path, "bus/a.png", "train/b.png", "ship/c.png"))
    assert samples.labels == ("bus", "ship", "train")
    samples = load(folder_of(tmp_path / "more", "exam/a.png", "test/b.png"))
    assert samples.labels == ("exam", "test")


def test_a_folder_beside_those_of_splits_is_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pets", "train/cat/a.png", "test/cat/b.png", "annotations/x.txt")
    with pytest.raises(DataError, match=r"^pets/: test, train are splits, but annotations is none"):
        load(root)


def test_splits_without_training_are_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pets", "test/cat/a.png", "val/cat/b.png")
    with pytest.raises(DataError, match=r"^pets/: test, val, but no train$"):
        load(root)


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pets", "train/c/a.png", "val/c/b.png", "valid/c/d.png")
    with pytest.raises(DataError, match=r"^pets/: train, val, valid: two of them are the same"):
        load(root)


def test_a_class_of_one_split_only_is_refused_when_they_are_made(tmp_path: Path) -> None:
    names = [f"{part}/cat/{n}.png" for part in ("train", "val", "test") for n in range(3)]
    samples = load(folder_of(tmp_path, *names, "test/dog/1.png"))
    assert samples.labels == ("cat", "dog")
    with pytest.raises(DataError, match="'dog' has 1 samples, none of them for validation and tr"):
        split(samples, validation=0.2, test=0.2, salt="")


def test_a_file_beside_classes_or_splits_is_a_fault(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "train/cat/a.png", "train/dog/b.png", "train/labels.csv", "x.txt")
    samples = load(root)
    assert len(samples) == 2
    assert faults(samples) == [
        ("train/labels.csv", "not in the folder of a class"),
        ("x.txt", "not in the folder of a class"),
    ]
