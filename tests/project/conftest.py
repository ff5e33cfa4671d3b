"""This repository as a project: its models, as a user would test them."""

from __future__ import annotations

from types import ModuleType

from marwright.project import load_module
from tests.projects import ROOT


def load(file: str) -> ModuleType:
    """Import a file of the project, as a recipe names it."""
    return load_module(file, ROOT)
