"""Checkpoints: weights as safetensors, which cannot run code, and `meta.json` beside them."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from handlers.spec import PreprocessSpec, spec_to_dict
from recipes.errors import TrainError
from train.model import build_model
from train.types import Checkpoint, ImageSamples, Meta, Splits, read_meta, write_meta

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from recipes.types import Recipe
    from train.fit import Fitted
    from train.metrics import Evaluation

WEIGHTS, META = "weights.safetensors", "meta.json"


def save_checkpoint(
    fitted: Fitted,
    tested: Evaluation,
    spec: PreprocessSpec,
    splits: Splits,
    recipe: Recipe,
    folder: Path,
) -> Checkpoint:
    """Write the weights, then `meta.json`, into a folder.

    Raises `TrainError` when the test split's figures are NaN or infinite.
    """
    for name, value in {"loss": tested.loss, **tested.metrics}.items():
        if not math.isfinite(value):
            raise TrainError(f"{name} on the test split is {value}: look for extreme values in it")
    weights = folder / WEIGHTS
    # Clones, because safetensors takes no two names for one memory, as tied weights have.
    tensors = {k: v.contiguous().clone() for k, v in fitted.model.state_dict().items()}
    save_file(tensors, weights)
    samples = splits.samples
    labels = list(samples.labels) if isinstance(samples, ImageSamples) else []
    meta = Meta(
        task=recipe.task,
        preprocess=spec_to_dict(spec),
        labels=labels,
        outputs=outputs_of(splits),
        metrics={name: round(value, 6) for name, value in tested.metrics.items()},
        validation_loss=round(fitted.validation_loss, 6),
        epochs=fitted.epochs,
        best_epoch=fitted.best_epoch,
        seed=recipe.fit.seed,
        device=fitted.device,
        splits=splits.digests(),
        split_sizes={n: len(getattr(splits, n)) for n in ("train", "validation", "test")},
        versions={name: version(name) for name in ("torch", "numpy")},
    )
    write_meta(meta, folder / META)
    return Checkpoint(weights=weights, meta=meta)


def outputs_of(splits: Splits) -> int:
    """Return how many outputs a model of this data has: one a label, or one value."""
    return len(splits.samples.labels) if isinstance(splits.samples, ImageSamples) else 1


def open_checkpoint(files: Mapping[str, Path]) -> Checkpoint:
    """Return the checkpoint among a step's files, which are named `WEIGHTS` and `META`."""
    return Checkpoint(weights=files[WEIGHTS], meta=read_meta(files[META]))


def load_checkpoint(recipe: Recipe, checkpoint: Checkpoint) -> nn.Module:
    """Rebuild the trained network in eval mode, on the CPU.

    Raises `TrainError` when the weights are not those of this network.
    """
    model = build_model(recipe, checkpoint.meta.spec.shape, checkpoint.meta.outputs)
    try:
        model.load_state_dict(load_file(checkpoint.weights))
    except (RuntimeError, SafetensorError, OSError) as error:
        raise TrainError(f"{checkpoint.weights.name}: {error}") from error
    return model.eval()
