"""The JSON Schema of recipes, for editors: `make schema` writes it.

It writes the reference page for people too; both come from the types in `recipe/types.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from marwright.recipe.reference import REFERENCE_FILE, recipe_reference
from marwright.recipe.types import Recipe

SCHEMA_FILE = Path(__file__).with_name("schema.json")


def recipe_schema() -> str:
    """Return the schema of a recipe file as JSON text."""
    schema = msgspec.json.schema(Recipe)
    recipe = schema["$defs"]["Recipe"]
    # The name is the file's own; a recipe that says it is refused.
    del recipe["properties"]["name"]
    recipe["required"].remove("name")
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(recipe_schema(), encoding="utf-8")
    REFERENCE_FILE.write_text(recipe_reference(), encoding="utf-8")
