"""A study: the recipe beside its variants, a dot for each seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from markupsafe import Markup
from scipy.special import stdtrit

from marwright.recipe.types import MAIN_METRIC
from marwright.report.axes import dots, figure_of, plain, range_of, title
from marwright.report.page import Section, render
from marwright.report.style import FIRST, INK, MUTED
from marwright.report.svg import drawing, inline
from marwright.report.templates.study import STUDY
from marwright.report.words import metric_words
from marwright.training.record import Studied, StudyReport

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe

# Of the means' differences, by Student's t.
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A variant: its values by seed, and its mean distance from the recipe as it is declared."""

    name: str
    settings: str
    values: list[float]
    mean: float
    deviation: float
    gap: float
    interval: tuple[float, float] | None


def study_section(
    report: StudyReport, recipe: Recipe, key: str, splits: Mapping[str, str], start: str
) -> Section:
    """Return the section. One of an earlier recipe, of other code, samples or weights says so.

    `key` is what a study of today would have, `splits` and `start` are those that the model was
    trained with, as the study has them.
    """
    then, now = (report.key, report.splits, report.start), (key, splits, start)
    metric = MAIN_METRIC[report.task]
    rows = rows_of(report)
    body = render(
        STUDY,
        rows=rows,
        metric=metric_words(metric)[0],
        seeds=report.seeds,
        samples=report.samples,
        current=then == now,
        processes=recipe.fit.processes,
        plot=_plot(rows, metric_words(metric)[0]),
    )
    return Section(title="Study", anchor="study", body=body)


def rows_of(report: StudyReport) -> list[Row]:
    """Return a row for each variant, the recipe itself first; the metric is the task's main one."""
    metric = MAIN_METRIC[report.task]
    declared = _values(report.variants[0], metric)
    return [_row(variant, metric, declared) for variant in report.variants]


def _values(variant: Studied, metric: str) -> list[float]:
    return [found[metric] for found in variant.metrics]


def _row(variant: Studied, metric: str, declared: Sequence[float]) -> Row:
    values = _values(variant, metric)
    # By seed: a seed that starts well does so in both.
    gaps = [value - other for value, other in zip(values, declared, strict=True)]
    interval = None
    # Of two seeds, Student's t says next to nothing: its interval is 9 deviations wide.
    if len(gaps) > 2 and any(gaps):
        half = (
            float(stdtrit(len(gaps) - 1, (1 + _CONFIDENCE) / 2))
            * stdev(gaps)
            / math.sqrt(len(gaps))
        )
        interval = (fmean(gaps) - half, fmean(gaps) + half)
    return Row(
        name=variant.name,
        settings=", ".join(f"{key} = {value!r}" for key, value in variant.settings.items()),
        values=values,
        mean=fmean(values),
        deviation=stdev(values) if len(values) > 1 else 0.0,
        gap=fmean(gaps),
        interval=interval,
    )


def _plot(rows: Sequence[Row], named: str) -> Markup:
    label = "; ".join(f"{row.name}: mean {row.mean:.4f}" for row in rows)
    height = 0.9 + 0.42 * len(rows)
    with drawing("study"):
        figure, (axes,) = figure_of((5.6, height), [(0.06, 0.42 / height, 0.9, 1 - 0.8 / height)])
        for place, row in enumerate(rows):
            axes.axhline(place, color=MUTED, linewidth=0.5)
            axes.plot([row.mean] * 2, [place - 0.3, place + 0.3], color=INK, linewidth=1.4)
            dots(axes, [(value, float(place)) for value in row.values], FIRST)
        axes.set_xlim(*range_of([value for row in rows for value in row.values]))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks([])
        title(axes, f"{named}, a dot for each seed, the mean as a line; in the table's order")
        plain(axes.xaxis)
        return inline(figure, label)
