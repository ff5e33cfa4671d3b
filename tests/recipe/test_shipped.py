"""What the shipped recipes promise holds on any processor, not only on one that trained them."""

from __future__ import annotations

import math
from statistics import fmean, stdev

import pytest

from marwright.archive.types import read_json
from marwright.recipe.load import load_recipes
from marwright.recipe.types import MAIN_METRIC
from marwright.training.record import StudyReport
from tests.projects import ROOT

RECIPES, _ = load_recipes(ROOT / "archive")


@pytest.mark.parametrize("name", RECIPES)
def test_another_processor_keeps_the_promised_metric(name: str) -> None:
    """Other last bits send a training elsewhere, as another seed does: four standard deviations."""
    recipe = RECIPES[name]
    study = read_json(ROOT / "archive" / name / "study.json", StudyReport)
    assert study is not None
    metric = MAIN_METRIC[recipe.task]
    values = [found[metric] for found in study.variants[0].metrics]
    promised = recipe.training.minimum_metric
    assert isinstance(promised, float), "a shipped recipe promises something"
    assert len(values) >= 5
    assert promised <= fmean(values) - 4 * stdev(values)
    assert math.isfinite(promised)
