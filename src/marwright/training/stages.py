"""A network by depth: its stages, which of them train, and how fast.

A stage is a part of the network that is frozen, thawed and slowed down as one; the last one is the
head, the layer that answers. They are found by size and order, so that no architecture is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

# Of all batch norms; torch exports no public name for it.
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from marwright.recipe.types import Transfer

# Under this name `torch.nn.utils.parametrize` keeps what a layer's weights are computed from.
_COMPUTED = "parametrizations"
_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.LocalResponseNorm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of a network: its own parameters by their names in the whole, and its batch norms.

    Those that are `fixed` never train: the network's author did not want it.
    """

    name: str
    parameters: dict[str, nn.Parameter]
    batch_norms: tuple[nn.Module, ...]
    fixed: frozenset[str]

    @property
    def size(self) -> int:
        """How many numbers its parameters are."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def trainable(self) -> int:
        """How many of them may train."""
        return self.size - sum(self.parameters[name].numel() for name in self.fixed)


def stages_of(network: nn.Module) -> list[Stage]:
    """Return the stages of a network from its inputs to its head.

    A module that holds more than half of all parameters is taken apart, again and again; what is
    left are the stages, in the order in which they were registered. A norm belongs to what stands
    before it, and the last layer is a stage of its own. Without parameters there are none. What
    parametrisations keep is of the layer whose weights they compute.
    """
    if not _size(network):
        return []
    parts = list(_parts("", network, sum(p.numel() for p in network.parameters()) / 2))
    *body, last = parts
    # A weight that two layers share is of the first of them: one step a batch moves it.
    seen: set[int] = set()
    return [_stage(name, modules, seen) for name, modules in _joined([*body, *_head_apart(*last)])]


# A name, and modules by theirs; only what each holds itself counts.
_Part = tuple[str, dict[str, nn.Module]]


def _parts(name: str, module: nn.Module, half: float) -> Iterator[_Part]:
    every = {_under(name, inner): own for inner, own in module.named_modules() if _own(own)}
    children = [
        (child, inner) for child, inner in module.named_children()
        if child != _COMPUTED and _counts(inner)
    ]  # fmt: skip
    if not children or (name and _size(module) <= half):
        yield name, every
        return
    if own := {inner: part for inner, part in every.items() if layer_of(inner) == name}:
        yield name or "own", own
    for child, inner in children:
        yield from _parts(_under(name, child), inner, half)


def _head_apart(name: str, modules: dict[str, nn.Module]) -> Iterator[_Part]:
    head = layer_of([*modules][-1])
    others = {other: module for other, module in modules.items() if layer_of(other) != head}
    if others:
        yield name, others
    yield head, {own: module for own, module in modules.items() if own not in others}


def layer_of(name: str) -> str:
    """Return the name of the layer that a module is of: itself, or what it computes weights for."""
    parts = name.split(".")
    return ".".join(parts[: parts.index(_COMPUTED)]) if _COMPUTED in parts else name


def _joined(parts: Sequence[_Part]) -> list[_Part]:
    joined: list[_Part] = []
    for name, modules in parts:
        if joined and all(isinstance(module, _NORMS) for module in modules.values()):
            joined[-1][1].update(modules)
        else:
            joined.append((name, dict(modules)))
    if len(joined) > 1 and not any(map(_size, joined[0][1].values())):
        # A norm of the inputs, without weights.
        joined[1][1].update(joined.pop(0)[1])
    return joined


def _stage(name: str, modules: dict[str, nn.Module], seen: set[int]) -> Stage:
    parameters = {}
    for place, module in modules.items():
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                parameters[_under(place, own)] = parameter
    return Stage(
        name=name,
        parameters=parameters,
        batch_norms=tuple(m for m in modules.values() if isinstance(m, _BatchNorm)),
        fixed=frozenset(name for name, value in parameters.items() if not value.requires_grad),
    )


def _under(name: str, inner: str) -> str:
    return f"{name}.{inner}" if name and inner else name or inner


def _own(module: nn.Module) -> bool:
    # Statistics move, too, where there are no weights.
    return isinstance(module, _BatchNorm) or bool([*module.parameters(recurse=False)])


def _counts(module: nn.Module) -> bool:
    return any(map(_own, module.modules()))


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def called(network: nn.Module) -> Iterator[list[str]]:
    """Note the names of modules in the order in which they are called within the block."""
    names: list[str] = []

    def note(name: str) -> Callable[[nn.Module, object], None]:
        return lambda *_: names.append(name)

    hooks = [
        module.register_forward_pre_hook(note(name))
        for name, module in network.named_modules()
        # These take no hooks; that they cannot be exported is told where that is tried.
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield names
    finally:
        for hook in hooks:
            hook.remove()


def training_stages(transfer: Transfer, stages: int, epoch: int) -> int:
    """Return how many stages train in an epoch (from 1), counted from the head."""
    if transfer.freeze == "none":
        return stages
    if not transfer.unfreeze_every:
        return 1
    return min(stages, 1 + (epoch - 1) // transfer.unfreeze_every)


def rate_of(transfer: Transfer, stages: int, place: int) -> float:
    """Return the learning rate of the stage at `place`, as a part of the head's."""
    above = stages - 1 - place
    return transfer.layer_decay**above * (transfer.body_rate if above else 1.0)


def set_training(network: nn.Module, stages: Sequence[Stage], count: int, *, frozen: bool) -> None:
    """Put a network into train mode, of which the last `count` stages train.

    Batch norms of the others stay in eval mode, and all of them where they are `frozen`.
    """
    network.train()
    for place, stage in enumerate(stages):
        trains = place >= len(stages) - count
        for name, parameter in stage.parameters.items():
            parameter.requires_grad_(trains and name not in stage.fixed)
        if frozen or not trains:
            for norm in stage.batch_norms:
                norm.eval()
