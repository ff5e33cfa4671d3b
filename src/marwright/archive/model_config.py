"""`model-config.yaml` of a recipe's archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from marwright.recipe.types import Param, Recipe


def model_config(recipe: Recipe) -> bytes:
    """Return `model-config.yaml` from `[serve]` and `[postprocess]`.

    Every timeout is written: the mere presence of the file resets those that it leaves out to
    120 s. `handler` is what our handlers read; TorchServe ignores it.
    """
    serve = recipe.serve
    values = {
        "minWorkers": serve.min_workers,
        "maxWorkers": serve.max_workers,
        "batchSize": serve.batch_size,
        "maxBatchDelay": serve.max_batch_delay_ms,
        "responseTimeout": serve.response_timeout_s,
        "startupTimeout": serve.startup_timeout_s,
        "maxRetryTimeoutInSec": serve.max_retry_timeout_s,
        "handler": handler_options(recipe),
    }
    return yaml.safe_dump(values, sort_keys=False).encode()


def handler_options(recipe: Recipe) -> dict[str, Param]:
    """Return what the recipe's handler reads from `model-config.yaml` under `handler`."""
    own = recipe.postprocess
    form = {"top_k": own.top_k} if recipe.task == "classification" else {"decimals": own.decimals}
    return {"threads": recipe.serve.threads, **form, **own.params}
