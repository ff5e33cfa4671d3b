"""How the shipped recipes were chosen: by validation loss, from a grid, the test split unseen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import msgspec

from bench.project import table
from marwright.recipe.load import load_recipe
from marwright.recipe.types import Recipe

TITLE = "The shipped settings, chosen on the validation split"
_SEEDS = range(5)
# The keys under each name are of the section that the part before the dot names.
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "digits": {
        "model.dropout": (0.1, 0.3, 0.5),
        "fit.learning_rate": (1e-3, 3e-3, 1e-2),
        "fit.weight_decay": (0.01, 0.05, 0.2),
    },
    "diabetes": {
        "model.hidden": (8, 16, 32),
        "model.dropout": (0.0, 0.1, 0.3),
        "fit.weight_decay": (0.01, 0.1, 0.5),
    },
}
_SHOWN = 5

Settings = dict[str, Any]


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Train every candidate with every seed; the recipe's own must have the lowest mean loss."""
    ok, parts = True, []
    for model, grid in GRIDS.items():
        path = root / "archive" / f"{model}.toml"
        candidates = candidates_of(grid)
        losses = validation_losses(path, candidates)
        best = candidates[best_of(losses)]
        shipped = settings_of(load_recipe(path), grid)
        ok = ok and shipped == best
        parts.append(_report(model, candidates, losses, shipped))
    return ok, "\n\n".join(parts)


def candidates_of(grid: dict[str, tuple[Any, ...]]) -> list[Settings]:
    """Return every combination of the grid's values, in a fixed order."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def best_of(losses: Sequence[Sequence[float]]) -> int:
    """Return which candidate has the lowest mean loss over the seeds; the first of equals."""
    means = [mean(of_candidate) for of_candidate in losses]
    return means.index(min(means))


def settings_of(recipe: Recipe, grid: dict[str, tuple[Any, ...]]) -> Settings:
    """Return what a recipe says for the keys of a grid."""
    known = {"model": recipe.model.params, "fit": msgspec.structs.asdict(recipe.fit)}
    return {key: known[key.partition(".")[0]][key.partition(".")[2]] for key in grid}


def with_settings(recipe: Recipe, settings: Settings, seed: int) -> Recipe:
    """Return the recipe with other settings and another seed."""
    sections: dict[str, Settings] = {"model": {}, "fit": {"seed": seed}}
    for key, value in settings.items():
        section, _, name = key.partition(".")
        sections[section][name] = value
    replace = msgspec.structs.replace
    model = replace(recipe.model, params={**recipe.model.params, **sections["model"]})
    return replace(recipe, model=model, fit=replace(recipe.fit, **sections["fit"]))


def validation_loss(path: Path, settings: Settings, seed: int) -> float:
    """Train once and return the best validation loss. The test split is not even encoded."""
    from marwright.recipe.paths import root_of
    from marwright.training.checkpoint import outputs_of
    from marwright.training.data import open_dataset
    from marwright.training.fit import fit
    from marwright.training.machine import set_determinism
    from marwright.training.model import build_model
    from marwright.training.preprocess import fit_preprocess
    from marwright.training.run import tensors_of

    recipe = with_settings(load_recipe(path), settings, seed)
    set_determinism(seed, recipe.fit.threads)
    splits = open_dataset(recipe, root_of(path)).splits
    spec = fit_preprocess(recipe, splits)
    training, validation = (
        tensors_of(name, recipe, splits, spec) for name in ("train", "validation")
    )
    model = build_model(recipe, root_of(path), spec.shape, outputs_of(splits))
    return fit(model, training, validation, recipe, lambda *_: None).validation_loss


def validation_losses(path: Path, candidates: Sequence[Settings]) -> list[list[float]]:
    """Train on all cores; returns a row of losses a candidate, one a seed."""
    # A forked torch may hang: its threads do not come along.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        futures = [
            [pool.submit(validation_loss, path, settings, seed) for seed in _SEEDS]
            for settings in candidates
        ]
        return [[future.result() for future in of_candidate] for of_candidate in futures]


def _report(
    model: str, candidates: Sequence[Settings], losses: Sequence[Sequence[float]], shipped: Settings
) -> str:
    order = sorted(range(len(candidates)), key=lambda i: mean(losses[i]))
    rows: list[tuple[object, ...]] = [
        (rank, *candidates[i].values(), f"{mean(losses[i]):.4f}", f"{stdev(losses[i]):.4f}",
         "yes" if candidates[i] == shipped else "")
        for rank, i in enumerate(order, start=1)
        if rank <= _SHOWN or rank == len(order) or candidates[i] == shipped
    ]  # fmt: skip
    names = (key.partition(".")[2] for key in candidates[0])
    header = ("rank", *names, "validation loss, mean", "standard deviation", "shipped")
    text = (
        f"`{model}`: {len(candidates)} candidates, {len(_SEEDS)} training seeds each; the lowest "
        "mean validation loss is what ships. No figure of the test split is computed."
    )
    return f"{text}\n\n{table(header, rows)}"
