"""Published sets are read by torchvision's own loaders, from small files of the same formats."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from marwright.recipe.errors import DataError
from marwright.recipe.load import load_recipe
from marwright.training.data import open_dataset
from marwright.training.datasets import cifar10, fashion_mnist, mnist, oxford_iiit_pet
from marwright.training.samples import ImageSamples
from marwright.training.splits import split
from tests.projects import ROOT

pytestmark = pytest.mark.torch

# Images of the training and of the test part.
TRAIN, TEST = 60, 20


def idx(values: np.ndarray) -> bytes:
    """Return an array as MNIST's files have it: its axes, and its bytes."""
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_mnist(root: Path, name: str = "MNIST") -> None:
    """Write images that each have their number in their first pixels, of ten labels in turn."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        images = chance.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        images[:, 0, 0] = np.arange(count)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))


def write_cifar10(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Write batches of images, and let torchvision expect the MD5 that they have."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    sums = {}

    def write(name: str, content: dict[str, Any]) -> None:
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()

    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        count = TEST if name == "test_batch" else TRAIN // 2
        # Red first, then green, then blue.
        pixels = chance.integers(0, 256, (count, 3072)).astype(np.uint8)
        pixels[:, 0], pixels[:, 1024], pixels[:, 2048] = 10, 20, 30
        write(name, {"data": pixels, "labels": [number % 10 for number in range(count)]})
    write("batches.meta", {"label_names": ["airplane", "automobile", *"23456789"]})
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums.pop("batches.meta")}
    known = torchvision.datasets.CIFAR10
    patch.setattr(known, "train_list", [[n, s] for n, s in sums.items() if n != "test_batch"])
    patch.setattr(known, "test_list", [["test_batch", sums["test_batch"]]])
    patch.setattr(known, "meta", meta)


def write_pets(root: Path) -> None:
    """Write photographs of two breeds, and the lists that divide them."""
    images, lists = root / "oxford-iiit-pet/images", root / "oxford-iiit-pet/annotations"
    images.mkdir(parents=True)
    lists.mkdir()
    chance = np.random.default_rng(0)
    for part, count in (("trainval", TRAIN), ("test", TEST)):
        lines = []
        for number in range(count):
            breed, species = (("Abyssinian", 1), ("great_pyrenees", 2))[number % 2]
            name = f"{breed}_{part}{number}"
            pixels = chance.integers(0, 256, (9, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(images / f"{name}.jpg")
            lines.append(f"{name} {number % 2 + 1} {species} 1")
        (lists / f"{part}.txt").write_text("\n".join(lines) + "\n")


def write(module: ModuleType, root: Path, patch: pytest.MonkeyPatch) -> None:
    if module is cifar10:
        write_cifar10(root, patch)
    elif module is oxford_iiit_pet:
        write_pets(root)
    else:
        write_mnist(root, "MNIST" if module is mnist else "FashionMNIST")


ALL = pytest.mark.parametrize("module", [mnist, fashion_mnist, cifar10, oxford_iiit_pet])


# --- what is read ---------------------------------------------------------------------------


@ALL
def test_the_test_part_is_tested_on_and_the_other_divided(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(module, tmp_path, monkeypatch)
    samples = module.load(root=str(tmp_path))
    assert Counter(samples.fixed) == {"": TRAIN, "test": TEST}
    splits = split(samples, validation=0.2, test=0.2, salt="")
    assert splits.test.tolist() == list(range(TRAIN, TRAIN + TEST))
    assert len(splits.validation) > 2


@ALL
def test_a_folder_of_files_is_the_same(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(module, tmp_path, monkeypatch)
    samples, same = module.load(root=str(tmp_path)), module.load(tmp_path)
    assert same.targets.tolist() == samples.targets.tolist()
    assert [same.content(i) for i in range(5)] == [samples.content(i) for i in range(5)]


@pytest.mark.parametrize(
    ("module", "labels"),
    [(mnist, tuple("0123456789")), (fashion_mnist, ("T-shirt/top", "Trouser", "Pullover"))],
)
def test_digits_and_clothes(
    module: ModuleType, labels: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(module, tmp_path, monkeypatch)
    samples: ImageSamples = module.load(tmp_path)
    assert samples.labels[: len(labels)] == labels
    assert len(samples.labels) == 10
    assert samples.targets.tolist() == [n % 10 for n in range(TRAIN)] + [
        n % 10 for n in range(TEST)
    ]
    image = samples.images[TRAIN + 7]
    assert isinstance(image, np.ndarray)
    assert (image.shape, image.dtype, image[0, 0]) == ((28, 28), np.uint8, 7)
    assert (samples.name(3), samples.name(TRAIN + 7)) == ("train 3", "test 7")


def test_small_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    samples = cifar10.load(tmp_path)
    assert samples.labels[:2] == ("airplane", "automobile")
    image = samples.images[40]
    assert isinstance(image, np.ndarray)
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    assert image[0, 0].tolist() == [10, 20, 30]
    assert samples.targets.tolist() == [n % 10 for part in (30, 30, TEST) for n in range(part)]


def test_pets_are_files(tmp_path: Path) -> None:
    write_pets(tmp_path)
    samples = oxford_iiit_pet.load(tmp_path)
    assert samples.labels == ("Abyssinian", "Great Pyrenees")
    assert samples.images[0] == tmp_path / "oxford-iiit-pet/images/Abyssinian_trainval0.jpg"
    assert samples.name(TRAIN) == "images/Abyssinian_test0.jpg"
    assert samples.targets.tolist() == [n % 2 for n in range(TRAIN + TEST)]


RECIPE = """\
version = "1.0"
task = "classification"

