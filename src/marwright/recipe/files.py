"""The files that a recipe names: they are there, and fit it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from marwright.project import is_engines, place
from marwright.recipe.errors import RecipeError
from marwright.recipe.labels import file_of, read_labels
from marwright.recipe.modules import STOCK_HANDLERS, check_handler, check_params, function_of
from marwright.recipe.paths import RECIPES, recipe_file, root_of, shown
from marwright.recipe.regular import MOST_TEXT, read_regular
from marwright.recipe.suggest import suggestion
from marwright.recipe.types import INIT_LABELS, Recipe, Task

_INIT = "[model] init_from"
_LABELS = ("[data] labels", "[model] init_labels")
# What the project's own handlers read, and answer.
_OWN_HANDLERS: dict[str, tuple[str, Task]] = {
    "classify_image": ("image", "classification"),
    "classify_table": ("table", "classification"),
    "classify_text": ("text", "classification"),
    "predict_table": ("table", "regression"),
}


def check_files(recipe: Recipe, path: Path) -> None:
    """Refuse what a recipe names and is not there, or does not fit it: raises `RecipeError`."""
    root = root_of(path)
    handler = PurePosixPath(recipe.serve.file).stem
    if handler in STOCK_HANDLERS:
        raise RecipeError(
            f"{shown(path)}: [serve] handler: {handler!r} is a name of TorchServe's own; if ours "
            "fails to import, the server silently uses that one: rename the file"
        )
    for key, file in _named_files(recipe):
        if file.startswith("/") or ".." in file.split("/"):
            raise RecipeError(f"{shown(path)}: {key}: {file!r}: not below the project")
        if not (root / file).exists():
            raise RecipeError(f"{shown(path)}: {key}: there is no {file}")
        if key in (_INIT, *_LABELS) and not (root / file).is_file():
            raise RecipeError(f"{shown(path)}: {key}: {file} is no file")
    for key, labels in zip(_LABELS, (recipe.data.labels, recipe.model.init_labels), strict=True):
        if labels not in ("", *INIT_LABELS):
            try:
                read_labels(labels, root)
            except ValueError as error:
                raise RecipeError(f"{shown(path)}: {key}: {error}") from None
    handler_file, load, build = recipe.serve.file, recipe.data.load, recipe.model.build
    places = [
        ("[serve] handler", handler_file),
        ("[model] factory", build.file),
        ("[data] dataset", load.file),
    ]
    if recipe.train is not None:
        places.append(("[train] script", recipe.train.run.file))
    for key, file in places:
        module = place(file, root)
        if not module.is_file():
            known = [p.stem for p in module.parent.glob("*.py") if p.stem != "__init__"]
            hint = suggestion(module.stem, known)
            raise RecipeError(
                f"{shown(path)}: {key}: marwright has no {module.stem!r}{hint}; a file of your own "
                "is named by its path, as in folder/file.py"
                if is_engines(file)
                else f"{shown(path)}: {key}: there is no {file}{hint}"
            )
    check_handler(path, handler_file)
    _check_fitting_handler(recipe, path)
    check_params(path, "data.params", recipe.data.params, function_of(path, "[data] dataset", load))
    check_params(
        path, "model.params", recipe.model.arguments, function_of(path, "[model] factory", build)
    )
    if recipe.train is not None:
        function_of(path, "[train] script", recipe.train.run)
    if (parent := recipe.model.parent) is not None:
        _check_parent(path, recipe.name, parent)


def _check_fitting_handler(recipe: Recipe, path: Path) -> None:
    """Refuse a handler of the project's own that is for other samples, or for another task."""
    wanted = str(recipe.preprocess.__struct_config__.tag), recipe.task
    own = _OWN_HANDLERS.get(recipe.serve.handler, wanted)
    if own != wanted:
        fitting = next(name for name, what in _OWN_HANDLERS.items() if what == wanted)
        raise RecipeError(
            f"{shown(path)}: [serve] handler: {recipe.serve.handler} is for {own[1]} of kind "
            f'"{own[0]}", and this is {wanted[1]} of kind "{wanted[0]}": take {fitting}, or one of '
            "your own"
        )


def _named_files(recipe: Recipe) -> Iterator[tuple[str, str]]:
    yield from (("[data] files", file) for file in recipe.data.files)
    if recipe.model.init_from and recipe.model.parent is None:
        yield _INIT, recipe.model.init_from
    for key, labels in zip(_LABELS, (recipe.data.labels, recipe.model.init_labels), strict=True):
        if file := file_of(labels):
            yield key, file


def _check_parent(path: Path, name: str, parent: str) -> None:
    """Follow what a model starts from: each is a recipe, and none comes back to the first."""
    chain, following = [name], parent
    while True:
        if following in chain:
            raise RecipeError(
                f"{shown(path)}: [model] init_from: goes round in a circle: "
                f"{' → '.join([*chain, following])}"
            )
        chain.append(following)
        file = recipe_file(root_of(path) / RECIPES, following)
        try:
            above = _parent_in(tomllib.loads(read_regular(file, MOST_TEXT).decode("utf-8-sig")))
        except FileNotFoundError:
            known = [p.stem for p in (root_of(path) / RECIPES).rglob("*.toml")]
            raise RecipeError(
                f"{shown(path)}: [model] init_from: there is no recipe "
                f"{shown(file)}{suggestion(file.stem, known)}"
            ) from None
        # What is wrong with that recipe is said where it is built.
        except (OSError, ValueError, RecursionError):
            return
        if above is None:
            return
        following = above


def _parent_in(raw: Mapping[str, Any]) -> str | None:
    model = raw.get("model")
    init = model.get("init_from") if isinstance(model, Mapping) else None
    kind, _, name = str(init).partition(":")
    return name if kind == "recipe" else None
