"""What a model card warns of: what there is to warn of, and nothing else."""

from __future__ import annotations

import msgspec
import pytest

from marwright.report.limits import limits, r2_in_words
from marwright.training.record import Bin, Classified, Predicted, TrainReport
from tests.report.train_reports import classifier, regression, troubled

replace = msgspec.structs.replace


def text(report: TrainReport) -> str:
    return " ".join(limits(report))


def test_a_good_classifier_has_only_its_nature_as_a_limit() -> None:
    assert limits(classifier(2, samples=400)) == [
        "The accuracy was measured on 772 samples: on new ones like these it lies between 0.888 "
        "and 0.929 (95 % Wilson interval).",
        "Whatever it is shown, it answers with one of its 2 classes, also where none is right.",
    ]


def test_the_data_set_is_told_of_first() -> None:
    sentences = limits(troubled())
    assert [sentence.partition(":")[0] for sentence in sentences[:5]] == [
        "Held-out samples that are in the training split too",
        "Held-out samples that the model which it starts from has learned of",
        "Held-out samples that nearly equal one of training",
        "Samples that occur with different targets",
        "Faults of the data set that were left out",
    ]
    assert "training: 14 of 500. " in sentences[2]


def test_rough_figures_are_named_with_their_intervals() -> None:
    report = classifier(3, samples=31, right=1.0)
    assert (
        "Classes with fewer than 30 test samples: 2 of 3. Their own figures are rough: 95 % of the "
        "recall is 0.875 to 1 for hedgehog (27 samples) and 0.883 to 1 for dog (29 samples)."
    ) in limits(report)
    assert "30 of 40. Their own" in text(troubled()) and "and 22 more." in text(troubled())


def test_a_class_without_test_samples_is_not_called_weak() -> None:
    report = classifier(3, samples=60, right=1.0)
    found = report.classified
    assert found is not None
    classes = [*found.classes[:2], replace(found.classes[2], samples=0, recall=0.0, f1=0.0)]
    matrix = [*found.confusion[:2], [0, 0, 0]]
    report = replace(report, classified=replace(found, classes=classes, confusion=matrix))
    assert "Not measured, as the test split has no sample of them: hedgehog." in limits(report)
    assert "worse than its mean" not in text(report)


def test_weak_classes_are_named_the_weakest_first() -> None:
    report = classifier(4, samples=60)
    found = report.classified
    assert found is not None
    scores = [replace(one, f1=f1) for one, f1 in zip(found.classes, (0.95, 0.6, 0.3, 0.85),
                                                     strict=True)]  # fmt: skip
    weak = replace(report, classified=replace(found, classes=scores),
                   metrics={**report.metrics, "macro_f1": 0.75})  # fmt: skip
    assert ("It does worse than its mean F1 of 0.75 on hedgehog (F1 0.3) and dog (F1 0.6)."
            in limits(weak))  # fmt: skip


@pytest.mark.parametrize(
    ("accuracy", "tendency"),
    [(0.6, "too sure, with a mean of 0.9 for an accuracy of 0.6"),
     (0.99, "not sure enough, with a mean of 0.9 for an accuracy of 0.99")],
)  # fmt: skip
def test_confidence_that_is_off_is_told_with_its_side(accuracy: float, tendency: str) -> None:
    report = classifier(2)
    found = report.classified
    assert found is not None
    bins = [Bin(samples=10, confidence=0.9, accuracy=accuracy)]
    off = replace(report, classified=replace(found, calibration=bins),
                  metrics={**report.metrics, "calibration_error": 0.0501})  # fmt: skip
    assert f"Its probabilities are off by 0.0501 on average: it is {tendency}." in limits(off)
    assert "probabilities" not in text(replace(off, metrics={"calibration_error": 0.05}))
    empty: Classified = replace(found, calibration=[])
    assert "probabilities" not in text(replace(off, classified=empty))


def test_an_imbalance_of_five_times_is_told() -> None:
    report = classifier(3)
    for counts, told in (([45, 40, 9], True), ([44, 40, 9], False), ([45, 0, 9], True)):
        data = replace(report.data, counts={"train": counts})
        sentence = "It was trained on 5 times as many samples of cat (45) as of hedgehog (9)."
        assert (sentence in limits(replace(report, data=data))) is told


def test_a_regression_is_told_in_words() -> None:
    assert limits(regression()) == [
        "An R² of 0.438 means that the answers explain 44 % of the variance of the targets: their "
        "root mean squared error is 25 % less than that of always answering the mean.",
        "Training has seen targets from 25 to 346: answers beyond are guesses.",
    ]
    assert "has only 9 samples: all of its figures are rough." in text(regression(9))


@pytest.mark.parametrize("r2", [0.0, -0.25, -1e6])
def test_an_r2_that_is_not_positive_is_no_better_than_the_mean(r2: float) -> None:
    assert "does no better than always answering the mean" in r2_in_words(r2)


def test_answers_that_lie_on_one_side_are_told() -> None:
    report = regression()
    pairs = [(float(at), at + 5.0 + (-1) ** at) for at in range(20)]
    off = replace(report, predicted=Predicted(target="y", pairs=pairs))
    assert "Its answers are 5 too high on average." in limits(off)
    low = [(answer, target) for target, answer in pairs]
    off = replace(report, predicted=Predicted(target="y", pairs=low))
    assert "Its answers are 5 too low on average." in limits(off)
    one = replace(report, predicted=Predicted(target="y", pairs=pairs[:1]))
    assert "on average" not in text(one)
