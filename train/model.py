"""From a recipe to a network: `train/models/<factory>.py` builds it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from torch import nn

from recipes.errors import RecipeError

if TYPE_CHECKING:
    from recipes.types import Recipe


def build_model(recipe: Recipe, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return an untrained network from `(N, *shape)` to `(N, outputs)`.

    Raises `RecipeError` when the factory refuses its `[model.params]`.
    """
    factory = recipe.model.factory
    module = importlib.import_module(f"train.models.{factory}")
    try:
        network = module.build(shape, outputs, **recipe.model.params)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"recipes/{recipe.name}.toml: [model.params]: train/models/{factory}.py refuses "
            f"{recipe.model.params}: {error}"
        ) from error
    assert isinstance(network, nn.Module), f"{factory}.build returned {type(network)}"
    return network
