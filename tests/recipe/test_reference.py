"""The reference page for people is the one that the types give."""

from __future__ import annotations

from marwright.recipe.reference import REFERENCE_FILE, recipe_reference


def test_page_is_current() -> None:
    current = REFERENCE_FILE.read_text(encoding="utf-8") == recipe_reference()
    assert current, "docs/reference/recipes.md is not current: run `make schema`"


def test_page_tells_every_key_with_its_limits_and_default() -> None:
    page = recipe_reference()
    assert "| `batch_size` | integer ≥ 2 | `32` |" in page
    assert '| `kind` | `"image"` | required |' in page
    assert "| `validation` | number > 0 < 0.5 | `0.15` |" in page
    assert "`name`" not in page
