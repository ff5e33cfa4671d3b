"""docs/reference/data.md names every data set and its parameters."""

from __future__ import annotations

import ast
import re

import pytest

from tests.projects import ROOT

PAGE = (ROOT / "docs/reference/data.md").read_text(encoding="utf-8")
DATASETS_AT = ROOT / "src/marwright/training/datasets"
DATASETS = sorted(file.stem for file in DATASETS_AT.glob("*.py") if file.stem != "__init__")


def parameters(dataset: str) -> list[str]:
    tree = ast.parse((DATASETS_AT / f"{dataset}.py").read_text(encoding="utf-8"))
    load = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "load")
    return [argument.arg for argument in load.args.kwonlyargs]


def test_there_are_data_sets() -> None:
    assert {"image_folder", "csv", "iris", "mnist"} <= set(DATASETS)
    assert parameters("csv")[:2] == ["target", "drop"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_data_set_and_its_parameters_are_on_the_page(dataset: str) -> None:
    assert re.search(rf"^(### |\| )`{dataset}`", PAGE, re.MULTILINE)
    for parameter in parameters(dataset):
        assert f"`{parameter}`" in PAGE, parameter
