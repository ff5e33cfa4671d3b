"""Specs survive the trip to the server, and what ships in an archive stands alone."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marwright.runtime.spec import (
    ImageSpec,
    PreprocessSpec,
    TextSpec,
    load_spec,
    spec_from_dict,
    spec_to_dict,
)
from tests.projects import ROOT
from tests.specs import numbers

RUNTIME, OURS = ROOT / "src/marwright/runtime", "marwright"

IMAGE = ImageSpec(
    channels=3,
    height=8,
    width=6,
    fit="crop",
    interpolation="bicubic",
    mean=(0.1, 0.2, 0.3),
    std=(1.0, 2.0, 3.0),
)
TABLE = numbers(
    ("age", "größe"),
    center=(40.0, 1.7),
    scale=(12.5, 0.1),
    target="weight",
    target_mean=70.0,
    target_std=9.0,
)
TEXT = TextSpec(max_bytes=64)
NUMBERS = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4).map(tuple)


@pytest.mark.parametrize("spec", [IMAGE, TABLE, TEXT])
def test_a_spec_is_read_as_it_was_written(spec: PreprocessSpec, tmp_path: Path) -> None:
    path = tmp_path / "preprocess.json"
    path.write_text(json.dumps(spec_to_dict(spec)), encoding="utf-8")
    assert load_spec(path) == spec


@settings(derandomize=True, database=None, deadline=None, max_examples=50)
@given(center=NUMBERS, scale=NUMBERS, target_mean=st.floats(allow_nan=False, allow_infinity=False))
def test_no_bit_of_a_number_is_lost(
    center: tuple[float, ...], scale: tuple[float, ...], target_mean: float
) -> None:
    spec = dataclasses.replace(TABLE, center=center, scale=scale, target_mean=target_mean)
    assert spec_from_dict(json.loads(json.dumps(spec_to_dict(spec)))) == spec


def test_shapes_have_no_batch_axis() -> None:
    assert IMAGE.shape == (3, 8, 6)
    assert TABLE.shape == (2,)
    assert TEXT.shape == (64,)


def test_texts_are_integers_and_what_is_written_does_not_say_so() -> None:
    assert [spec.dtype for spec in (IMAGE, TABLE, TEXT)] == ["float32", "float32", "int64"]
    assert spec_to_dict(TEXT) == {"max_bytes": 64, "kind": "text"}
    assert "dtype" not in {*spec_to_dict(IMAGE), *spec_to_dict(TABLE)}


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({}, ValueError),
        ({"kind": "audio"}, ValueError),
        (spec_to_dict(TABLE) | {"kind": "image"}, TypeError),
        (spec_to_dict(TABLE) | {"more": 1}, TypeError),
        ({"kind": "table", "columns": ["age"]}, TypeError),
    ],
)
def test_what_is_no_spec_is_refused(values: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        spec_from_dict(values)


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        IMAGE.height = 9  # type: ignore[misc]


def imported(source: str) -> set[str]:
    """Return the top-level modules that a source imports, wherever it does so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0] if not node.level else OURS)
    return found


def test_imports_are_seen() -> None:
    source = "import a.b\ndef f():\n    from c.d import e\n    from . import g\n"
    assert imported(source) == {"a", "c", OURS}


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=lambda p: p.name)
def test_what_ships_needs_little_and_nothing_else_of_ours(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    foreign = imported(source) - sys.stdlib_module_names
    assert foreign <= {OURS, "numpy", "torch", "PIL"}
    assert [*re.findall(r"marwright\.(?!runtime\b)\w+", source)] == []


def test_the_spec_is_standard_library_only() -> None:
    source = (RUNTIME / "spec.py").read_text(encoding="utf-8")
    assert imported(source) <= sys.stdlib_module_names
