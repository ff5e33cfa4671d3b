"""The model card: what a person needs who was handed the model alone."""

from __future__ import annotations

from marwright.report.limits import limits
from marwright.report.model_card import model_section
from marwright.report.page import page_of
from marwright.training.record import TrainReport
from tests.archive.tiny import image_recipe
from tests.report.html import faults, words
from tests.report.train_reports import classifier, epochs, regression, replaced, start, troubled


def text(report: TrainReport, description: str = "Sorts <animals>") -> str:
    section = model_section(report, image_recipe(description=description))
    page = page_of([section], title="t", subtitle="s")
    assert [*faults(page)] == []
    return words(page)


def test_it_says_what_the_model_is_for_and_how_it_was_trained() -> None:
    said = text(classifier(3))
    assert "Model tiny_image 1.2 Intended use Sorts <animals> Task classification into 3" in said
    assert "Network torchvision/resnet18 , 11,700,000 parameters Trained all of it" in said
    assert "Stages conv1 , layer1 , layer2 , layer3 , layer4 , fc Started from random" in said
    assert "Data animals : train 336, validation 55, test 112" in said
    assert "The recipe does not describe it." in text(classifier(3), description="")


def test_what_was_frozen_is_told_from_what_was_trained() -> None:
    report = troubled()
    kept = replaced(report, epochs=epochs(30, unfreeze=20), start=start())
    said = text(kept)
    assert "Trained 2,100,000 parameters, 17.9 %" in said
    assert "Stages layer4 , fc ; as they were: conv1 , layer1 , layer2 , layer3 Started" in said
    assert "Started from torchvision resnet18 IMAGENET1K_V1" in said
    # The best weights are older than the second stage's training.
    early = text(replaced(kept, best_epoch=19))
    assert "Stages fc ; as they were: conv1 , layer1 , layer2 , layer3 , layer4 Started" in early


def test_a_regression_names_its_target() -> None:
    said = text(regression())
    assert "Task regression of progression Network" in said
    assert "R² 0.4379 (baseline −0.0074) Mean absolute error 47.61 (baseline 64.64) Root" in said


def test_all_limits_are_on_it() -> None:
    for report in (classifier(3), regression(), troubled()):
        said = text(report)
        assert [limit for limit in limits(report) if limit not in said] == []
