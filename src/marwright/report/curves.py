"""Plots of how training went: something of every epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from marwright.report.axes import figure_of, logs, plain, range_of, title, whole
from marwright.report.style import FIRST, INK, MUTED
from marwright.report.svg import drawing, inline
from marwright.training.record import Epoch

# Epochs up to which each has a mark of its own.
_MARKED = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A value of each epoch, and how its line looks."""

    values: Sequence[float]
    color: str = FIRST
    style: str = "-"


def curves(
    lines: Sequence[Curve], epochs: Sequence[Epoch], best: int, named: str, name: str, label: str
) -> Markup:
    """Draw values by epoch, the best epoch and those where another number of stages trains.

    Their scale is one of powers where they span more than a tenfold; `named` is what they are.
    """
    numbers = [epoch.number for epoch in epochs]
    values = [value for line in lines for value in line.values]
    logarithmic = spans_powers(values)
    scale = math.log10 if logarithmic else float
    with drawing(name):
        figure, (axes,) = figure_of((4.1, 2.7), [(0.18, 0.19, 0.79, 0.7)])
        for number in changes(epochs):
            axes.axvline(number - 0.5, color=MUTED, linewidth=1, linestyle=":")
        axes.axvline(best, color=INK, linewidth=1)
        for line in lines:
            axes.plot(
                numbers, [scale(value) for value in line.values], color=line.color,
                linestyle=line.style, linewidth=1.4, markersize=3.2, markeredgewidth=0,
                marker="o" if len(numbers) <= _MARKED else None,
            )  # fmt: skip
        axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
        axes.set_xlabel("epoch")
        whole(axes.xaxis)
        low, high = range_of([scale(value) for value in values])
        axes.set_ylim(low, high)
        if logarithmic:
            logs(axes.yaxis, low, high)
        else:
            plain(axes.yaxis)
        title(axes, named)
        axes.set_title(f"best: epoch {best:,}", loc="right", fontsize=9.5, color=INK)
        return inline(figure, label)


def spans_powers(values: Sequence[float]) -> bool:
    """Return whether values are more than a tenfold apart, and have logarithms."""
    return min(values) > 0 and max(values) > 10 * min(values)


def changes(epochs: Sequence[Epoch]) -> Iterator[int]:
    """Yield the epochs from which on another number of stages trains."""
    for before, epoch in pairwise(epochs):
        if epoch.stages != before.stages:
            yield epoch.number
