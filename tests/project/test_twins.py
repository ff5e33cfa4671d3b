"""Each training script does what the engine's own loop does of the same network and data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from marwright.recipe.load import load_recipe
from marwright.recipe.types import MAIN_METRIC, Fit, Recipe, canonical
from marwright.training.fitted import Kept
from marwright.training.run import train
from marwright.training.types import Checkpoint, read_meta
from tests.projects import ROOT

pytestmark = [pytest.mark.torch]

# The same of each, as its `[fit]` says it.
TWINS: dict[str, dict[str, Any]] = {
    "diabetes": {
        "fit": {
            "seed": 1, "epochs": 200, "batch_size": 32, "learning_rate": 3e-3, "weight_decay": 0.5,
            "patience": 20,
        },
    },
    "digits": {
        "augment": {"shift": 1},
        "fit": {
            "epochs": 30, "batch_size": 32, "learning_rate": 1e-2, "weight_decay": 0.05,
            "schedule": "one_cycle", "patience": 30, "imbalance": "sampler",
        },
    },
    "digits_transfer": {
        "augment": {"shift": 2},
        "transfer": {"freeze": "body", "unfreeze_every": 6, "layer_decay": 0.7},
        "fit": {
            "epochs": 30, "batch_size": 16, "learning_rate": 2e-3, "weight_decay": 0.05,
            "patience": 10,
        },
    },
}  # fmt: skip
# Of the test metric.
CLOSE = 0.02


def measured(recipe: Recipe, folder: Path, parent: Checkpoint | None) -> Checkpoint:
    out, kept = folder / "out", folder / "kept"
    out.mkdir(parents=True)
    kept.mkdir()
    return train(recipe, ROOT, out, lambda *_: None, parent=parent, kept=Kept(folder=kept))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("digits_source")
    return measured(load_recipe(ROOT / "archive/digits_source.toml"), folder, None)


@pytest.mark.parametrize("name", TWINS)
def test_a_script_agrees_with_its_declared_twin(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    recipe = load_recipe(ROOT / f"archive/{name}.toml")
    values = {key: value for key, value in canonical(recipe).items() if key != "train"}
    twin = msgspec.convert({**values, **TWINS[name]}, Recipe)
    assert recipe.train is not None and twin.fit != Fit()
    parent = request.getfixturevalue("source") if recipe.model.parent else None
    own, declared = (
        measured(one, tmp_path / kind, parent).meta
        for kind, one in (("own", recipe), ("twin", twin))
    )
    assert own.splits == declared.splits
    metric = MAIN_METRIC[recipe.task]
    assert abs(own.metrics[metric] - declared.metrics[metric]) <= CLOSE
    assert read_meta(tmp_path / "own/out/meta.json") == own
