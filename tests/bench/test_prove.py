"""Every proof that a command names is there, and every proof can be named."""

from __future__ import annotations

import ast
import re

import pytest

from bench.__main__ import PROOFS
from ci.workflows import ROOT

# Folders and files that hold proofs' parts.
PROVE = ROOT / "bench"


def defines_proof(name: str) -> bool:
    tree = ast.parse((PROVE / f"{name}.py").read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    titles = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return "prove" in names and "TITLE" in titles


def test_every_module_that_proves_is_listed() -> None:
    modules = {path.stem for path in PROVE.glob("*.py")} - {"__init__", "__main__"}
    assert {name for name in modules if defines_proof(name)} == set(PROOFS)


@pytest.mark.parametrize(
    "page",
    ["Makefile", "README.md", "CONTRIBUTING.md", *(f"docs/{d}" for d in ("adr", "reference"))],
)
def test_commands_that_prove_name_proofs(page: str) -> None:
    place = ROOT / page
    files = [place] if place.is_file() else sorted(place.rglob("*.md"))
    for file in files:
        for command in re.findall(r"-m bench((?: \w+)+)", file.read_text(encoding="utf-8")):
            assert set(command.split()) <= set(PROOFS), file.name
