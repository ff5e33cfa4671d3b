"""What training leaves, as sections of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marwright.report.data_card import data_section
from marwright.report.model_card import model_section
from marwright.report.page import Section
from marwright.report.tested import tested_section
from marwright.report.training import training_section
from marwright.report.wrong import wrong_section
from marwright.training.record import TrainReport

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe


def train_sections(report: TrainReport, recipe: Recipe) -> list[Section]:
    """Return what there is to show of a training. Of the recipe, only its name, version and
    description are shown: on what else it says, the page does not depend.
    """
    sections = [training_section(report), tested_section(report), wrong_section(report),
                data_section(report.data), model_section(report, recipe)]  # fmt: skip
    return [section for section in sections if section is not None]
