"""What of a network's tensors means the same elsewhere: its head by labels, its inputs by columns.

Shapes say nothing of it: two labels in another order, or two columns, have the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from marwright.recipe.errors import TrainError
from marwright.runtime.spec import PreprocessSpec, TableSpec
from marwright.training.stages import layer_of, stages_of

# Modules whose outputs are the first axis of their tensors.
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ROWS = (*_LAYERS, nn.BatchNorm1d, nn.BatchNorm2d)
# A target's mean and deviation are equal up to rounding.
_CLOSE = 1e-9


def head_of(network: nn.Module) -> list[str]:
    """Return the names of the head's tensors: parameters, and statistics of norms behind it."""
    head = stages_of(network)[-1]
    norms = {name for name, module in network.named_modules() if module in head.batch_norms}
    layers = {layer_of(name.rpartition(".")[0]) for name in head.parameters} | norms
    return [name for name in network.state_dict() if layer_of(name.rpartition(".")[0]) in layers]


def head_in_order(
    network: nn.Module,
    weights: Mapping[str, torch.Tensor],
    theirs: Sequence[str],
    ours: Sequence[str],
) -> dict[str, torch.Tensor] | None:
    """Return a head's tensors with their outputs in our order of the same labels.

    None where that cannot be done: labels that are there twice, or layers of another kind.
    """
    names = [name for name in head_of(network) if name in weights]
    modules = [network.get_submodule(name.rpartition(".")[0]) for name in names]
    if len(set(ours)) < len(ours) or not all(isinstance(module, _ROWS) for module in modules):
        return None
    if not all(weights[name].ndim == 0 or len(weights[name]) == len(ours) for name in names):
        return None
    order = [theirs.index(label) for label in ours]
    return {name: weights[name][order] if weights[name].ndim else weights[name] for name in names}


def outputs_of_head(
    network: nn.Module, weights: Mapping[str, torch.Tensor], outputs: int
) -> tuple[str, int] | None:
    """Return a tensor of the head in some weights, and how many outputs that head has.

    `outputs` are those of the network. None where the tensors do not tell: those of a layer of
    another kind do so only where they are all as the network's.
    """
    own = network.state_dict()
    names = [name for name in head_of(network) if name in weights]
    for name in names:
        theirs, ours = weights[name], own[name]
        in_rows = isinstance(network.get_submodule(name.rpartition(".")[0]), _ROWS)
        if in_rows and theirs.ndim == ours.ndim > 0 and len(ours) == outputs:
            return name, len(theirs)
    all_there = bool(names) and names == head_of(network)
    if all_there and all(weights[name].shape == own[name].shape for name in names):
        return names[0], outputs
    return None


def scaled_otherwise(theirs: PreprocessSpec | None, ours: PreprocessSpec | None) -> str:
    """Say how the target that a regression's head answers is scaled otherwise; "" where alike."""
    if not isinstance(theirs, TableSpec) or not isinstance(ours, TableSpec):
        return ""
    pairs = ((theirs.target_mean, ours.target_mean), (theirs.target_std, ours.target_std))
    if all(abs(one - other) <= _CLOSE * max(abs(one), abs(other)) for one, other in pairs):
        return ""
    return (
        f"the head of a target of mean {theirs.target_mean:.4g} and deviation "
        f"{theirs.target_std:.4g}, which are {ours.target_mean:.4g} and {ours.target_std:.4g} here"
    )


def of_other_inputs(
    network: nn.Module, name: str, theirs: PreprocessSpec | None, ours: PreprocessSpec | None
) -> dict[str, str]:
    """Return the tensors of layers that read other columns, with the reason.

    These are the first layer, and any that takes as many inputs as there are features: a network
    may read them in several places. Raises `TrainError` for another kind of inputs.
    """
    if theirs is None or ours is None:
        return {}
    if theirs.kind != ours.kind:
        raise TrainError(
            f"{name} reads a sample of kind {theirs.kind!r}, and this recipe one of kind "
            f"{ours.kind!r}: start from a model of the same kind"
        )
    if not isinstance(theirs, TableSpec) or not isinstance(ours, TableSpec):
        return {}
    if theirs.features == ours.features:
        return {}
    state, why = network.state_dict(), _other_features(theirs.features, ours.features)
    first = next(iter(dict(network.named_parameters())))
    reading = set()
    for tensor, value in state.items():
        place = tensor.rpartition(".")[0]
        if tensor == first or _may_read(network.get_submodule(place), value, ours):
            reading.add(place)
    return {tensor: why for tensor in state if tensor.rpartition(".")[0] in reading}


def _may_read(module: nn.Module, tensor: torch.Tensor, spec: TableSpec) -> bool:
    """Whether a module with this tensor takes as many inputs as there are features."""
    # The first axis of a layer is that of its outputs; of what we do not know, any may be either.
    axes = tensor.shape[1:] if isinstance(module, _LAYERS) else tensor.shape
    return len(spec.features) in axes


def _other_features(theirs: Sequence[str], ours: Sequence[str]) -> str:
    if sorted(theirs) == sorted(ours):
        return "reads the columns, or their categories, in another order"
    other = [feature for feature in theirs if feature not in ours]
    return f"reads other columns{f', as {other[0]}' if other else ''}"
