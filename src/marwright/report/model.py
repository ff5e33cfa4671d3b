"""A model's page, from the JSON files that its steps left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from marwright.archive.types import AnswersReport, read_json
from marwright.export.quantise.types import QuantiseReport
from marwright.parity.types import ParityReport
from marwright.recipe.errors import MarwrightError
from marwright.report.answers import answers_section
from marwright.report.page import Section, write_page
from marwright.report.parity import parity_sections
from marwright.report.quantise import quantise_section
from marwright.report.study import study_section
from marwright.report.train import train_sections
from marwright.training.record import StudyReport, TrainReport
from marwright.training.types import Meta

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe

Report = TypeVar("Report")


def write_model_page(
    target: Path, recipe: Recipe, files: Mapping[str, Path], *, study_key: str = ""
) -> None:
    """Write the page of a recipe's model. `files` are reports by name; those missing are left out.

    `study_key` is what a study of today would have; another one is shown as out of date.
    Raises `ValueError` for a file that is not such a report.
    """
    sections: list[Section] = []
    if (path := files.get("train.json")) is not None:
        trained = _read(path, TrainReport)
        sections += train_sections(trained, recipe)
        if (path := files.get("study.json")) is not None:
            splits = _read(files["meta.json"], Meta).splits
            start = trained.start.digest if trained.start else ""
            studied = _read(path, StudyReport)
            sections.append(study_section(studied, recipe, study_key, splits, start))
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
        raise MarwrightError(
            f"{os.path.relpath(path)}: not a report of this version: make it again, or remove it"
        )
    return report
