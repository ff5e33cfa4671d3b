"""The JSON Schema says what the types say, and is the one in the repository."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bench.project import copy_project, environment
from marwright.recipe.schema import SCHEMA_FILE, recipe_schema
from tests.projects import ROOT, TABLE, edit
from tests.recipe.conftest import IMAGE, House, edited


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(recipe_schema()))


SCHEMA = "src/marwright/recipe/schema.json"


def written_schema(folder: Path) -> str:
    """Run `make schema` with a folder's engine; returns what it wrote."""
    command = [sys.executable, "-m", "marwright.recipe.schema"]
    subprocess.run(command, cwd=folder, env=environment(folder), check=True)
    return (folder / SCHEMA).read_text(encoding="utf-8")


def test_the_schema_in_the_repository_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == recipe_schema(), "run `make schema`"


def test_a_changed_type_makes_another_schema(tmp_path: Path) -> None:
    copy_project(ROOT, tmp_path)
    (tmp_path / SCHEMA).unlink()
    (tmp_path / "docs/reference").mkdir(parents=True)
    assert written_schema(tmp_path) == recipe_schema()
    edit(tmp_path, "src/marwright/recipe/types.py", "Meta(ge=18, le=23)", "Meta(ge=18, le=24)")
    assert written_schema(tmp_path) != recipe_schema()


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json.loads(recipe_schema()))


@pytest.mark.parametrize("path", sorted((ROOT / "archive").glob("*.toml")), ids=lambda p: p.stem)
def test_the_shipped_recipes_fit(validator: Draft202012Validator, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    validator.validate(tomllib.loads(text))
    # Editors find the schema by this line.
    assert text.startswith(f"#:schema ../{SCHEMA}\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("epochs =", "epoch ="),
        ("[fit]", "[fitt]"),
        ("epochs = 2", 'epochs = "2"'),
        ("epochs = 2", "epochs = 0"),
        ("test = 0.2", "test = 0.5"),
        ('"stretch"', '"stretched"'),
        ('"image"', '"table"'),
        ('kind = "image"\n', ""),
        ('dataset = "digits"\n', ""),
        ('"digits"', '"Digits"'),
        ("width = 4,", "width = [4],"),
        ("version", 'name = "tiny"\nversion'),
    ],
)
def test_an_editor_sees_the_faults_that_loading_refuses(
    validator: Draft202012Validator, house: House, old: str, new: str
) -> None:
    text = edited(IMAGE, old, new)
    house.refusal(text)
    assert list(validator.iter_errors(tomllib.loads(text)))


@pytest.mark.parametrize("text", [IMAGE, TABLE])
def test_an_editor_sees_no_fault_where_there_is_none(
    validator: Draft202012Validator, text: str
) -> None:
    assert list(validator.iter_errors(tomllib.loads(text))) == []


def test_every_key_that_needs_it_has_a_description() -> None:
    definitions: dict[str, Any] = json.loads(recipe_schema())["$defs"]
    assert definitions["Fit"]["properties"]["threads"]["description"].startswith("CPU threads")
    assert all("description" in definition for definition in definitions.values())
