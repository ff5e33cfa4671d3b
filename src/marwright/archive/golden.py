"""Golden samples: held-out requests with the tensors, outputs and answers of the checkpoint.

They travel inside the archive, and `verify` holds what TorchServe's loader makes of the archive
against them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from marwright.archive.answers.worker import Answer, Request, WorkerError, handler_worker
from marwright.archive.golden_check import parsed
from marwright.archive.types import (
    GOLDEN,
    GOLDEN_INDEX,
    GOLDEN_TENSORS,
    GoldenIndex,
    GoldenSample,
    to_json,
)
from marwright.project import load_module, place
from marwright.recipe.entry import entry_in
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
    traced: Path,
    atol: float,
    rtol: float,
) -> dict[str, bytes]:
    """Return the members under `MAR-INF/golden/` by name.

    The tensor is what training's transform makes of the sample; the answer is what the `Service` of
    the recipe's handler makes of the eager model, or its `handle` over the payload, `traced`.
    `atol` and `rtol` say how closely outputs must be met: as the parity gate's limits have it.
    Raises `PackError` for a handler that cannot be loaded, or refuses a held-out sample.
    """
    is_service = entry_in(place(recipe.serve.file, root)).is_service
    tensors: dict[str, torch.Tensor] = {}
    members: dict[str, bytes] = {}
    samples = []
    with ExitStack() as stack:
        if is_service:
            loaded = Loaded(model=model, spec=meta.spec, labels=tuple(meta.labels), options=options)
            send = _to_service(handler_service(recipe, root), loaded)
        else:
            send = stack.enter_context(
                handler_worker(recipe, traced, meta, root, batches=COUNT)
            ).ask
        for number, index in enumerate(_chosen(splits)):
            body, content_type = splits.samples.request(index)
            tensor = inputs_of(splits.samples, np.array([index]), meta.spec)
            where = f"{recipe.serve.file}: sample {index} of the test split"
            try:
                [(status, answer)] = send([(body, content_type)])
            except WorkerError as error:
                raise PackError(f"{where}: the handler fails: {error}") from None
            if status != 200:
                said = answer.decode(errors="replace")
                raise PackError(f"{where}: answered with {status}: {said}")
            with torch.inference_mode():
                tensors[f"output.{number}"] = model(tensor).contiguous()
            tensors[f"input.{number}"] = tensor
            name = f"{GOLDEN}/{number}.request"
            members[name] = body
            samples.append(
                GoldenSample(request=name, content_type=content_type, answer=parsed(answer))
            )
    index_file = GoldenIndex(
        atol=atol, rtol=rtol, entry="service" if is_service else "handle", samples=samples
    )
    return members | {GOLDEN_INDEX: to_json(index_file), GOLDEN_TENSORS: save(tensors)}


def _to_service(service: Service, loaded: Loaded) -> Callable[[Sequence[Request]], list[Answer]]:
    # The handler's own, which may be more than its two functions.
    served = copy.copy(service)
    served.loaded = loaded

    def send(requests: Sequence[Request]) -> list[Answer]:
        answers, statuses = served.answers([{"body": body} for body, _ in requests])
        return [*zip(statuses, answers, strict=True)]

    return send


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
            "(see marwright.runtime.service), or another name for what is no Service"
        )
    return service


def _chosen(splits: Splits) -> list[int]:
    """Return a few test samples, spread over the split."""
    places = np.linspace(0, len(splits.test) - 1, num=min(COUNT, len(splits.test)))
    return [int(splits.test[int(place)]) for place in places]
