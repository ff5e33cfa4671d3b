"""The weights that a model starts from: torchvision's, a file's, or those of another recipe."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import torch
from safetensors.torch import load_file
from torch import nn

from marwright.recipe.errors import TrainError
from marwright.recipe.labels import plain
from marwright.runtime.spec import PreprocessSpec, TableSpec, spec_to_dict
from marwright.training.carried import (
    head_in_order,
    head_of,
    of_other_inputs,
    outputs_of_head,
    scaled_otherwise,
)
from marwright.training.model import fill
from marwright.training.record import Start
from marwright.training.weights import read_about

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe
    from marwright.training.types import Checkpoint

Tensors = Mapping[str, torch.Tensor]
# Labels that a message names, at most.
_NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Weights to start from.

    `answers` are what its outputs stand for: labels, or a regression's target; None where nothing
    says it, and `said_in` is the recipe and its key where that is what says it. `spec` is what it
    was trained to read, where that is known.
    """

    name: str
    weights: Tensors
    answers: tuple[str, ...] | None = None
    said_in: str = ""
    spec: PreprocessSpec | None = None
    notes: list[str] = field(default_factory=list)


def load_start(
    network: nn.Module,
    source: Source,
    answers: Sequence[str],
    spec: PreprocessSpec | None = None,
) -> Start:
    """Fill a network with what fits of some weights, and say what did and what did not.

    `answers` are what its own outputs stand for, `spec` is what it reads. The head stays random
    where that of the weights stands for something else; labels in another order are put into ours.
    Layers that read other columns stay random too. Where a network of one channel takes weights of
    three, they are added up, as grey is the same in all. Raises `TrainError` where nothing fits,
    where a head would fit of which nothing says what it answers, or where the recipe names more
    or fewer labels than it has outputs.
    """
    _refuse_other_count(network, source, answers, spec)
    own = network.state_dict()
    head = head_of(network)
    other_inputs = of_other_inputs(network, source.name, source.spec, spec)
    other_head, in_order = _head(network, source, answers, spec)
    loaded: dict[str, torch.Tensor] = {}
    skipped: dict[str, str] = {}
    notes = [*source.notes, *_notes_on(source.spec, spec)]
    for name, value in source.weights.items():
        if name not in own:
            skipped[name] = "not in this network"
        elif name in other_inputs:
            skipped[name] = other_inputs[name]
        elif name in head and other_head:
            skipped[name] = other_head
        elif value.shape == own[name].shape:
            loaded[name] = in_order.get(name, value)
        elif (grey := _grey(value, own[name].shape)) is not None:
            loaded[name] = grey
            notes.append(f"{name}: three channels added up to one")
        else:
            skipped[name] = f"has shape {tuple(value.shape)}, not {tuple(own[name].shape)}"
    # Counters of batches fit everywhere.
    if not loaded.keys() & dict(network.named_parameters()).keys():
        raise TrainError(f"{source.name}: nothing of it fits this network; {_first(skipped)}")
    if source.answers is None and (taken := [name for name in head if name in loaded]):
        raise TrainError(_unknown_head(source.name, taken, answers, spec))
    if in_order:
        notes.append("its head's outputs were put into the order of this recipe's labels")
    fill(network, {**own, **loaded})
    return Start(
        source=source.name,
        digest=_digest(source.weights),
        loaded=sorted(loaded),
        skipped=dict(sorted(skipped.items())),
        initialised=sorted(own.keys() - loaded.keys()),
        notes=notes,
    )


