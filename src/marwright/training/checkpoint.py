"""Checkpoints: weights as safetensors, which cannot run code, and `meta.json` beside them."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from marwright.recipe.errors import TrainError
from marwright.runtime.spec import PreprocessSpec, TableSpec, spec_to_dict
from marwright.training.inference import for_inference
from marwright.training.learned import LEARNED, write_learned
from marwright.training.model import build_model, fill
from marwright.training.types import Checkpoint, Meta, Opened, Splits, read_meta, write_meta
from marwright.training.weights import save_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from marwright.recipe.types import Recipe
    from marwright.training.accepted import Measured
    from marwright.training.fitted import Fitted
    from marwright.training.metrics import Evaluation

WEIGHTS, META = "weights.safetensors", "meta.json"
# The loss of each sample of the test split, in its order.
LOSSES = "losses.safetensors"


def save_checkpoint(
    fitted: Fitted,
    tested: Evaluation,
    measured: Measured,
    spec: PreprocessSpec,
    opened: Opened,
    recipe: Recipe,
    folder: Path,
) -> Checkpoint:
    """Write the weights, the test split's losses and what was learned of, then `meta.json`.

    `measured` are the metrics of the test split, beside those of the baseline.
    """
    splits = opened.splits
    weights = folder / WEIGHTS
    save_weights(fitted.model, weights, answers_of(splits, spec), spec)
    save_file({"test": tested.losses}, folder / LOSSES)
    write_learned(opened.learned, folder / LEARNED)
    meta = Meta(
        task=recipe.task,
        preprocess=spec_to_dict(spec),
        labels=list(splits.samples.labels),
        outputs=outputs_of(splits),
        metrics=measured.metrics,
        baseline=measured.baseline,
        gain=measured.gain,
        test_loss=round(tested.loss, 6),
        validation_loss=round(fitted.validation_loss, 6),
        epochs=len(fitted.epochs),
        best_epoch=fitted.best_epoch,
        seed=recipe.training.seed,
        device=fitted.device,
        splits=splits.digests(),
        split_sizes={name: len(indices) for name, indices in splits.named().items()},
        faults=list(opened.faults),
        versions={name: version(name) for name in ("torch", "numpy")},
    )
    write_meta(meta, folder / META)
    return Checkpoint(weights=weights, meta=meta, losses=folder / LOSSES)


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
        fill(model, load_file(file))
    except (RuntimeError, ValueError, SafetensorError, OSError) as error:
        raise TrainError(f"{file.name}: {error}") from error


def outputs_of(splits: Splits) -> int:
    """Return how many outputs a model of this data has: one a label, or one value."""
    return len(splits.samples.labels) or 1


def answers_of(splits: Splits, spec: PreprocessSpec) -> tuple[str, ...]:
    """Return what a model's outputs stand for: its labels, or the target of a regression."""
    if splits.samples.labels:
        return tuple(splits.samples.labels)
    return (spec.target,) if isinstance(spec, TableSpec) else ()


def open_checkpoint(files: Mapping[str, Path]) -> Checkpoint:
    """Return the checkpoint among a step's files, which are named `WEIGHTS`, `META`, `LOSSES`."""
    return Checkpoint(weights=files[WEIGHTS], meta=read_meta(files[META]), losses=files.get(LOSSES))


def load_checkpoint(recipe: Recipe, root: Path, checkpoint: Checkpoint) -> nn.Module:
    """Rebuild the trained network on the CPU, as `for_inference` prepares it.

    Raises `TrainError` when the weights are not those of this network, and `ExportError` where it
    cannot be prepared.
    """
    model = build_model(recipe, root, checkpoint.meta.spec.shape, checkpoint.meta.outputs)
    load_weights(model, checkpoint.weights)
    return for_inference(model)
