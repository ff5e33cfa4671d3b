"""From a recipe to a network: the module that `[model] factory` names builds it."""

from __future__ import annotations

import traceback
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from marwright.project import load_module
from marwright.recipe.errors import RecipeError
from marwright.recipe.types import TextPreprocess, Transfer
from marwright.runtime.spec import IDS, PADDING, Dtype
from marwright.training.examples import zeros
from marwright.training.places import frames_of, innermost, noting_where_made
from marwright.training.stages import called, stages_of

if TYPE_CHECKING:
    from pathlib import Path

    from marwright.recipe.types import Recipe

# Of the largest output: other kernels for other lengths round otherwise.
_CLOSE = 1e-3
_TEXTS = 16


def build_model(recipe: Recipe, root: Path, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return an untrained network from `(N, *shape)` to `(N, outputs)`.

    Raises `RecipeError` when the factory refuses its `[model.params]`, or when what it built does
    not take such samples.
    """
    model = recipe.model
    where = f"archive/{recipe.name}.toml"
    # A person's own code may raise anything, and so does torchvision's.
    try:
        module = load_module(model.file, root)
    except (Exception, SystemExit) as error:
        raise RecipeError(
            f"{where}: [model] factory: {_place(error, model.file)} cannot be imported: "
            f"{_said(error)}{_elsewhere(error, model.file)}"
        ) from error
    try:
        with noting_where_made():
            network = getattr(module, model.build.function)(shape, outputs, **model.arguments)
    except (Exception, SystemExit) as error:
        raise RecipeError(
            f"{where}: [model.params]: {_place(error, model.file)} refuses {model.arguments} for "
            f"samples of shape {shape}: {_said(error)}{_elsewhere(error, model.file)}"
        ) from error
    return _tried(network, recipe, shape, outputs)


def fill(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Fill a network with all of its tensors, by name. Raises as `load_state_dict` does."""
    whole = OrderedDict(weights)
    # The versions of its modules, which plain tensors do not tell, and some will not guess.
    whole._metadata = getattr(network.state_dict(), "_metadata", None)  # type: ignore[attr-defined]
    network.load_state_dict(whole)


def _place(error: BaseException, file: str) -> str:
    """Return a file of the project with the line of it that failed, if it got so far."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.endswith(f"/{file}")
    ]  # fmt: skip
    return f"{file}, line {lines[-1]}," if lines else file


def _said(error: BaseException) -> str:
    # What is no answer to a value is a fault of the code, and its kind helps to find it.
    plain = isinstance(error, (ValueError, RuntimeError, AssertionError)) and str(error)
    return str(error) if plain else f"{type(error).__name__}: {error}"


def _elsewhere(error: BaseException, file: str) -> str:
    """Return the innermost line of a person's own code where that is in another file."""
    place = innermost(frames_of(error), own_only=True)
    return f" ({place})" if place and not place.startswith(f"{file}:") else ""


def _tried(network: object, recipe: Recipe, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return the network if it takes three samples of nothing much. Raises `RecipeError`."""
    where = f"archive/{recipe.name}.toml: [model] factory: {recipe.model.file}"
    if not isinstance(network, nn.Module):
        raise RecipeError(f"{where} builds no nn.Module but {type(network).__name__}")
    dtype: Dtype = "int64" if isinstance(recipe.preprocess, TextPreprocess) else "float32"
    # Of texts, bytes: one that is all padding is nothing that can come.
    tried = zeros(3, shape, dtype) + (dtype == "int64")
    network.eval()
    try:
        with torch.no_grad(), called(network) as order:
            answer = network(tried)
    except (Exception, SystemExit) as error:
        at = _place(error, recipe.model.file).removeprefix(recipe.model.file)
        raise RecipeError(
            f"{where}{at} does not take samples of shape {shape}: {_said(error)}"
            f"{_elsewhere(error, recipe.model.file)}"
        ) from error
    given = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
    if given != (3, outputs):
        raise RecipeError(f"{where} gives {given} for three samples, not {(3, outputs)}")
    if dtype == "int64":
        _refuse_padding(network, shape, where)
    network.train()
    if next(network.parameters(), None) is None:
        raise RecipeError(f"{where} builds a network without parameters: nothing can be trained")
    if recipe.model.weights or recipe.model.init_from or recipe.transfer != Transfer():
        _refuse_other_order(network, order, where)
    return network


def _refuse_other_order(network: nn.Module, order: Sequence[str], where: str) -> None:
    """Raise `RecipeError` where what is called last is not what was registered last, the head."""
    head = stages_of(network)[-1]
    last = next((name for name in reversed(order) if _own_parameters(network, name)), None)
    if last is not None and not _own_parameters(network, last) & head.parameters.keys():
        raise RecipeError(
            f"{where}: {last} is called last, and {head.name} is registered last and taken for the "
            "head: define layers in __init__ in the order in which they are called"
        )


def _own_parameters(network: nn.Module, name: str) -> set[str]:
    own = network.get_submodule(name).named_parameters(recurse=False)
    return {f"{name}.{parameter}" if name else parameter for parameter, _ in own}


def _refuse_padding(network: nn.Module, shape: tuple[int, ...], where: str) -> None:
    """Raise `RecipeError` for a network to which a text is another one with padding behind it."""
    generator = torch.Generator().manual_seed(0)
    for length in {1, max(1, shape[0] // 2)}:
        # Several, because the maximum of one need not be that of padding.
        texts = torch.randint(PADDING + 1, IDS, (_TEXTS, length), generator=generator)
        with torch.no_grad():
            try:
                alone = network(texts)
            except (Exception, SystemExit) as error:
                raise RecipeError(
                    f"{where} does not take texts that are shorter than {shape[0]} bytes: "
                    f"{_said(error)}"
                ) from error
            behind = network(functional.pad(texts, (0, shape[0] - length), value=PADDING))
        if not torch.allclose(alone, behind, rtol=0, atol=_CLOSE * float(alone.abs().max())):
            raise RecipeError(
                f"{where} answers a text otherwise when padding stands behind it, as it does "
                "beside longer texts of a batch: mask what is made of the zeros, in each mean and "
                "maximum"
            )
