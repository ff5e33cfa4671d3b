"""Where recipes are, and how messages call them."""

from __future__ import annotations

from pathlib import Path

# Below the root: `<name>.toml` for each model, and what belongs to it in `<name>/`.
RECIPES = "archive"
# Recipes that are built by name only: they take long, or need a download.
EXAMPLES = "examples"


def examples(folder: Path) -> list[str]:
    """Return the names of the recipes that are built by name only, sorted."""
    return sorted(path.stem for path in (folder / EXAMPLES).glob("*.toml"))


def recipe_file(folder: Path, name: str) -> Path:
    """Return where the recipe of a model is: in the folder, or in its `examples/`."""
    own, example = folder / f"{name}.toml", folder / EXAMPLES / f"{name}.toml"
    return example if example.exists() and not own.exists() else own


def root_of(path: Path) -> Path:
    """Return the project's root, from the path of a recipe."""
    return path.parents[2] if path.parent.name == EXAMPLES else path.parents[1]


def shown(path: Path) -> str:
    """Return a recipe's path as messages have it, from the project's root."""
    return path.relative_to(root_of(path)).as_posix()
