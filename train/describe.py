"""A network as its recipe trains it: layers, sizes, what trains from when, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from train.stages import Stage, rate_of, stages_of, training_stages

if TYPE_CHECKING:
    from recipes.types import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer: its name, its kind, the shape of its output for one sample, its parameters."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A stage with its layers. `rate` is its learning rate at full height; `since` is the epoch
    from which it trains, None where it never does.
    """

    name: str
    layers: tuple[Layer, ...]
    parameters: int
    rate: float
    since: int | None


def describe(network: nn.Module, recipe: Recipe, example: torch.Tensor) -> list[Described]:
    """Return the stages of a network from its inputs to its head. `example` is one input."""
    stages = stages_of(network)
    layers = _layers(network, example)
    place_of = {name: place for place, stage in enumerate(stages) for name in stage.parameters}
    by_stage: list[list[Layer]] = [[] for _ in stages]
    current = 0
    for layer, own in layers:
        # What has no parameters belongs to what stands before it.
        current = place_of.get(own[0], current) if own else current
        by_stage[current].append(layer)
    return [
        Described(
            name=stage.name,
            layers=tuple(by_stage[place]),
            parameters=stage.size,
            rate=recipe.fit.learning_rate * rate_of(recipe.transfer, len(stages), place),
            since=_since(recipe, stages, place),
        )
        for place, stage in enumerate(stages)
    ]


def _since(recipe: Recipe, stages: list[Stage], place: int) -> int | None:
    needed = len(stages) - place
    epochs = range(1, recipe.fit.epochs + 1)
    counts = ((e, training_stages(recipe.transfer, len(stages), e)) for e in epochs)
    return next((epoch for epoch, count in counts if count >= needed), None)


def _layers(network: nn.Module, example: torch.Tensor) -> list[tuple[Layer, list[str]]]:
    """Return the layers in the order in which they are called, with their parameters' names."""
    found: dict[str, tuple[Layer, list[str]]] = {}

    def watch(name: str, module: nn.Module) -> None:
        own = {f"{name}.{inner}" if name else inner: p for inner, p in module.named_parameters()}

        def note(module: nn.Module, inputs: object, output: object) -> None:
            first = output[0] if isinstance(output, tuple) else output
            shape = tuple(first.shape[1:]) if isinstance(first, torch.Tensor) else ()
            found[name] = (
                Layer(
                    name=name or "(whole)",
                    kind=type(module).__name__,
                    output=shape,
                    parameters=sum(parameter.numel() for parameter in own.values()),
                ),
                [*own],
            )

        hooks.append(module.register_forward_hook(note))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in network.named_modules():
        if not any(module.children()):
            watch(name, module)
    network.eval()
    try:
        with torch.no_grad():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())
