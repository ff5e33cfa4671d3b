"""From a recipe to tensors: open the data set, fit the preprocessing, apply it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from handlers.preprocess import image_tensor, table_tensor
from handlers.spec import ImageSpec, PreprocessSpec, TableSpec
from recipes.errors import DataError
from train.splits import split
from train.types import ImageSamples, Samples, Splits, TableSamples

if TYPE_CHECKING:
    from recipes.types import ImagePreprocess, Recipe, TablePreprocess
    from train.types import Meta

_PROJECT = Path(__file__).resolve().parent.parent


def open_dataset(recipe: Recipe) -> Splits:
    """Load the recipe's data set and split it. Raises `DataError` when it does not fit."""
    module = importlib.import_module(f"train.datasets.{recipe.data.dataset}")
    try:
        samples: Samples = module.load(*(_PROJECT / file for file in recipe.data.files))
    # Whatever a person's own code raises, it is about the data, and this says whose it is.
    except Exception as error:
        raise DataError(
            f"train/datasets/{recipe.data.dataset}.py: load() failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    wanted = ImageSamples if recipe.preprocess.__struct_config__.tag == "image" else TableSamples
    if not isinstance(samples, wanted):
        raise DataError(
            f"recipes/{recipe.name}.toml: [preprocess] kind: the data set "
            f"{recipe.data.dataset!r} holds {type(samples).__name__}, not {wanted.__name__}"
        )
    if problem := _problem(samples):
        raise DataError(f"train/datasets/{recipe.data.dataset}.py: {problem}")
    return split(
        samples,
        validation=recipe.data.validation,
        test=recipe.data.test,
        salt=recipe.data.split_salt,
    )


def open_trained_dataset(recipe: Recipe, meta: Meta) -> Splits:
    """Open the data set that a checkpoint was trained on. Raises `DataError` if it is another."""
    splits = open_dataset(recipe)
    if changed := [
        name for name, digest in splits.digests().items() if digest != meta.splits[name]
    ]:
        raise DataError(
            f"train/datasets/{recipe.data.dataset}.py: the {', '.join(changed)} split is not the "
            "one that the weights were trained with; name what it reads in [data] files, so that "
            "a change trains anew"
        )
    return splits


def _problem(samples: Samples) -> str:
    """Say what a data set's author got wrong; training would only say that it failed."""
    count, targets = len(samples), samples.targets
    if isinstance(samples, ImageSamples):
        if len(samples.images) != count:
            return f"{len(samples.images)} images, but {count} targets"
        if len(samples.labels) < 2 or len(set(samples.labels)) < len(samples.labels):
            return "needs two labels or more, each of them once"
        if count and not 0 <= targets.min() <= targets.max() < len(samples.labels):
            return f"a target is no index of its {len(samples.labels)} labels"
    else:
        if samples.rows.shape != (count, len(samples.columns)):
            return (
                f"rows of shape {samples.rows.shape}, but {count} targets and "
                f"{len(samples.columns)} columns"
            )
        if not (np.isfinite(samples.rows).all() and np.isfinite(targets).all()):
            return "NaN or infinite values in its rows or targets"
    return ""


def fit_preprocess(recipe: Recipe, splits: Splits) -> PreprocessSpec:
    """Complete `[preprocess]` by what the training split says: means and deviations."""
    declared = recipe.preprocess
    if isinstance(splits.samples, ImageSamples):
        return _fit_image(declared, splits.samples, splits.train)  # type: ignore[arg-type]
    return _fit_table(declared, splits.samples, splits.train)  # type: ignore[arg-type]


def _fit_image(
    declared: ImagePreprocess, samples: ImageSamples, train: NDArray[np.int64]
) -> ImageSpec:
    def spec(mean: list[float], std: list[float]) -> ImageSpec:
        return ImageSpec(
            channels=declared.channels,
            height=declared.height,
            width=declared.width,
            fit=declared.fit,
            interpolation=declared.interpolation,
            mean=tuple(mean),
            std=tuple(std),
        )

    mean, std = declared.mean, declared.std
    if mean == "training" or std == "training":
        plain = spec([0.0] * declared.channels, [1.0] * declared.channels)
        pixels = inputs_of(samples, train, plain).double()
        measured = pixels.mean(dim=(0, 2, 3)), pixels.std(dim=(0, 2, 3), correction=0)
        # Six digits are plenty, and they read well in preprocess.json.
        mean = [round(v, 6) for v in measured[0].tolist()] if mean == "training" else mean
        std = [max(round(v, 6), 1e-3) for v in measured[1].tolist()] if std == "training" else std
    return spec(mean, std)


def _fit_table(
    declared: TablePreprocess, samples: TableSamples, train: NDArray[np.int64]
) -> TableSpec:
    rows, targets = samples.rows[train], samples.targets[train]
    count = rows.shape[1]
    std = rows.std(axis=0)
    # Not `std == 0`: the deviation of a hundred times 0.1 is 1e-17, and dividing by that is worse.
    varies = np.ptp(rows, axis=0) > 0
    constant = [c for c, v in zip(samples.columns, varies, strict=True) if not v]
    scale, target_scale = declared.standardise, declared.standardise_target
    if scale and constant:
        raise DataError(
            f"columns with one value only in the training split: {', '.join(constant)}; "
            "leave them out of the data set"
        )
    if target_scale and np.ptp(targets) == 0:
        raise DataError(f"{samples.target} has one value only in the training split")
    return TableSpec(
        columns=samples.columns,
        mean=tuple(rows.mean(axis=0).tolist()) if scale else (0.0,) * count,
        std=tuple(std.tolist()) if scale else (1.0,) * count,
        target=samples.target,
        target_mean=float(targets.mean()) if target_scale else 0.0,
        target_std=float(targets.std()) if target_scale else 1.0,
    )


def inputs_of(samples: Samples, indices: NDArray[np.int64], spec: PreprocessSpec) -> torch.Tensor:
    """Return the evaluation transform of the chosen samples: float32 `(N, …)`.

    It is the handler's own code, so what a model is trained on is what it is served.
    """
    if isinstance(samples, ImageSamples):
        assert isinstance(spec, ImageSpec)
        images = (Image.fromarray(samples.images[i]) for i in indices)
        return torch.stack([image_tensor(image, spec) for image in images])
    assert isinstance(spec, TableSpec)
    return table_tensor(samples.rows[indices], spec)


def targets_of(samples: Samples, indices: NDArray[np.int64], spec: PreprocessSpec) -> torch.Tensor:
    """Return what the loss compares with: int64 `(N,)` labels, or float32 `(N, 1)` values."""
    if isinstance(samples, ImageSamples):
        return torch.from_numpy(samples.targets[indices])
    assert isinstance(spec, TableSpec)
    scaled = (samples.targets[indices] - spec.target_mean) / spec.target_std
    return torch.from_numpy(scaled.astype(np.float32))[:, None]
