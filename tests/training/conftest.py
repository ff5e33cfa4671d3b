"""Tiny data, tiny networks and recipes for them; torch is left as it was found."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from marwright.recipe.types import Recipe
from marwright.training.samples import ImageSamples, Samples, TableSamples
from marwright.training.types import Splits

RecipeMaker = Callable[..., Recipe]
ModuleMaker = Callable[..., None]


def table_recipe(
    *,
    params: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    preprocess: dict[str, Any] | None = None,
    **fit: Any,
) -> Recipe:
    """A regression on rows; keyword arguments are `[fit]`."""
    sections = {
        "name": "tiny",
        "version": "1.0",
        "task": "regression",
        "data": {"dataset": "tiny"} | (data or {}),
        "preprocess": {"kind": "table"} | (preprocess or {}),
        "model": {"factory": "mlp", "params": params or {}},
        "fit": {"device": "cpu"} | fit,
        "serve": {"handler": "predict_table"},
    }
    return msgspec.convert(sections, Recipe)


def image_recipe(
    *,
    params: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    preprocess: dict[str, Any] | None = None,
    **fit: Any,
) -> Recipe:
    """A classification of 8×8 grey images; keyword arguments are `[fit]`."""
    sections = {
        "name": "tiny",
        "version": "1.0",
        "task": "classification",
        "data": {"dataset": "tiny"} | (data or {}),
        "preprocess": {"kind": "image", "channels": 1, "height": 8, "width": 8}
        | (preprocess or {}),
        "model": {"factory": "small_cnn", "params": {"width": 4} | (params or {})},
        "fit": {"device": "cpu"} | fit,
        "serve": {"handler": "classify_image"},
    }
    return msgspec.convert(sections, Recipe)


def table_samples(count: int = 60, seed: int = 0) -> TableSamples:
    """Rows of three columns in different units, and a target that is nearly linear in them."""
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(count, 3)) * (1.0, 10.0, 100.0) + (0.0, 5.0, -50.0)
    targets = rows @ (3.0, 0.2, 0.01) + 7.0 + chance.normal(size=count) * 0.1
    return TableSamples(rows=rows, targets=targets, columns=("a", "b", "c"), target="y")


def image_samples(count: int = 60, seed: int = 0) -> ImageSamples:
    """Images that are dark or bright, and so labelled."""
    chance = np.random.default_rng(seed)
    targets = chance.integers(0, 2, count)
    images = [chance.integers(t * 128, t * 128 + 128, (8, 8)).astype(np.uint8) for t in targets]
    return ImageSamples(images=images, targets=targets, labels=("dark", "bright"))


def splits_by_place(samples: Samples, train: int = 40) -> Splits:
    """Return splits by position, so that a test knows what is in which."""
    numbers = np.arange(len(samples))
    half = (train + len(samples)) // 2
    return Splits(
        samples=samples,
        contents=tuple(hashlib.sha256(samples.content(index)).hexdigest() for index in numbers),
        train=numbers[:train],
        validation=numbers[train:half],
        test=numbers[half:],
    )


@pytest.fixture
def make_module(monkeypatch: pytest.MonkeyPatch) -> ModuleMaker:
    """Return a maker of modules of the engine's networks and data sets for one test."""

    def make(name: str, **contents: Any) -> None:
        module = ModuleType(name)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, module)

    return make
