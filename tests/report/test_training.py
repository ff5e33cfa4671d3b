"""How a training went, as a section."""

from __future__ import annotations

import re

import msgspec
import pytest

from marwright.report.page import page_of
from marwright.report.training import training_section
from marwright.report.words import metric_words
from marwright.training.record import TrainReport
from tests.report.html import faults, words
from tests.report.train_reports import classifier, epochs, regression, replaced, troubled

# Drawing takes seconds.
pytestmark = pytest.mark.slow


def html(report: TrainReport) -> str:
    page = page_of([training_section(report)], title="t", subtitle="s")
    assert [*faults(page)] == []
    return page


def test_metrics_stand_first_with_plain_names() -> None:
    text = words(html(classifier(2)))
    assert "30 epochs; the weights are those of epoch 26, after which" in text
    assert "Accuracy 0.8831 68 of 77 samples; 95 % interval: 0.793 to 0.937 F1 0.8830" in text
    assert "AUROC 0.991 how often" in text
    text = words(html(regression()))
    assert "R² 0.4379 baseline −0.0074 part of the target's variance" in text
    assert "Mean absolute error 47.61 baseline 64.64 in the target's units" in text
    assert "R² on the validation split." in text


def test_the_metrics_of_a_classifier_stand_beside_their_baselines_too() -> None:
    blind = {"accuracy": 0.5195, "macro_f1": 0.3419}
    text = words(html(replaced(classifier(2), baseline=blind)))
    assert "Accuracy 0.8831 baseline 0.5195 68 of 77 samples" in text
    assert "F1 0.8830 baseline 0.3419 precision and recall" in text
    assert text.count("baseline") == 2


def test_a_new_metric_is_shown_by_its_own_name() -> None:
    assert metric_words("top_5") == ("top 5", "")
    report = classifier(2)
    assert "top 5 0.99 Learning" in words(html(replaced(report, metrics={"top_5": 0.99})))


def test_three_curves_are_drawn_and_every_epoch_stands_in_numbers() -> None:
    page = html(classifier(2))
    labels = re.findall(r'aria-label="([^"]*)" ?role|role="img" aria-label="([^"]*)"', page)
    assert [(one or other).partition(":")[0] for one, other in labels] == [
        "Loss by epoch", "Accuracy on the validation split by epoch", "Learning rate by epoch"
    ]  # fmt: skip
    text = words(page)
    assert "30 epochs in numbers" in text
    rows = re.findall(r"<tr>\s*<th scope=.row. class=.number.>(\d+)<", page)
    assert [int(row) for row in rows] == [*range(1, 31)]
    assert text.count("← kept") == 1


def test_unfreezing_is_told() -> None:
    text = words(html(replaced(classifier(2), epochs=epochs(9, unfreeze=3), best_epoch=9)))
    assert "Dotted lines stand where another number of stages begins to train: 1 stage" in text
    assert "Dotted" not in words(html(classifier(2)))


def test_one_epoch_is_enough() -> None:
    page = html(replaced(classifier(2), epochs=epochs(1), best_epoch=1))
    assert "1 epoch; the weights are those of epoch 1" in words(page)
    assert page.count("<svg") == 3


def test_a_metric_far_below_zero_does_not_flatten_the_curve() -> None:
    report = regression()
    low = [msgspec.structs.replace(report.epochs[0], metric=-1e6), *report.epochs[1:]]
    page = html(replaced(report, epochs=low))
    assert "Values below −1 stand at −1." in words(page)
    assert "−1e6" in words(page)
    assert "Values below" not in words(html(report))


def test_what_it_started_from_is_told() -> None:
    assert "Started from Random weights. Environment Python 3.11" in words(html(classifier(2)))
    text = words(html(troubled(3)))
    assert "Source torchvision resnet18 IMAGENET1K_V1 Taken 60 tensors Not taken 2 tensors" in text
    assert "conv1.weight: three channels added up to one" in text
    assert "Tensor Why not fc.weight the head of other labels fc.bias the head" in text
    assert "New: 2 tensors fc.bias , fc.weight Taken: 60 tensors layer0.conv.weight ," in text


def test_a_start_without_anything_left_over_has_no_empty_lists() -> None:
    report = troubled(3)
    assert report.start is not None
    clean = msgspec.structs.replace(report.start, skipped={}, initialised=[], notes=[])
    text = words(html(replaced(report, start=clean)))
    assert "Not taken 0 tensors of the source New 0 tensors of this network Taken: 60" in text


def test_events_are_told_where_there_are_any() -> None:
    assert "What else happened out of memory with 64 samples" in words(html(troubled(3)))
    assert "What else happened" not in words(html(classifier(2)))
