"""The weights that a model starts from: torchvision's, a file's, or those of another recipe."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import torch
from safetensors.torch import load_file
from torch import nn

from handlers.spec import TableSpec, spec_to_dict
from recipes.errors import TrainError
from train.model import fill
from train.record import Start
from train.stages import stages_of

if TYPE_CHECKING:
    from handlers.spec import PreprocessSpec
    from recipes.types import Recipe
    from train.types import Checkpoint

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Weights to start from. `answers` are what its outputs stand for, where that is known."""

    name: str
    weights: Tensors
    answers: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def load_start(network: nn.Module, source: Source, answers: Sequence[str]) -> Start:
    """Fill a network with what fits of some weights, and say what did and what did not.

    `answers` are what its own outputs stand for. The head stays random where those of the weights
    are known to stand for something else; where a network of one channel
    takes weights of three, they are added up, as grey is the same in all. Raises `TrainError`
    where nothing fits.
    """
    own = network.state_dict()
    head = stages_of(network)[-1].parameters.keys()
    other_head = source.answers and source.answers != tuple(answers)
    loaded: dict[str, torch.Tensor] = {}
    skipped: dict[str, str] = {}
    notes = list(source.notes)
    for name, value in source.weights.items():
        if name not in own:
            skipped[name] = "not in this network"
        elif name in head and other_head:
            skipped[name] = "the head of other labels"
        elif value.shape == own[name].shape:
            loaded[name] = value
        elif (grey := _grey(value, own[name].shape)) is not None:
            loaded[name] = grey
            notes.append(f"{name}: three channels added up to one")
        else:
            skipped[name] = f"has shape {tuple(value.shape)}, not {tuple(own[name].shape)}"
    # Counters of batches fit everywhere.
    if not loaded.keys() & dict(network.named_parameters()).keys():
        raise TrainError(f"{source.name}: nothing of it fits this network; {_first(skipped)}")
    if not source.answers and head & loaded.keys():
        notes.append("its head was taken: nothing says what it answers")
    fill(network, {**own, **loaded})
    return Start(
        source=source.name,
        digest=_digest(source.weights),
        loaded=sorted(loaded),
        skipped=dict(sorted(skipped.items())),
        initialised=sorted(own.keys() - loaded.keys()),
        notes=notes,
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


def from_file(path: Path, shown: str) -> Source:
    """Read a file of weights: safetensors, or a state dict of torch's, which is not unpickled.

    Raises `TrainError` when it is neither.
    """
    try:
        if path.suffix == ".safetensors":
            return Source(name=shown, weights=load_file(path))
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
    return Source(name=shown, weights=found)


def from_recipe(name: str, checkpoint: Checkpoint, spec: PreprocessSpec) -> Source:
    """Return the weights of another recipe's model."""
    meta, notes = checkpoint.meta, []
    if (its := spec_to_dict(meta.spec)) != (own := spec_to_dict(spec)):
        changed = [key for key in own if own[key] != its.get(key)]
        notes.append(f"its [preprocess] was another: {', '.join(changed)}")
    answers = tuple(meta.labels)
    if not answers and isinstance(meta.spec, TableSpec):
        answers = (meta.spec.target,)
    return Source(
        name=f"recipe {name}",
        weights=load_file(checkpoint.weights),
        answers=answers,
        notes=notes,
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
            f"recipes/{recipe.name}.toml: [model] weights: {architecture} has no {name!r}; it has "
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
