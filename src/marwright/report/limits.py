"""What a model's figures do not say, or say only roughly: sentences drawn from the report."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean, stdev

from marwright.recipe.types import MAIN_METRIC
from marwright.report.intervals import wilson
from marwright.report.numbers import listed, number, plural
from marwright.training.record import Classified, ClassScore, DataCard, TrainReport

# Words that a sentence lists, at most.
_NAMED = 8
# Test samples of a class below which its figures are called rough: at 30, a recall of one half is
# known to within 0.17 to either side.
_FEW = 30
# How far below the mean the F1 of a weak class is.
_WEAK = 0.1
# At 0.05, one of twenty answers turns out other than its confidence says.
_CALIBRATION = 0.05
# Times as many samples as another that a class has where that is worth a sentence.
_IMBALANCE = 5


def limits(report: TrainReport) -> list[str]:
    """Return what a person should know before they trust a model, in sentences."""
    sentences = [*_of_baseline(report), *_of_data(report.data)]
    if report.classified is not None:
        sentences += _of_classes(report, report.classified)
    if report.predicted is not None:
        sentences += _of_answers(report, report.predicted.pairs)
    return sentences


def baseline_in_words(report: TrainReport) -> str:
    """Return what answering without looking has, and how far the model is above; "" if unknown."""
    main = MAIN_METRIC[report.task]
    if report.gain is None or main not in report.baseline:
        return ""
    low, high = report.gain
    always = "the most frequent label" if report.task == "classification" else "the mean"
    return (
        f"Always answering {always} of the training split has "
        f"{number(report.baseline[main], 4)}: the model is above by {number(low)} to "
        f"{number(high)} (95 % of the paired bootstrap)."
    )


def _of_baseline(report: TrainReport) -> Iterator[str]:
    if report.gain is not None and not report.gain[0] > 0:
        main = MAIN_METRIC[report.task]
        yield (
            f"It is not surely better than its baseline, which has {number(report.baseline[main])} "
            "without looking at a sample: the recipe ships it all the same."
        )


def _of_data(data: DataCard) -> Iterator[str]:
    found = data.duplicates
    if found.leaked:
        yield (
            f"Held-out samples that are in the training split too: {found.leaked:,}. The metrics "
            "are better than on new data."
        )
    if found.before:
        yield (
            "Held-out samples that the model which it starts from has learned of: "
            f"{found.before:,}. The metrics are better than on new data."
        )
    if found.near:
        yield (
            f"Held-out samples that nearly equal one of training: {found.near:,} of "
            f"{found.compared:,}. The metrics may be better than on new data."
        )
    if found.conflicting:
        yield (
            f"Samples that occur with different targets: {found.conflicting:,}. No model answers "
            "all of them right."
        )
    if data.faults:
        yield (
            f"Faults of the data set that were left out: {len(data.faults):,}. How the model does "
            "on such samples was not measured."
        )


def _of_classes(report: TrainReport, found: Classified) -> Iterator[str]:
    right, of = right_of(found)
    low, high = wilson(right, of)
    yield (
        f"The accuracy was measured on {plural(of, 'sample')}: on new ones like these it lies "
        f"between {number(low)} and {number(high)} (95 % Wilson interval)."
    )
    yield from _few(found)
    yield from _weak(found, report.metrics.get("macro_f1", 0.0))
    error = report.metrics.get("calibration_error", 0.0)
    if error > _CALIBRATION and found.calibration:
        yield f"Its probabilities are off by {number(error)} on average: {_tendency(found)}."
    yield from _imbalance(report)
    yield (
        f"Whatever it is shown, it answers with one of its {len(found.classes):,} classes, also "
        "where none is right."
    )


def right_of(found: Classified) -> tuple[int, int]:
    """Return how many test samples get the right label, and how many there are."""
    right = sum(row[at] for at, row in enumerate(found.confusion))
    return right, sum(map(sum, found.confusion))


def _few(found: Classified) -> Iterator[str]:
    if missing := [one.label for one in found.classes if not one.samples]:
        yield f"Not measured, as the test split has no sample of them: {_named(missing)}."
    few = [(one, found.confusion[at][at]) for at, one in enumerate(found.classes)
           if 0 < one.samples < _FEW]  # fmt: skip
    if few:
        told = [_recall(*pair) for pair in sorted(few, key=lambda pair: pair[0].samples)]
        yield (
            f"Classes with fewer than {_FEW} test samples: {len(few):,} of "
            f"{len(found.classes):,}. Their own figures are rough: 95 % of the recall is "
            f"{_named(told)}."
        )


def _recall(one: ClassScore, right: int) -> str:
    low, high = wilson(right, one.samples)
    samples = plural(one.samples, "sample")
    return f"{number(low)} to {number(high)} for {one.label} ({samples})"


def _weak(found: Classified, mean: float) -> Iterator[str]:
    weak = sorted((one for one in found.classes if one.samples and one.f1 < mean - _WEAK),
                  key=lambda one: one.f1)  # fmt: skip
    if weak:
        told = [f"{one.label} (F1 {number(one.f1, 2)})" for one in weak]
        yield f"It does worse than its mean F1 of {number(mean, 2)} on {_named(told)}."


def _tendency(found: Classified) -> str:
    of = sum(bin.samples for bin in found.calibration)
    confidence = sum(bin.samples * bin.confidence for bin in found.calibration) / of
    accuracy = sum(bin.samples * bin.accuracy for bin in found.calibration) / of
    kind = "too sure" if confidence > accuracy else "not sure enough"
    return (
        f"it is {kind}, with a mean of {number(confidence)} for an accuracy of {number(accuracy)}"
    )


def _imbalance(report: TrainReport) -> Iterator[str]:
    counts = report.data.counts.get("train", [])
    some = [(many, label) for many, label in zip(counts, report.data.labels, strict=False) if many]
    if not some:
        return
    (least, rare), (most, common) = min(some), max(some)
    if most >= _IMBALANCE * least:
        yield (
            f"It was trained on {number(most / least, 2)} times as many samples of {common} "
            f"({most:,}) as of {rare} ({least:,})."
        )


def _of_answers(report: TrainReport, pairs: list[tuple[float, float]]) -> Iterator[str]:
    r2 = report.metrics.get("r2")
    if r2 is not None:
        yield r2_in_words(r2)
    yield from _bias([answer - target for target, answer in pairs])
    of = sum(report.data.counts.get("test", []))
    if 0 < of < _FEW:
        yield f"The test split has only {plural(of, 'sample')}: all of its figures are rough."
    if (known := report.data.target.get("train")) is not None:
        least, _, most = known
        yield (
            f"Training has seen targets from {number(least, 4)} to {number(most, 4)}: answers "
            "beyond are guesses."
        )


def r2_in_words(r2: float) -> str:
    """Return what an R² means, in a sentence."""
    if r2 <= 0:
        return (
            f"With an R² of {number(r2)} it does no better than always answering the mean of the "
            "targets, which has 0."
        )
    # The root mean squared error of always answering the mean is the targets' deviation.
    less = 100 * (1 - math.sqrt(max(1 - r2, 0.0)))
    return (
        f"An R² of {number(r2)} means that the answers explain {number(100 * r2, 2)} % of the "
        f"variance of the targets: their root mean squared error is {number(less, 2)} % less than "
        "that of always answering the mean."
    )


def _bias(errors: list[float]) -> Iterator[str]:
    if len(errors) < 2:
        return
    mean = fmean(errors)
    # Two standard errors: what chance gives in one of twenty.
    if abs(mean) > 2 * stdev(errors) / math.sqrt(len(errors)):
        side = "high" if mean > 0 else "low"
        yield f"Its answers are {number(abs(mean))} too {side} on average."


def _named(words: list[str]) -> str:
    if len(words) > _NAMED:
        return f"{', '.join(words[:_NAMED])} and {len(words) - _NAMED:,} more"
    return listed(words)
