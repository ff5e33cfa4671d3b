"""Recipes of a person's own images, and those that need a download, trained on small files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from bench.project import copy_project
from marwright.recipe.load import load_recipe
from marwright.recipe.types import Recipe, varied
from marwright.training.models.torchvision import build
from marwright.training.record import TrainReport
from marwright.training.run import train
from tests.projects import ROOT, pipeline
from tests.training.datasets.test_torchvision import write_mnist, write_pets

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

SHORT = {"fit.epochs": 1, "fit.minimum_metric": "any", "fit.threads": 1}


def trained(recipe: Recipe, out: Path) -> TrainReport:
    out.mkdir()
    train(recipe, ROOT, out, lambda *_: None)
    return msgspec.json.decode((out / "train.json").read_bytes(), type=TrainReport)


def test_mnist_is_trained_on_files_of_its_format(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    recipe = varied(
        load_recipe(ROOT / "archive" / "examples" / "mnist.toml"),
        {**SHORT, "data.params": {"root": str(tmp_path)}, "fit.batch_size": 20},
    )
    report = trained(recipe, tmp_path / "out")
    assert report.data.labels == [str(digit) for digit in range(10)]
    # Its test part is the test split, and stays it.
    assert sum(report.data.counts["test"]) == 20
    assert sum(report.data.counts["train"]) + sum(report.data.counts["validation"]) == 60


def test_frozen_random_weights_are_told_of(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    recipe = varied(
        load_recipe(ROOT / "archive" / "examples" / "mnist.toml"),
        {
            **SHORT, "data.params": {"root": str(tmp_path)}, "fit.batch_size": 20,
            "transfer.freeze": "body",
        },
    )  # fmt: skip
    (note,) = trained(recipe, tmp_path / "out").events
    assert "unless the factory fills them, they stayed random" in note


def test_pets_start_from_a_resnet_that_was_downloaded_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ResNet-50 of the same names and shapes, where torch's cache has the real one."""
    from torchvision.models import ResNet50_Weights
    from torchvision.models._api import Weights

    write_pets(tmp_path)
    network = build((3, 64, 64), 1000, architecture="resnet50")
    torch.save(network.state_dict(), tmp_path / "made.pth")
    digest = hashlib.sha256((tmp_path / "made.pth").read_bytes()).hexdigest()[:8]
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (tmp_path / "made.pth").rename(cache / f"resnet50-{digest}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    entry = ResNet50_Weights.IMAGENET1K_V2
    ours = Weights(
        url=f"http://127.0.0.1:9/{cache.name}/resnet50-{digest}.pth",
        transforms=entry.value.transforms, meta=entry.value.meta,
    )  # fmt: skip
    monkeypatch.setattr(entry, "_value_", ours)
    recipe = varied(
        load_recipe(ROOT / "archive" / "examples" / "pets_resnet50.toml"),
        {
            **SHORT, "data.params": {"root": str(tmp_path)}, "fit.batch_size": 8, "fit.warmup": 0,
            "fit.workers": 1, "preprocess.height": 64, "preprocess.width": 64,
        },
    )  # fmt: skip
    report = trained(recipe, tmp_path / "out")
    assert report.start is not None
    assert report.start.source == "torchvision resnet50 IMAGENET1K_V2"
    assert report.start.initialised == ["fc.bias", "fc.weight"]
    assert report.epochs[0].stages == 1
    assert report.model.trained == 2 * (2048 + 1)


RECIPE = """\
version = "1.0"
task = "classification"

[data]
dataset = "image_folder"
files = ["photos"]
faulty = "skip"

[preprocess]
kind = "image"
channels = 3
height = 16
width = 16

[model]
factory = "small_cnn"
params = { width = 4 }

[fit]
epochs = 12
learning_rate = 1e-2

[serve]
handler = "classify_image"
"""


def test_ten_lines_and_a_folder_of_images_are_a_model(tmp_path: Path) -> None:
    """What a person begins with: two folders of photographs, one of them damaged."""
    root = tmp_path / "project"
    copy_project(ROOT, root, models=())
    (root / "archive" / "colours.toml").write_text(RECIPE, encoding="utf-8")
    chance = np.random.default_rng(0)
    for label, red in (("dark", 40), ("light", 200)):
        (root / "photos" / label).mkdir(parents=True)
        for number in range(40):
            pixels = chance.integers(red, red + 40, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "photos" / label / f"{number}.jpg")
    (root / "photos" / "dark" / "cut off.jpg").write_bytes(
        (root / "photos" / "dark" / "0.jpg").read_bytes()[:200]
    )
    done = pipeline(root, "train", "--model", "colours")
    assert done.returncode == 0, done.stdout + done.stderr
    made = (root / "build" / "colours" / "train.json").read_bytes()
    report = msgspec.json.decode(made, type=TrainReport)
    assert report.data.labels == ["dark", "light"]
    assert report.metrics["accuracy"] == 1.0
    (fault,) = report.data.faults
    assert "cut off.jpg" in fault.where
    # Told where it was trained, and not only on its page.
    assert "test samples; faults left out: 1" in done.stdout
