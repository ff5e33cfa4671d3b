"""The data card of a model: what it was trained on, in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from marwright.training.record import DataCard

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe
    from marwright.training.types import Opened


def data_card(opened: Opened, recipe: Recipe) -> DataCard:
    """Count the samples of each split: by label, or the range of the target."""
    splits, samples = opened.splits, opened.splits.samples
    counts: dict[str, list[int]] = {}
    target: dict[str, tuple[float, float, float]] = {}
    for name, indices in splits.named().items():
        targets = samples.targets[indices]
        if samples.labels:
            counts[name] = np.bincount(targets, minlength=len(samples.labels)).tolist()
        else:
            counts[name] = [len(indices)]
            target[name] = (float(targets.min()), float(targets.mean()), float(targets.max()))
    return DataCard(
        dataset=recipe.data.dataset,
        labels=list(samples.labels),
        counts=counts,
        target=target,
        faults=list(opened.faults),
        duplicates=opened.duplicates,
    )
