"""A model's page, from the JSON files that its steps left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from archive.parity.types import ParityReport
from archive.quantise.types import QuantiseReport
from archive.types import AnswersReport, read_json
from report.answers import answers_section
from report.page import write_page
from report.parity import parity_sections
from report.quantise import quantise_section

if TYPE_CHECKING:
    from recipes.types import Recipe

Report = TypeVar("Report")


def write_model_page(target: Path, recipe: Recipe, files: Mapping[str, Path]) -> None:
    """Write the page of a recipe's model. `files` are reports by name; those missing are left out.

    Raises `ValueError` for a file that is not such a report.
    """
    sections = []
    if (path := files.get("parity.json")) is not None:
        sections += parity_sections(_read(path, ParityReport))
    if (path := files.get("quantise.json")) is not None:
        sections.append(quantise_section(_read(path, QuantiseReport)))
    if (path := files.get("answers.json")) is not None:
        sections.append(answers_section(_read(path, AnswersReport)))
    subtitle = recipe.description or f"{recipe.task}, version {recipe.version}"
    write_page(target, sections, title=f"{recipe.name} {recipe.version}", subtitle=subtitle)


def _read(path: Path, type: type[Report]) -> Report:
    report = read_json(path, type)
    if report is None:
        raise ValueError(f"{path.name}: not a report of this version")
    return report
