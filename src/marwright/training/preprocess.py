"""Complete a recipe's `[preprocess]` by what the training split says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from marwright.recipe.errors import DataError
from marwright.recipe.types import ImagePreprocess, TablePreprocess, TextPreprocess
from marwright.runtime.spec import ImageSpec, PreprocessSpec, TableSpec, TextSpec
from marwright.training.samples import ImageSamples, TableSamples
from marwright.training.tensors import pixels_of

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe
    from marwright.training.types import Splits

# Images that are in memory at once while their pixels are counted.
_BLOCK = 256
_LEVELS = 256


def fit_preprocess(recipe: Recipe, splits: Splits) -> PreprocessSpec:
    """Return the fitted preprocessing. Raises `DataError` for what cannot be scaled."""
    declared, samples = recipe.preprocess, splits.samples
    if isinstance(declared, ImagePreprocess):
        assert isinstance(samples, ImageSamples)
        return _fit_image(declared, samples, splits.train)
    if isinstance(declared, TextPreprocess):
        return TextSpec(max_bytes=declared.max_bytes)
    assert isinstance(declared, TablePreprocess)
    assert isinstance(samples, TableSamples)
    try:
        return _fit_table(declared, samples, splits.train)
    except DataError as error:
        raise DataError(f"{recipe.data.file}: {error}") from None


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
        measured = _pixel_statistics(samples, train, plain)
        # Six digits are plenty, and they read well in preprocess.json.
        mean = [round(v, 6) for v in measured[0]] if mean == "training" else mean
        std = [max(round(v, 6), 1e-3) for v in measured[1]] if std == "training" else std
    return spec(mean, std)


def _pixel_statistics(
    samples: ImageSamples, train: NDArray[np.int64], spec: ImageSpec
) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each channel, on pixels from 0 to 1."""
    # Whole numbers, so that the sums are exact in any order.
    counts = torch.zeros(spec.channels, _LEVELS, dtype=torch.int64)
    for start in range(0, len(train), _BLOCK):
        pixels = pixels_of(samples, train[start : start + _BLOCK], spec)
        counts += torch.stack(
            [torch.bincount(pixels[:, c].flatten(), minlength=_LEVELS) for c in range(len(counts))]
        )
    levels = torch.arange(_LEVELS)
    count = len(train) * spec.height * spec.width
    mean = (counts * levels).sum(dim=1).double() / count
    variance = (counts * levels.square()).sum(dim=1).double() / count - mean.square()
    return (mean / 255).tolist(), (variance.clamp(min=0).sqrt() / 255).tolist()


def _fit_table(
    declared: TablePreprocess, samples: TableSamples, train: NDArray[np.int64]
) -> TableSpec:
    count = len(samples.columns)
    categories = samples.categories or ((),) * count
    numbers = [place for place in range(count) if not categories[place]]
    rows, columns = samples.rows[train][:, numbers], [samples.columns[p] for p in numbers]
    if unknown := _chosen(columns, np.all(np.isnan(rows), axis=0)):
        raise DataError(
            f"no value in the training split: {unknown}; leave them out of the data set"
        )
    fill, center, scale = np.zeros(count), np.zeros(count), np.ones(count)
    with np.errstate(all="ignore"):
        fill[numbers] = np.nanmedian(rows, axis=0)
        if declared.scale != "none" and numbers:
            if constant := _chosen(columns, _is_constant(rows)):
                raise DataError(
                    f"one value only in the training split: {constant}; leave them out of the "
                    "data set"
                )
            center[numbers], scale[numbers] = _location(rows, columns, declared.scale)
    mean, std = _target_location(declared, samples, train)
    return TableSpec(
        columns=samples.columns,
        categories=categories,
        optional=samples.optional or (False,) * count,
        fill=tuple(fill.tolist()),
        center=tuple(center.tolist()),
        scale=tuple(scale.tolist()),
        target=samples.target,
        target_mean=mean,
        target_std=std,
    )


def _target_location(
    declared: TablePreprocess, samples: TableSamples, train: NDArray[np.int64]
) -> tuple[float, float]:
    """Return what the target is scaled by: 0 and 1 where it stays as it is."""
    if declared.scale_target == "none" or samples.labels:
        return 0.0, 1.0
    targets = samples.targets[train].astype(np.float64)[:, None]
    if _is_constant(targets).all():
        raise DataError(
            f"the target {samples.target} has one value only in the training split: there is "
            "nothing to learn"
        )
    with np.errstate(all="ignore"):
        (mean,), (std,) = _location(targets, [samples.target], declared.scale_target)
    return float(mean), float(std)


def _location(
    rows: NDArray[np.float64], columns: Sequence[str], scale: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the middle and the width of each column, as they are declared to be measured."""
    middle, width = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
    if scale == "robust":
        low, middle, high = np.nanquantile(rows, (0.25, 0.5, 0.75), axis=0)
        # Where half of the values are the same, the quartiles say nothing of the others.
        width = np.where(high > low, high - low, width)
    # Squares of 1e200 are infinite, and those of 1e-200 zero.
    if extreme := _chosen(columns, ~(np.isfinite(middle) & np.isfinite(width) & (width > 0))):
        raise DataError(f"too large or too small to be scaled: {extreme}; use other units")
    return middle, width


def _is_constant(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each column has one value only; rounding gives such a column a deviation."""
    constant: NDArray[np.bool_] = np.nanmin(rows, axis=0) == np.nanmax(rows, axis=0)
    return constant


def _chosen(columns: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return ", ".join(column for column, is_chosen in zip(columns, chosen, strict=True) if is_chosen)
