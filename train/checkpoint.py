"""Checkpoints: weights as safetensors, which cannot run code, and `meta.json` beside them."""

from __future__ import annotations

import math
from collections import OrderedDict
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

    import numpy as np
    from numpy.typing import NDArray

    from recipes.types import Recipe
    from train.fit import Fitted
    from train.metrics import Evaluation

WEIGHTS, META = "weights.safetensors", "meta.json"
# The loss of each sample of the test split, in its order.
LOSSES = "losses.safetensors"


def save_checkpoint(
    fitted: Fitted,
    tested: Evaluation,
    spec: PreprocessSpec,
    splits: Splits,
    recipe: Recipe,
    folder: Path,
) -> Checkpoint:
    """Write the weights and the test split's losses, then `meta.json`, into a folder.

    Raises `TrainError` when the test split's figures are NaN or infinite.
    """
    for name, value in {"loss": tested.loss, **tested.metrics}.items():
        if not math.isfinite(value):
            raise TrainError(f"{name} on the test split is {value}: look for extreme values in it")
    weights = folder / WEIGHTS
    save_weights(fitted.model, weights)
    save_file({"test": tested.losses}, folder / LOSSES)
    samples = splits.samples
    labels = list(samples.labels) if isinstance(samples, ImageSamples) else []
    meta = Meta(
        task=recipe.task,
        preprocess=spec_to_dict(spec),
        labels=labels,
        outputs=outputs_of(splits),
        metrics={name: round(value, 6) for name, value in tested.metrics.items()},
        test_loss=round(tested.loss, 6),
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
    return Checkpoint(weights=weights, meta=meta, losses=folder / LOSSES)


def save_weights(model: nn.Module, file: Path) -> None:
    """Write a network's parameters and buffers as safetensors."""
    # Clones, because safetensors takes no two names for one memory, as tied weights have.
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, file)


def load_losses(checkpoint: Checkpoint) -> NDArray[np.float32] | None:
    """Return the loss of each sample of the test split `(N,)`, as training had it, if it is there.

    Raises `TrainError` when the file is none of `save_checkpoint`.
    """
    if (file := checkpoint.losses) is None:
        return None
    try:
        losses: NDArray[np.float32] = load_file(file)["test"].numpy()
    except (KeyError, SafetensorError, OSError) as error:
        raise TrainError(f"{file.name}: {error}") from error
    return losses


def load_weights(model: nn.Module, file: Path) -> None:
    """Fill a network with what `save_weights` wrote.

    Raises `TrainError` when the weights are not those of this network.
    """
    try:
        weights = OrderedDict(load_file(file))
        # The versions of its modules, which safetensors does not keep, and some will not guess.
        weights._metadata = getattr(model.state_dict(), "_metadata", None)  # type: ignore[attr-defined]
        model.load_state_dict(weights)
    except (RuntimeError, ValueError, SafetensorError, OSError) as error:
        raise TrainError(f"{file.name}: {error}") from error


def outputs_of(splits: Splits) -> int:
    """Return how many outputs a model of this data has: one a label, or one value."""
    return len(splits.samples.labels) if isinstance(splits.samples, ImageSamples) else 1


def open_checkpoint(files: Mapping[str, Path]) -> Checkpoint:
    """Return the checkpoint among a step's files, which are named `WEIGHTS`, `META`, `LOSSES`."""
    return Checkpoint(weights=files[WEIGHTS], meta=read_meta(files[META]), losses=files.get(LOSSES))


def load_checkpoint(recipe: Recipe, checkpoint: Checkpoint) -> nn.Module:
    """Rebuild the trained network in eval mode, on the CPU.

    Raises `TrainError` when the weights are not those of this network.
    """
    model = build_model(recipe, checkpoint.meta.spec.shape, checkpoint.meta.outputs)
    load_weights(model, checkpoint.weights)
    return model.eval()
