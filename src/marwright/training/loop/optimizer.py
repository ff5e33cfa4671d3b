"""The optimizer of a recipe: each stage at its rate, and no weight decay but on weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from marwright.training.stages import Stage, layer_of, rate_of

if TYPE_CHECKING:
    from marwright.recipe.types import Fit, Recipe


def optimizer_of(stages: Sequence[Stage], recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimizer. Its last group is the head's."""
    groups, fit = [*_groups(stages, recipe)], recipe.fit
    if fit.optimizer == "sgd":
        # Not fused: that takes no group in which some have a momentum and some, just thawed, none.
        return torch.optim.SGD(groups, lr=fit.learning_rate, momentum=fit.momentum)
    kind = torch.optim.AdamW if fit.optimizer == "adamw" else torch.optim.Adam
    # One kernel for all of a group, on CPUs as well: a small network's step takes half the time.
    return kind(groups, lr=fit.learning_rate, fused=True)


def _groups(stages: Sequence[Stage], recipe: Recipe) -> Iterator[dict[str, Any]]:
    fit: Fit = recipe.fit
    by_rate: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for place, stage in enumerate(stages):
        rate = fit.learning_rate * rate_of(recipe.transfer, len(stages), place)
        for name, parameter in stage.parameters.items():
            # Norms and biases are of one axis, but for tables of biases as Swin has them: pulling
            # them to zero is no prior of anything.
            place_of, _, own = name.rpartition(".")
            # What a weight is computed from is no weight: an orthogonal layer keeps signs there,
            # and less than 1 would be a sign of 0.
            is_weight = "bias" not in own and layer_of(place_of) == place_of
            decay = fit.weight_decay if parameter.ndim > 1 and is_weight else 0.0
            by_rate.setdefault((rate, decay), []).append(parameter)
    for (rate, decay), parameters in by_rate.items():
        yield {"params": parameters, "lr": rate, "weight_decay": decay}
