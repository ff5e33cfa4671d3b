"""Golden samples: held-out requests with the tensors, outputs and answers of the checkpoint.

They travel inside the archive, and `verify` holds what TorchServe's loader makes of the archive
against them.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from marwright.archive.types import (
    GOLDEN,
    GOLDEN_INDEX,
    GOLDEN_TENSORS,
    GoldenIndex,
    GoldenSample,
    to_json,
)
from marwright.project import load_module
from marwright.recipe.errors import PackError
from marwright.runtime.service import Loaded, Service
from marwright.training.tensors import inputs_of

if TYPE_CHECKING:
    from pathlib import Path

    from marwright.recipe.types import Recipe
    from marwright.training.types import Meta, Splits

COUNT = 4


def golden_members(
    model: nn.Module,
    meta: Meta,
    splits: Splits,
    recipe: Recipe,
    root: Path,
    options: dict[str, Any],
    *,
    atol: float,
    rtol: float,
) -> dict[str, bytes]:
    """Return the members under `MAR-INF/golden/` by name.

    The tensor is what training's transform makes of the sample; the answer is what the recipe's
    handler makes of the eager model. `atol` and `rtol` say how closely outputs must be met: as the
    parity gate's limits have it. Raises `PackError` for a handler that cannot be loaded, or
    refuses a held-out sample.
    """
    service = handler_service(recipe, root)
    loaded = Loaded(model=model, spec=meta.spec, labels=tuple(meta.labels), options=options)
    served = copy.copy(service)
    served.loaded = loaded
    tensors: dict[str, torch.Tensor] = {}
    members: dict[str, bytes] = {}
    samples = []
    for number, index in enumerate(_chosen(splits)):
        body, content_type = splits.samples.request(index)
        tensor = inputs_of(splits.samples, np.array([index]), meta.spec)
        answers, statuses = served.answers([{"body": body}])
        if statuses[0] != 200:
            raise PackError(
                f"{recipe.serve.file}: sample {index} of the test split: answered "
                f"with {statuses[0]}: {answers[0].decode()}"
            )
        with torch.inference_mode():
            tensors[f"output.{number}"] = model(tensor).contiguous()
        tensors[f"input.{number}"] = tensor
        name = f"{GOLDEN}/{number}.request"
        members[name] = body
        samples.append(
            GoldenSample(request=name, content_type=content_type, answer=json.loads(answers[0]))
        )
    index_file = GoldenIndex(atol=atol, rtol=rtol, samples=samples)
    return members | {GOLDEN_INDEX: to_json(index_file), GOLDEN_TENSORS: save(tensors)}


def handler_service(recipe: Recipe, root: Path) -> Service:
    """Return the `service` of the recipe's handler module. Raises `PackError` without one."""
    file = recipe.serve.file
    try:
        module = load_module(file, root)
    except ImportError as error:
        raise PackError(f"{file}: cannot be imported: {error}") from error
    service = getattr(module, "service", None)
    if not isinstance(service, Service) or not callable(getattr(module, "handle", None)):
        raise PackError(
            f"{file}: needs `service = Service(read=…, answer=…)` and `handle = service.handle` "
            "(see marwright.runtime.service)"
        )
    return service


def _chosen(splits: Splits) -> list[int]:
    """Return a few test samples, spread over the split."""
    places = np.linspace(0, len(splits.test) - 1, num=min(COUNT, len(splits.test)))
    return [int(splits.test[int(place)]) for place in places]
