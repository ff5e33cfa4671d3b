"""From a recipe to a network: `train/models/<factory>.py` builds it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import torch
from torch import nn

from recipes.errors import RecipeError

if TYPE_CHECKING:
    from recipes.types import Recipe


def build_model(recipe: Recipe, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return an untrained network from `(N, *shape)` to `(N, outputs)`.

    Raises `RecipeError` when the factory refuses its `[model.params]`, or when what it built does
    not take such samples.
    """
    factory = recipe.model.factory
    module = importlib.import_module(f"train.models.{factory}")
    try:
        network = module.build(shape, outputs, **recipe.model.params)
    except (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError) as error:
        raise RecipeError(
            f"recipes/{recipe.name}.toml: [model.params]: train/models/{factory}.py refuses "
            f"{recipe.model.params}: {error}"
        ) from error
    return _tried(network, recipe, shape, outputs)


def _tried(network: object, recipe: Recipe, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return the network if it takes three samples of zeros. Raises `RecipeError`."""
    where = f"recipes/{recipe.name}.toml: [model] factory: train/models/{recipe.model.factory}.py"
    if not isinstance(network, nn.Module):
        raise RecipeError(f"{where} builds no nn.Module but {type(network).__name__}")
    network.eval()
    try:
        with torch.no_grad():
            answer = network(torch.zeros(3, *shape))
    except (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError) as error:
        raise RecipeError(f"{where} does not take samples of shape {shape}: {error}") from error
    network.train()
    given = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
    if given != (3, outputs):
        raise RecipeError(f"{where} gives {given} for three samples, not {(3, outputs)}")
    return network
