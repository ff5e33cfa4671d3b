"""What training leaves, as sections of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from report.data_card import data_section
from report.model_card import model_section
from report.page import Section
from report.tested import tested_section
from report.training import training_section
from report.wrong import wrong_section
from train.record import TrainReport

if TYPE_CHECKING:
    from recipes.types import Recipe


def train_sections(report: TrainReport, recipe: Recipe) -> list[Section]:
    """Return what there is to show of a training. Of the recipe, only its name, version and
    description are shown: on what else it says, the page does not depend.
    """
    sections = [training_section(report), tested_section(report), wrong_section(report),
                data_section(report.data), model_section(report, recipe)]  # fmt: skip
    return [section for section in sections if section is not None]
