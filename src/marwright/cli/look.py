"""`summary` and `lr-find`: what a recipe would train, looked at before it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Literal

from marwright.pipeline.build import build
from marwright.pipeline.run_step import step_environment
from marwright.pipeline.status import parent_of
from marwright.pipeline.steps.train import STEP as TRAIN
from marwright.recipe.errors import UsageError
from marwright.recipe.types import canonical

if TYPE_CHECKING:
    from pathlib import Path

    from marwright.pipeline.layout import Layout
    from marwright.recipe.types import Recipe
    from marwright.training.types import Checkpoint


def look(
    verb: Literal["summary", "lr-find"], recipes: dict[str, Recipe], layout: Layout, *, debug: bool
) -> int:
    """Look at each model in a process of its own; returns the first exit code that is not 0.

    Raises `UsageError` where learning rates are to be found for what a script trains.
    """
    if verb == "lr-find":
        for name, recipe in recipes.items():
            if recipe.train is not None:
                raise UsageError(
                    f"archive/{name}.toml: lr-find is of [fit], and {recipe.train.script} trains "
                    f"this model: name others with --model"
                )
    code = 0
    for recipe in recipes.values():
        files = _parent_files(recipe, layout)
        task = {
            "verb": verb,
            "root": str(layout.root),
            "recipe": canonical(recipe),
            "parent": None if files is None else {key: str(file) for key, file in files.items()},
            "debug": debug,
        }
        sys.stdout.flush()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "marwright.cli.look_child"],
            cwd=layout.root, env={**os.environ, **step_environment(recipe.training.threads)},
            input=json.dumps(task) + "\n", text=True, check=False,
        )  # fmt: skip
        code = code or done.returncode
    return code


def parent_checkpoint(recipe: Recipe, layout: Layout) -> Checkpoint | None:
    """Return the checkpoint that a recipe starts from, if it starts from another recipe's.

    That is trained first where it is stale. Raises its error where that fails.
    """
    from marwright.training.types import Checkpoint, read_meta

    if (files := _parent_files(recipe, layout)) is None:
        return None
    return Checkpoint(
        weights=files["weights"], meta=read_meta(files["meta"]), learned=files["learned"]
    )


def _parent_files(recipe: Recipe, layout: Layout) -> dict[str, Path] | None:
    if recipe.model.parent is None:
        return None
    parent = parent_of(recipe, layout)
    for outcome in build({parent.name: parent}, (TRAIN,), layout):
        if outcome.error is not None:
            raise outcome.error
    folder = layout.folder(parent.name)
    return {
        "weights": folder / "weights.safetensors",
        "meta": folder / "meta.json",
        "learned": folder / "learned.safetensors",
    }
