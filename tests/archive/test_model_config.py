"""`model-config.yaml` of a recipe: what the server takes from it is what was declared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from marwright.archive.model_config import handler_options, model_config
from marwright.recipe.load import load_recipe
from marwright.recipe.types import Recipe
from tests.archive.tiny import ROOT, image_recipe, table_recipe

SHIPPED = [load_recipe(path) for path in sorted((ROOT / "archive").glob("*.toml"))]
RECIPES = [image_recipe(), table_recipe(), *SHIPPED]
EVERY_RECIPE = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)

# TorchServe's own names for them (its ModelConfig.java), all whole numbers.
SETTINGS = {
    "minWorkers": "min_workers",
    "maxWorkers": "max_workers",
    "batchSize": "batch_size",
    "maxBatchDelay": "max_batch_delay_ms",
    "responseTimeout": "response_timeout_s",
    "startupTimeout": "startup_timeout_s",
    "maxRetryTimeoutInSec": "max_retry_timeout_s",
}


def read(config: bytes) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(config)
    return values


@EVERY_RECIPE
def test_every_setting_is_written_as_a_positive_whole_number(recipe: Recipe) -> None:
    """Text, zero and a missing timeout all become another value at the server, silently."""
    config = read(model_config(recipe))
    assert set(config) == {*SETTINGS, "handler"}
    for key in SETTINGS:
        assert type(config[key]) is int, key
        assert config[key] > 0, key


def test_settings_are_those_of_the_recipe() -> None:
    serve = {
        "min_workers": 2, "max_workers": 3, "batch_size": 5, "max_batch_delay_ms": 7,
        "response_timeout_s": 11, "startup_timeout_s": 13, "max_retry_timeout_s": 17, "threads": 19,
    }  # fmt: skip
    config = read(model_config(image_recipe(serve=serve)))
    assert {key: config[key] for key in SETTINGS} == {k: serve[v] for k, v in SETTINGS.items()}
    assert config["handler"] == {"threads": 19, "top_k": 2}


def test_handler_options_are_those_of_the_task() -> None:
    assert handler_options(image_recipe(postprocess={"top_k": 4})) == {"threads": 1, "top_k": 4}
    assert handler_options(table_recipe(postprocess={"decimals": 0})) == {
        "threads": 1,
        "decimals": 0,
    }


def test_torchserve_reads_what_was_written(tmp_path: Path) -> None:
    for recipe in RECIPES:
        (tmp_path / recipe.name).write_bytes(model_config(recipe))
    # In a process of its own, because importing TorchServe leaves a file open.
    code = (
        "import json, sys; from pathlib import Path; from ts.utils.util import get_yaml_config\n"
        "files = Path(sys.argv[1]).iterdir()\n"
        "print(json.dumps({file.name: get_yaml_config(str(file)) for file in files}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    expected = {recipe.name: read(model_config(recipe)) for recipe in RECIPES}
    assert json.loads(done.stdout) == expected


def test_bytes_depend_on_the_recipe_only() -> None:
    assert model_config(image_recipe()) == model_config(image_recipe())
    assert model_config(image_recipe()) != model_config(image_recipe(serve={"batch_size": 9}))
