"""Read recipes: TOML in, a `Recipe` out, or a `RecipeError` that says what to mend."""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from marwright.recipe.errors import RecipeError
from marwright.recipe.explain import SHORT, explain, key_of
from marwright.recipe.files import check_files
from marwright.recipe.paths import recipe_file, shown
from marwright.recipe.regular import MOST_TEXT, read_regular
from marwright.recipe.suggest import suggestion
from marwright.recipe.types import NAME_PATTERN, Recipe, varied_values

# Folders under build/ that belong to no model.
RESERVED_FOLDERS = frozenset({"parity-zoo", "release", "serve"})
# `marwright verify archive`: a build verb's word is never read as a model's.
BUILD_VERBS = frozenset({"train", "onnx", "parity", "report", "archive", "verify"})
RESERVED_NAMES = RESERVED_FOLDERS | BUILD_VERBS


def load_recipe(path: Path) -> Recipe:
    """Read one recipe.

    The files that it names are looked for in the folder above its own. Raises `RecipeError`
    naming file, key and reason.
    """
    try:
        raw = tomllib.loads(read_regular(path, MOST_TEXT).decode("utf-8-sig"))
    except FileNotFoundError:
        known = [p.stem for p in path.parent.rglob("*.toml")]
        raise RecipeError(f"{shown(path)}: no such recipe{suggestion(path.stem, known)}") from None
    except OSError as error:
        raise RecipeError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{shown(path)}: byte {error.start} is not UTF-8: save it as UTF-8"
        ) from None
    # Not only TOMLDecodeError: thousands of digits or brackets fail in Python itself.
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{shown(path)}: not TOML: {error}") from None
    if path.stem in RESERVED_FOLDERS:
        raise RecipeError(
            f"{shown(path)}: build/{path.stem}/ is taken by the pipeline itself: rename the file"
        )
    if path.stem in BUILD_VERBS:
        raise RecipeError(
            f"{shown(path)}: `{path.stem}` is a verb on the command line, where it could not name "
            "a model: rename the file"
        )
    if not re.fullmatch(NAME_PATTERN, path.stem):
        raise RecipeError(
            f"{shown(path)}: a model is named by its file: small letters, digits and _, "
            "beginning with a letter"
        )
    if "name" in raw:
        raise RecipeError(f"{shown(path)}: name: remove the key; the file's name is the model's")
    for keys, value in _leaves(raw):
        if problem := _impossible(value):
            raise RecipeError(f"{shown(path)}: {key_of(keys)}: {problem}")
    try:
        recipe = msgspec.convert({**raw, "name": path.stem}, Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{shown(path)}: {explain(str(error), raw)}") from None
    check_files(recipe, path)
    for variant, settings in recipe.study.variants.items():
        where, values = f"{shown(path)}: [study.variants.{variant}]", {}
        try:
            values = varied_values(recipe, settings)
            check_files(msgspec.convert(values, Recipe), path)
        except msgspec.ValidationError as error:
            raise RecipeError(f"{where}: {explain(str(error), values)}") from None
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}") from None
    return recipe


def load_recipes(
    folder: Path, names: Iterable[str] = ()
) -> tuple[dict[str, Recipe], dict[str, RecipeError]]:
    """Read the named recipes of a folder, or all of them, in the order of their names.

    Those in `examples/` are read by name only.

    Returns those that are right, and for the others why not: one bad recipe stops no other
    model. Raises `RecipeError` when there are none at all.
    """
    chosen = sorted(set(names)) or sorted(p.stem for p in folder.glob("*.toml"))
    if not chosen:
        raise RecipeError(f"{folder.name}/: no recipes; add one as {folder.name}/<model>.toml")
    recipes, errors = {}, {}
    for name in chosen:
        try:
            recipes[name] = load_recipe(recipe_file(folder, name))
        except RecipeError as error:
            errors[name] = error
    return recipes, errors


def _leaves(document: Mapping[str, Any]) -> Iterator[tuple[list[str], Any]]:
    """Yield every key and every plain value of a TOML document, with the keys that lead there."""
    # No recursion: a dotted key may be thousands of tables deep.
    waiting: list[tuple[list[str], Any]] = [([], document)]
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, Mapping):
            yield from (([*keys, key], key) for key in value)
            waiting += [([*keys, key], value[key]) for key in reversed(value)]
        elif isinstance(value, list):
            waiting += [(keys, inner) for inner in reversed(value)]
        else:
            yield keys, value


def _impossible(value: Any) -> str:
    """Say what TOML allows in a value and no key of a recipe can mean."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a number to compute with"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "a whole number of more than 64 bits"
    if isinstance(value, str) and any(unicodedata.category(c) == "Cc" for c in value):
        return f"holds a line break or another control character: {SHORT.repr(value)}"
    return ""
