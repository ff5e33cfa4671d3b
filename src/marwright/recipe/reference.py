"""`docs/reference/recipes.md`: every key of a recipe, from the same types that read it."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from marwright.recipe.types import Recipe

# In the checkout that it is run in.
REFERENCE_FILE = Path("docs/reference/recipes.md")

_HEAD = """\
# Recipes

`archive/<name>.toml` declares one model; the file's name is the model's. Any other key is refused.
This page is generated from the types that read recipes (`make schema`).
"""


def recipe_reference() -> str:
    """Return the page as Markdown."""
    definitions = msgspec.json.schema(Recipe)["$defs"]
    recipe = definitions["Recipe"]
    parts = [_HEAD, "## Top level\n", *_table(recipe, definitions, skip=("name",))]
    for schema in recipe["properties"].values():
        for section in _sections(schema):
            title, _, about = definitions[section]["description"].partition(": ")
            about = cleandoc(f"{about[0].upper()}{about[1:]}")
            parts += ["", f"## {title}\n", f"{about}\n"]
            parts += _table(definitions[section], definitions)
    return "\n".join(parts) + "\n"


def _sections(schema: dict[str, Any]) -> list[str]:
    """Return the names of the tables that a key may hold; none for a plain value."""
    options = [schema, *schema.get("anyOf", [])]
    return [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]


def _table(
    section: dict[str, Any], definitions: dict[str, Any], skip: tuple[str, ...] = ()
) -> Iterator[str]:
    yield "| key | values | default | |"
    yield "| --- | --- | --- | --- |"
    for key, schema in section["properties"].items():
        if key in skip or _sections(schema):
            continue
        default = "required" if key in section.get("required", []) else _shown(schema["default"])
        yield f"| `{key}` | {_values(schema)} | {default} | {schema.get('description', '')} |"


def _values(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(_shown(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_values(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_values(schema['items'])}"
    if schema.get("type") == "object":
        return "table"
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    shown = [f"{sign} {schema[limit]}" for limit, sign in limits.items() if limit in schema]
    if "pattern" in schema:
        shown.append(f"`{schema['pattern']}`")
    return " ".join([schema.get("type", "any"), *shown]).replace("|", "\\|")


def _shown(value: Any) -> str:
    return f"`{msgspec.json.encode(value).decode()}`" if value != {} else "empty"