def _refuse_other_count(
    network: nn.Module, source: Source, answers: Sequence[str], spec: PreprocessSpec | None
) -> None:
    """Refuse labels that a recipe names of a head with another number of outputs."""
    if not source.said_in or not source.answers:
        return
    found = outputs_of_head(network, source.weights, len(answers))
    if found is None or found[1] == len(source.answers):
        return
    what = "target" if _is_value(spec, answers) else "label"
    tensor, outputs = found
    raise TrainError(
        f"{source.said_in} says that the head of {source.name} answers "
        f"{_counted(len(source.answers), what)}, and it has {_counted(outputs, 'output')} "
        f'({tensor}): say what each of them stands for, or "other" to leave the head random'
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def _head(
    network: nn.Module, source: Source, answers: Sequence[str], spec: PreprocessSpec | None
) -> tuple[str, dict[str, torch.Tensor]]:
    """Return why a head is not taken, or those of its tensors that had to be put in order."""
    if source.answers is None:
        return "", {}
    # As this recipe's data write them: systems keep accents in two forms.
    own = {plain(label): label for label in answers}
    theirs = tuple(own.get(plain(label), label) for label in source.answers)
    if theirs == tuple(answers):
        return scaled_otherwise(source.spec, spec) if _is_value(spec, answers) else "", {}
    if sorted(theirs) != sorted(answers):
        other = [label for label in theirs if label not in answers]
        return f"the head of other labels{f', as {other[0]}' if other else ''}", {}
    in_order = head_in_order(network, source.weights, theirs, answers)
    return ("the head of the same labels in another order", {}) if in_order is None else (
        "", in_order,
    )  # fmt: skip


def _is_value(spec: PreprocessSpec | None, answers: Sequence[str]) -> bool:
    return isinstance(spec, TableSpec) and tuple(answers) == (spec.target,)


def _notes_on(theirs: PreprocessSpec | None, ours: PreprocessSpec | None) -> list[str]:
    if ours is None:
        return []
    if theirs is None:
        # Of images and texts, shapes and the recipe say what there is to say.
        if not isinstance(ours, TableSpec):
            return []
        return [f"nothing says which columns it reads: taken to be {', '.join(ours.columns)}"]
    own, its = spec_to_dict(ours), spec_to_dict(theirs)
    changed = [key for key in own if own[key] != its.get(key)]
    return [f"its [preprocess] was another: {', '.join(changed)}"] if changed else []


def _unknown_head(
    name: str, taken: Sequence[str], answers: Sequence[str], spec: PreprocessSpec | None
) -> str:
    tensors, other = ", ".join(taken), 'to "other" to leave the head random'
    if isinstance(spec, TableSpec) and _is_value(spec, answers):
        return (
            f"{name}: nothing says what its head ({tensors}) answers, nor how that is scaled: set "
            f'[model] init_labels to "same" where it is {spec.target}, less {spec.target_mean:.6g} '
            f"and divided by {spec.target_std:.6g}, or {other}"
        )
    return (
        f"{name}: nothing says which labels its head ({tensors}) tells apart, and here they are "
        f"{', '.join(answers[:_NAMED])}{', …' * (len(answers) > _NAMED)}: set [model] init_labels "
        "to its labels in the order of its outputs (a list, or a file as index_to_name.json), to "
        f'"same" where they are [data] labels in that order, or {other}'
    )


def _digest(weights: Tensors) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _grey(value: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    if value.ndim == 4 and value.shape[1] == 3 and shape == (len(value), 1, *value.shape[2:]):
        return value.sum(dim=1, keepdim=True)
    return None


def _first(skipped: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in [*skipped.items()][:3])


def from_file(
    path: Path,
    shown: str,
    says: str | Sequence[str] = "",
    answers: Sequence[str] = (),
    said_in: str = "[model] init_labels",
) -> Source:
    """Read a file of weights: safetensors, or a state dict of torch's, which is not unpickled.

    `says` is `[model] init_labels`, read if it is a file, and `said_in` is what a message calls it;
    `answers` are what "same" stands for.
    Raises `TrainError` when it is no such file, or says otherwise itself.
    """
    own: dict[str, Any] = {}
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
            own = read_about(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    # Bytes that are something else can make both of them raise anything.
    except Exception as error:
        raise TrainError(f"{shown}: no weights can be read from it: {error}") from error
    # What training scripts write is often a state dict among other things.
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise TrainError(f"{shown}: holds no state dict (names of tensors, and tensors)")
    theirs, told = own.get("answers"), _told(says, answers)
    if theirs is not None and told and [*map(plain, told)] != [*map(plain, theirs)]:
        raise TrainError(
            f"{shown}: says itself that its head answers {', '.join(theirs)}, in this order, and "
            f"{said_in} says {', '.join(told)}: remove that key"
        )
    known = told if told is not None else theirs
    return Source(
        name=shown, weights=found, answers=known, said_in=said_in if told else "",
        spec=own.get("spec"),
    )  # fmt: skip


def _told(says: str | Sequence[str], answers: Sequence[str]) -> tuple[str, ...] | None:
    """Return what a recipe says that a file's head answers; () is something else than ours."""
    if says in ("", "other"):
        return () if says else None
    return tuple(answers) if says == "same" else tuple(says)


def from_recipe(name: str, checkpoint: Checkpoint) -> Source:
    """Return the weights of another recipe's model."""
    meta = checkpoint.meta
    return Source(
        name=f"recipe {name}",
        weights=load_file(checkpoint.weights),
        answers=meta.answers,
        spec=meta.spec,
    )


def from_torchvision(recipe: Recipe, spec: PreprocessSpec) -> Source:
    """Return pretrained weights of torchvision's, downloaded once and held against their digest.

    Raises `TrainError` where there are none of that name, or they cannot be had.
    """
    import torchvision

    architecture = recipe.model.factory.partition("/")[2]
    known = torchvision.models.get_model_weights(architecture)
    name = recipe.model.weights
    if name not in known.__members__:
        raise TrainError(
            f"archive/{recipe.name}.toml: [model] weights: {architecture} has no {name!r}; it has "
            f"{', '.join(known.__members__)}"
        )
    weights = known[name]
    notes = []
    preset = weights.transforms()
    for key in ("mean", "std"):
        expected, given = tuple(preset.__dict__[key]), getattr(spec, key)
        if len(given) == len(expected) and given != expected:
            notes.append(
                f"it was trained with [preprocess] {key} = {list(expected)}, not {list(given)}"
            )
    return Source(
        name=f"torchvision {architecture} {name}",
        weights=_fetched(weights.url),
        answers=tuple(weights.meta.get("categories", ())),
        notes=notes,
    )


def _fetched(url: str) -> Tensors:
    """Return the weights at a URL of torch's, from its cache or from the network."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / Path(urlparse(url).path).name
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        half = file.with_suffix(".part")
        try:
            torch.hub.download_url_to_file(url, str(half))
        except (OSError, HTTPException) as error:
            raise TrainError(
                f"{url} cannot be downloaded ({error}): fetch it on another machine and place it "
                f"at {file}, or set TORCH_HOME to where its hub/checkpoints/ is"
            ) from error
        else:
            half.replace(file)
        finally:
            half.unlink(missing_ok=True)
    # The name of such a file ends with the beginning of its SHA-256.
    if found := re.search(r"-([0-9a-f]{8,})\.", file.name):
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if not digest.startswith(found[1]):
            raise TrainError(
                f"{file} is damaged: its SHA-256 begins with {digest[: len(found[1])]}, not with "
                f"{found[1]}: remove it"
            )
    tensors: Tensors = torch.load(file, map_location="cpu", weights_only=True)
    return tensors