[data]
dataset = "oxford_iiit_pet"
params = {{ root = "{root}" }}
faulty = "skip"

[preprocess]
kind = "image"
channels = 3
height = 8
width = 8

[model]
factory = "small_cnn"

[serve]
handler = "classify_image"
"""


def test_a_photograph_that_is_missing_is_a_fault(tmp_path: Path) -> None:
    write_pets(tmp_path)
    (tmp_path / "oxford-iiit-pet/images/Abyssinian_trainval4.jpg").unlink()
    project = tmp_path / "project"
    for room in ("train", "handlers"):
        (project / room).parent.mkdir(exist_ok=True)
        (project / room).symlink_to(ROOT / room, target_is_directory=True)
    (project / "archive").mkdir()
    (project / "archive/pets.toml").write_text(RECIPE.format(root=tmp_path))
    found = open_dataset(load_recipe(project / "archive/pets.toml"), Path())
    assert [(fault.where, fault.what) for fault in found.faults] == [
        ("images/Abyssinian_trainval4.jpg", "cannot be read: No such file or directory")
    ]
    assert len(found.splits.samples) == TRAIN + TEST - 1


# --- what is not there ----------------------------------------------------------------------


@ALL
def test_data_that_is_not_there_says_what_to_do(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        module.load(root="data/none")
    message = str(caught.value)
    assert "cannot be read from data/none/: put " in message
    assert ", unpacked, there, or set [data.params] download = true (" in message
    # A folder that the recipe names is there for the digest of its content; nothing is added.
    with pytest.raises(DataError) as caught:
        module.load(tmp_path)
    assert f"cannot be read from {tmp_path.name}/: put " in str(caught.value)
    assert "download" not in str(caught.value).partition(" (")[0]


@ALL
def test_what_is_hashed_beforehand_is_not_downloaded(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"to download it, name the folder as \[data\.params\] root"
    ):
        module.load(tmp_path, download=True)
    with pytest.raises(DataError, match="name the one folder that holds"):
        module.load(tmp_path, tmp_path)


@ALL
def test_a_download_that_fails_says_what_to_do(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    for place in ("mnist", "cifar", "oxford_iiit_pet"):
        monkeypatch.setattr(f"torchvision.datasets.{place}.download_and_extract_archive", offline)
    with pytest.raises(DataError) as caught:
        module.load(root=str(tmp_path), download=True)
    assert str(caught.value).endswith("there (OSError: no route to host)")


def test_a_download_goes_to_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(url: str, **_: object) -> None:
        asked.append(url)
        if len(asked) == 1:
            write_pets(tmp_path)

    monkeypatch.setattr(
        "torchvision.datasets.oxford_iiit_pet.download_and_extract_archive", download
    )
    samples = oxford_iiit_pet.load(root=str(tmp_path), download=True)
    assert len(samples) == TRAIN + TEST
    # Once, both archives; the second part is there then.
    assert [url.rpartition("/")[2] for url in asked] == ["images.tar.gz", "annotations.tar.gz"]


def test_a_damaged_batch_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)

    class Bad:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "cifar-10-batches-py/data_batch_2").write_bytes(pickle.dumps(Bad()))
    with pytest.raises(DataError, match="not found or corrupted"):
        cifar10.load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(DataError, match="MNIST cannot be read from "):
        mnist.load(tmp_path)
