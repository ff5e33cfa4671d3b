"""The plots of a regression's answers: against their targets, and how far they are off."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from marwright.report.axes import dots, figure_of, plain, range_of, title, whole
from marwright.report.style import FIRST, INK
from marwright.report.svg import drawing, inline

Pairs = Sequence[tuple[float, float]]
# Bars of a histogram, at most.
_BARS = 30


def against(pairs: Pairs, name: str, label: str) -> Markup:
    """Draw answers against targets, with the line where both are equal."""
    low, high = range_of([value for pair in pairs for value in pair])
    with drawing(name):
        figure, (axes,) = figure_of((4.1, 3.4), [(0.18, 0.15, 0.79, 0.76)])
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8)
        dots(axes, pairs, FIRST)
        axes.set(xlim=(low, high), ylim=(low, high))
        axes.set_xlabel("target")
        title(axes, "answer")
        plain(axes.xaxis)
        plain(axes.yaxis)
        return inline(figure, label)


def residuals(pairs: Pairs, name: str, label: str) -> Markup:
    """Draw how many answers are how far above their targets, with a line at zero."""
    edges, counts = histogram([answer - target for target, answer in pairs])
    with drawing(name):
        figure, (axes,) = figure_of((4.1, 3.4), [(0.13, 0.15, 0.84, 0.76)])
        width = edges[1] - edges[0]
        for left, many in zip(edges, counts, strict=False):
            if many:
                axes.bar(left, many, width, align="edge", color=FIRST, edgecolor="none")
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_xlim(*range_of([0.0, *edges]))
        axes.set_ylim(0, max(counts) * 1.05)
        axes.set_xlabel("answer − target")
        title(axes, "samples")
        plain(axes.xaxis)
        whole(axes.yaxis, most=6)
        return inline(figure, label)


def histogram(values: Sequence[float]) -> tuple[list[float], list[int]]:
    """Return the edges of bars of equal width, as many as the root of the values, and counts."""
    bars = min(math.ceil(math.sqrt(len(values))), _BARS)
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.05 or 0.5
        return [low - room, low + room], [len(values)]
    width = (high - low) / bars
    counts = [0] * bars
    for value in values:
        counts[min(int((value - low) / width), bars - 1)] += 1
    return [low + width * at for at in range(bars + 1)], counts
