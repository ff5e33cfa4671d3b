"""Real archives, small: trained for a moment, traced and packed by the project's own functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn

from marwright.archive.golden import golden_members
from marwright.archive.model_config import handler_options
from marwright.archive.proven import pack_proven
from marwright.export.trace import trace
from marwright.recipe.types import Recipe
from marwright.training.checkpoint import load_checkpoint, outputs_of
from marwright.training.leakage import duplicates
from marwright.training.model import build_model
from marwright.training.preprocess import fit_preprocess
from marwright.training.run import Ready, learn
from marwright.training.samples import ImageSamples, Samples, TableSamples
from marwright.training.splits import split
from marwright.training.tensors import inputs_of
from marwright.training.types import NOTHING, Meta, Opened, Splits
from tests.archive.tiny import LABELS, ROOT, answers_report, parity_report

# How closely golden outputs must be met.
ATOL, RTOL = 1e-5, 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A model on its way: checkpoint (in eval mode), traced module, golden samples, archive."""

    recipe: Recipe
    splits: Splits
    model: nn.Module
    meta: Meta
    traced: Path
    golden: dict[str, bytes]
    mar: Path

    def test_inputs(self) -> np.ndarray:
        """The test split as the model gets it, float32 `(N, …)`."""
        return inputs_of(self.splits.samples, self.splits.test, self.meta.spec).numpy()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: the same bits each time, and two are slow on tiny work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def image_samples(count: int = 240) -> ImageSamples:
    """Grey 8×8 images, bright at the left, at the right or at the top, under much noise."""
    chance = np.random.default_rng(0)
    images = chance.integers(0, 120, (count, 8, 8))
    targets = np.arange(count) % len(LABELS)
    for image, target in zip(images, targets, strict=True):
        (image[:, :4], image[:, 4:], image[:4])[target][...] += 60
    return ImageSamples(
        images=list(images.astype(np.uint8)), targets=targets.astype(np.int64), labels=LABELS
    )


def table_samples(count: int = 120) -> TableSamples:
    """Three columns of very different size, and a target that depends on them."""
    chance = np.random.default_rng(0)
    rows = chance.normal(size=(count, 3)) * [1.0, 40.0, 0.01] + [0.0, 100.0, 0.5]
    targets = 150 + 30 * rows[:, 0] + 0.5 * rows[:, 1] + chance.normal(size=count)
    return TableSamples(rows=rows, targets=targets, columns=("a", "b", "c"), target="y")


@one_thread()
def prove(recipe: Recipe, samples: Samples, folder: Path) -> Proven:
    """Walk a recipe from samples to an archive; the gate is held by its own tests."""
    # Gates are tried on it, and a moment of training may reach nothing.
    fit = msgspec.structs.replace(recipe.fit, minimum_metric="any")
    recipe = msgspec.structs.replace(recipe, fit=fit)
    splits = split(samples, validation=0.2, test=0.2, salt="")
    spec = fit_preprocess(recipe, splits)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_model(recipe, Path(), spec.shape, outputs_of(splits))
        opened = Opened(splits=splits, faults=(), duplicates=duplicates(splits), learned=NOTHING)
        ready = Ready(network=network, opened=opened, spec=spec, start=None)
        checkpoint = learn(ready, recipe, Path(), folder)
    model = load_checkpoint(recipe, Path(), checkpoint)
    traced = trace(model, spec.shape, folder, dtype=spec.dtype)
    golden = golden_members(
        model,
        checkpoint.meta,
        splits,
        recipe,
        Path(),
        handler_options(recipe),
        traced=traced,
        atol=ATOL,
        rtol=RTOL,
    )
    mar = folder / f"{recipe.name}.mar"
    pack_proven(
        recipe, traced, parity_report(), answers_report(), checkpoint.meta, golden,
        root=ROOT, target=mar,
    )  # fmt: skip
    return Proven(
        recipe=recipe,
        splits=splits,
        model=model,
        meta=checkpoint.meta,
        traced=traced,
        golden=golden,
        mar=mar,
    )
