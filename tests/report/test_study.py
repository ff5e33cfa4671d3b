"""A study on a page: variants beside the recipe, and a note when the recipe is another one now."""

from __future__ import annotations

import pytest

from marwright.recipe.types import OWN
from marwright.report.page import page_of
from marwright.report.study import study_section
from marwright.training.record import Studied, StudyReport
from tests.training.conftest import image_recipe

pytestmark = pytest.mark.slow

RECIPE = image_recipe()
KEY = "a" * 64


def variant(name: str, *accuracies: float, **settings: object) -> Studied:
    return Studied(
        name=name,
        settings=settings,
        metrics=[{"accuracy": accuracy, "macro_f1": accuracy} for accuracy in accuracies],
        epochs=[3] * len(accuracies),
    )


def report(*variants: Studied, key: str = KEY, start: str = "") -> StudyReport:
    return StudyReport(
        task="classification",
        key=key,
        splits={"test": "1"},
        start=start,
        seeds=len(variants[0].metrics),
        samples=100,
        variants=list(variants),
    )


def page(found: StudyReport, test: str = "1") -> str:
    section = study_section(found, RECIPE, KEY, {"test": test}, "")
    return page_of([section], title="t", subtitle="s")


def test_variants_stand_beside_the_recipe_with_their_gap() -> None:
    text = page(report(variant(OWN, 0.9, 0.8, 0.85), variant("bare", 0.5, 0.45, 0.4, epochs=2)))
    assert "3 seeds" in text
    assert "100 test samples" in text
    assert "0.8500" in text
    # Gaps by seed are -0.4, -0.35, -0.45: their mean, and 4.303 standard errors around it.
    assert "-0.4000" in text
    assert "-0.5242 to -0.2758" in text
    assert "epochs = 2" in text
    assert "changed\n  since" not in text
    assert text.count("<svg") == 1


def test_one_seed_has_no_interval() -> None:
    text = page(report(variant(OWN, 0.9), variant("bare", 0.5)))
    assert "-0.4000" in text
    assert " to -" not in text


def test_a_study_of_an_earlier_recipe_says_so() -> None:
    assert "changed\n  since" in page(report(variant(OWN, 0.9), key="0" * 64))


def test_a_study_of_other_samples_or_of_another_start_says_so() -> None:
    assert "changed\n  since" not in page(report(variant(OWN, 0.9)))
    assert "changed\n  since" in page(report(variant(OWN, 0.9)), test="2")
    assert "changed\n  since" in page(report(variant(OWN, 0.9), start="5" * 64))


def test_many_seeds_have_students_interval_too() -> None:
    # Of 11 seeds: 2.228 standard errors, and not the normal distribution's 1.96.
    own, bare = [0.9] * 11, [0.5 + 0.01 * seed for seed in range(11)]
    assert "-0.3723 to -0.3277" in page(report(variant(OWN, *own), variant("bare", *bare)))


def test_a_study_by_fewer_processes_than_the_build_says_so() -> None:
    several = image_recipe(processes=2)
    section = study_section(report(variant(OWN, 0.9)), several, KEY, {"test": "1"}, "")
    assert "where the build has\n  2" in section.body
    assert "where the build has" not in page(report(variant(OWN, 0.9)))
