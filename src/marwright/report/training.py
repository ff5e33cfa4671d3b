"""How a model was trained, as a section: what came of it, its curves, and what it started from."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from marwright.recipe.types import MAIN_METRIC
from marwright.report.curves import Curve, changes, curves
from marwright.report.intervals import wilson
from marwright.report.limits import right_of
from marwright.report.numbers import number, plural
from marwright.report.page import Section, render
from marwright.report.style import SECOND
from marwright.report.templates.training import TRAINING
from marwright.report.words import metric_words
from marwright.training.record import TrainReport

# Early in training an R² may be far below zero; what is lower is drawn at this value.
_LOWEST = -1.0


def training_section(report: TrainReport) -> Section:
    """Sum up a training: metrics on the test split, curves, its start, events and environment."""
    epochs = report.epochs
    main, _ = metric_words(MAIN_METRIC[report.task])
    metric = _told(report, "metric")
    body = render(
        TRAINING,
        report=report,
        metrics=[*_metrics(report)],
        main=main,
        loss=_loss_curves(report),
        metric=_metric_curve(report, main) if metric else None,
        lower=any(value < _LOWEST for value in metric),
        rate=_rate_curve(report),
        changes=[*changes(epochs)],
        stages=[epochs[0].stages, epochs[-1].stages] if epochs else [],
        selected=bool(_told(report, "validation_loss")),
    )
    return Section(title="Training", anchor="training", body=body)


def _told(report: TrainReport, name: str) -> list[float]:
    """Return a value of each epoch, or nothing: a script of one's own need not tell it."""
    values = [getattr(epoch, name) for epoch in report.epochs]
    return [] if None in values else values


def _metrics(report: TrainReport) -> Iterator[tuple[str, float, float | None, str]]:
    """Yield the name of each metric, its value, that of the baseline, and what it says."""
    for name, value in report.metrics.items():
        title, about = metric_words(name)
        if name == "accuracy" and report.classified is not None:
            right, of = right_of(report.classified)
            low, high = (number(end) for end in wilson(right, of))
            about = f"{right:,} of {plural(of, 'sample')}; 95 % interval: {low} to {high}"
        yield title, value, report.baseline.get(name), about


def _loss_curves(report: TrainReport) -> Markup | None:
    training, validation = (_told(report, name) for name in ("train_loss", "validation_loss"))
    labels, lines = [], []
    if training:
        labels.append(f"of training from {number(training[0])} to {number(training[-1])}")
        lines.append(Curve(values=training))
    if validation:
        labels.append(
            f"of validation from {number(validation[0])} to {number(validation[-1])}, "
            f"{number(min(validation))} at best"
        )
        lines.append(Curve(values=validation, color=SECOND, style="--"))
    if not lines:
        return None
    label = f"Loss by epoch: {'; '.join(labels)}"
    return curves(lines, report.epochs, report.best_epoch, "loss", "training-loss", label)


def _metric_curve(report: TrainReport, main: str) -> Markup:
    values = _told(report, "metric")
    label = (
        f"{main} on the validation split by epoch: from {number(values[0])} to "
        f"{number(values[-1])}, {number(max(values))} at most"
    )
    line = Curve(values=[max(value, _LOWEST) for value in values], color=SECOND, style="--")
    named = main if main == main.upper() else main.lower()
    return curves([line], report.epochs, report.best_epoch, named, "training-metric", label)


def _rate_curve(report: TrainReport) -> Markup | None:
    if not (rates := _told(report, "learning_rate")):
        return None
    label = (
        f"Learning rate by epoch: from {number(rates[0])} to {number(rates[-1])}, "
        f"{number(max(rates))} at most"
    )
    return curves([Curve(values=rates)], report.epochs, report.best_epoch, "learning rate",
                  "training-rate", label)  # fmt: skip
