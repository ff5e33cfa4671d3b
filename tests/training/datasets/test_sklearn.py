"""scikit-learn's bundled sets, as a recipe names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from marwright.recipe.types import varied
from marwright.training.data import open_dataset
from marwright.training.samples import TableSamples
from tests.training.conftest import table_recipe

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("dataset", "shape", "labels", "copies"),
    [
        ("iris", (150, 4), ("setosa", "versicolor", "virginica"), 1),
        ("breast_cancer", (569, 30), ("malignant", "benign"), 0),
    ],
)
def test_it_is_opened(
    dataset: str, shape: tuple[int, int], labels: tuple[str, ...], copies: int
) -> None:
    recipe = varied(table_recipe(), {"task": "classification", "data.dataset": dataset})
    found = open_dataset(recipe, Path())
    samples = found.splits.samples
    assert isinstance(samples, TableSamples)
    assert (samples.rows.shape, samples.labels) == (shape, labels)
    assert len({*samples.columns}) == shape[1] and not any(" " in c for c in samples.columns)
    assert (found.duplicates.exact, found.duplicates.leaked, found.faults) == (copies, 0, ())
