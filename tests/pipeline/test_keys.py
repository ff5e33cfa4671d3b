"""What is in a training's key, and what is not: an edit of the rest trains nothing anew."""

from __future__ import annotations

from typing import Any

import pytest

from marwright.pipeline.keys import KeyMaker
from marwright.pipeline.layout import Layout
from marwright.pipeline.steps.train import STEP as TRAIN
from marwright.recipe.load import load_recipe
from marwright.recipe.types import varied
from tests.projects import ROOT


def sources(model: str, **settings: Any) -> set[str]:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    recipe = varied(load_recipe(ROOT / "archive" / f"{model}.toml"), named)
    parts = KeyMaker(Layout(root=ROOT)).parts(TRAIN, recipe, {})
    of_source = "source marwright/"
    return {name.removeprefix(of_source) for name in parts if name.startswith(of_source)}


@pytest.mark.parametrize(
    ("model", "dataset"),
    [("digits_source", "digits"), ("wine_imbalanced", "csv"), ("languages", "text_csv")],
)
def test_reading_recipes_and_what_only_tells_is_in_no_key(model: str, dataset: str) -> None:
    found = sources(model, data__dataset=dataset)
    assert {
        "training/loop/run.py",
        f"training/datasets/{dataset}.py",
        "runtime/preprocess.py",
    } <= found
    assert not found & {
        "recipe/load.py", "recipe/files.py", "recipe/explain.py", "training/board.py",
        "export/trace.py", "training/study.py", "pipeline/build.py", "runtime/service.py",
    }  # fmt: skip


def test_processes_are_started_by_code_that_counts_where_there_are_several() -> None:
    several = {"pipeline/torchrun.py", "pipeline/worker.py"}
    assert not sources("digits_source") & several
    assert sources("digits_source", fit__processes=2) >= several
