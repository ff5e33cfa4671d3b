"""How a model does on the test split, as a section."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, quantiles

from markupsafe import Markup

from marwright.report.confusion import confusion
from marwright.report.intervals import wilson
from marwright.report.limits import baseline_in_words, r2_in_words, right_of
from marwright.report.numbers import number, plural
from marwright.report.page import Section, render
from marwright.report.reliability import reliability
from marwright.report.residuals import Pairs, against, residuals
from marwright.report.templates.tested import CLASSIFIED, PREDICTED
from marwright.report.words import metric_words
from marwright.training.record import Classified, Predicted, TrainReport

# Classes up to which all are in sight, and how many of the worst are where there are more.
_ALL, _WORST = 20, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A class of the table; None for what there is nothing to measure on."""

    label: str
    samples: int
    precision: float | None
    recall: float | None
    interval: tuple[float, float]
    f1: float | None


def tested_section(report: TrainReport) -> Section | None:
    """Return what is known of the test split; None where the report says nothing of it."""
    if report.classified is not None:
        body = _of_classes(report.classified, report)
    elif report.predicted is not None and report.predicted.pairs:
        body = _of_answers(report.predicted, report)
    else:
        return None
    return Section(title="Test split", anchor="test-split", body=body)


def _of_classes(found: Classified, report: TrainReport) -> Markup:
    metrics = report.metrics
    right, of = right_of(found)
    classes = [*rows(found)]
    worst_first = sorted(classes, key=lambda row: 2.0 if row.f1 is None else row.f1)
    return render(
        CLASSIFIED,
        right=right,
        of=of,
        baseline=baseline_in_words(report),
        confusion=confusion(found),
        classes=classes,
        worst=worst_first[:_WORST] if len(classes) > _ALL else [],
        bins=found.calibration,
        reliability=_reliability(found, metrics) if found.calibration else "",
        error=metrics.get("calibration_error", -1.0),
    )


def rows(found: Classified) -> Iterator[Row]:
    """Yield a row for each class, with the 95 % interval of its recall."""
    answered = [sum(column) for column in zip(*found.confusion, strict=True)]
    for at, one in enumerate(found.classes):
        yield Row(
            label=one.label,
            samples=one.samples,
            precision=one.precision if answered[at] else None,
            recall=one.recall if one.samples else None,
            interval=wilson(found.confusion[at][at], one.samples),
            f1=one.f1 if one.samples else None,
        )


def _reliability(found: Classified, metrics: dict[str, float]) -> Markup:
    widest = max(found.calibration, key=lambda bin: abs(bin.accuracy - bin.confidence))
    label = (
        f"Accuracy by confidence in {plural(len(found.calibration), 'bin')}: the widest gap is "
        f"at a confidence of {number(widest.confidence)}, with an accuracy of "
        f"{number(widest.accuracy)} on {plural(widest.samples, 'sample')}"
    )
    return reliability(found.calibration, "test-reliability", label)


def _of_answers(found: Predicted, report: TrainReport) -> Markup:
    pairs = found.pairs
    errors = [answer - target for target, answer in pairs]
    low, high = _middle(errors)
    words = f"{number(fmean(errors))} on average, 90 % from {number(low)} to {number(high)}"
    return render(
        PREDICTED,
        target=found.target,
        samples=sum(report.data.counts.get("test", [])),
        pairs=len(pairs),
        metrics=[
            (*metric_words(name), value, report.baseline.get(name))
            for name, value in report.metrics.items()
        ],
        baseline=baseline_in_words(report),
        meaning=r2_in_words(report.metrics["r2"]) if "r2" in report.metrics else "",
        against=against(pairs, "test-against", _against_in_words(pairs)),
        residuals=residuals(pairs, "test-residuals", f"Answers less their targets: {words}"),
        words=words,
    )


def _middle(errors: list[float]) -> tuple[float, float]:
    """Return the ends of the middle 90 %."""
    if len(errors) < 2:
        return errors[0], errors[0]
    parts = quantiles(errors, n=20, method="inclusive")
    return parts[0], parts[-1]


def _against_in_words(pairs: Pairs) -> str:
    (low, high), (least, most) = ((min(values), max(values)) for values in zip(*pairs, strict=True))
    return (
        f"{plural(len(pairs), 'answer')} against targets: targets go from {number(low)} to "
        f"{number(high)}, answers from {number(least)} to {number(most)}"
    )
