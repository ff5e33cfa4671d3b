"""What a model is, as a section a person can hand on: use, network, data, metrics and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marwright.report.data_card import ordered
from marwright.report.limits import limits
from marwright.report.page import Section, render
from marwright.report.templates.model_card import MODEL
from marwright.report.words import metric_words
from marwright.training.record import TrainReport

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe


def model_section(report: TrainReport, recipe: Recipe) -> Section:
    """Return the model's card, after Mitchell et al., Model Cards for Model Reporting (2019)."""
    # What later epochs trained was not kept.
    stages, kept = report.model.stages, report.epochs[: report.best_epoch]
    trained = max((epoch.stages for epoch in kept), default=len(stages))
    body = render(
        MODEL,
        recipe=recipe,
        report=report,
        model=report.model,
        frozen=stages[: len(stages) - trained],
        trained=stages[len(stages) - trained :],
        splits=[(name, sum(report.data.counts[name])) for name in ordered(report.data.counts)],
        metrics=[
            (metric_words(name)[0], value, report.baseline.get(name))
            for name, value in report.metrics.items()
        ],
        limits=limits(report),
    )
    return Section(title="Model card", anchor="model-card", body=body)
