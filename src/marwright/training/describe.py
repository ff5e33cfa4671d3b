"""A network as its recipe trains it: layers, sizes, what trains from when, and how fast."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import parametrize

from marwright.training.stages import Stage, rate_of, stages_of, training_stages

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe


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
    """Return the layers in the order in which they are called, with their parameters' names.

    A layer has parameters of its own, or nothing inside. One that is never called itself, because
    another one takes its weights, stands behind the one that was registered before it. A parameter
    is of the first layer that has it, and of the layer that it is a parametrisation of.
    """
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    owned: dict[str, list[str]] = {}
    for name in sizes:
        owned.setdefault(_owner(name), []).append(name)
    layers = {
        name: module
        for name, module in network.named_modules()
        if _owner(f"{name}.") == name and (name in owned or not any(_inner(module)))
    }
    outputs = _outputs(network, layers, example)
    order = [*outputs]
    for before, name in itertools.pairwise(["", *layers]):
        if name not in outputs:
            order.insert(order.index(before) + 1 if before in order else 0, name)
    return [
        (
            Layer(
                name=name or "(whole)",
                kind=_kind(layers[name]),
                output=outputs.get(name, ()),
                parameters=sum(sizes[own] for own in owned.get(name, [])),
            ),
            owned.get(name, []),
        )
        for name in order
    ]


def _outputs(
    network: nn.Module, layers: Mapping[str, nn.Module], example: torch.Tensor
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what each layer that is called makes of one sample, in that order."""
    outputs: dict[str, tuple[int, ...]] = {}

    def watch(name: str, layer: nn.Module) -> Iterator[torch.utils.hooks.RemovableHandle]:
        def called(module: nn.Module, inputs: object) -> None:
            outputs.setdefault(name, ())

        def returned(module: nn.Module, inputs: object, output: object) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            outputs[name] = tuple(first.shape[1:]) if isinstance(first, torch.Tensor) else ()

        # What is scripted takes no hooks.
        if isinstance(layer, torch.jit.ScriptModule):
            return
        yield layer.register_forward_pre_hook(called)
        yield layer.register_forward_hook(returned)

    # Attention takes a way around its layers where nothing trains.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    hooks = [hook for name, layer in layers.items() for hook in watch(name, layer)]
    network.eval()
    try:
        with torch.no_grad():
            network(example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()
    return outputs


def _owner(name: str) -> str:
    """Return the layer that a parameter is of: a parametrisation is a part of it."""
    layer = name.rpartition(".")[0]
    before, found, _ = f".{layer}.".partition(".parametrizations.")
    return before.strip(".") if found else layer


def _inner(module: nn.Module) -> Iterator[nn.Module]:
    return (inner for name, inner in module.named_children() if name != "parametrizations")


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, torch.jit.ScriptModule):
        return str(layer.original_name)
    # What is parametrised has a class of its own, made of that of the layer.
    kind = type(layer)
    return kind.__mro__[1].__name__ if parametrize.is_parametrized(layer) else kind.__name__
