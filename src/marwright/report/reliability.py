"""The plot of how far a classifier's confidence can be trusted: a reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from marwright.report.axes import figure_of, plain, powers, title
from marwright.report.intervals import wilson
from marwright.report.style import BAD, FIRST, INK, SECOND
from marwright.report.svg import drawing, inline
from marwright.training.record import Bin

# Half of a bar's width, where there is room for it.
_HALF = 0.026


def reliability(bins: Sequence[Bin], name: str, label: str) -> Markup:
    """Draw the accuracy of each bin with its gap to the confidence, and below its samples.

    A thin line is the 95 % interval of an accuracy: with few samples, a gap says little.
    """
    with drawing(name):
        figure, (upper, lower) = figure_of(
            (4.1, 4.1), [(0.15, 0.42, 0.82, 0.51), (0.15, 0.12, 0.82, 0.19)]
        )
        upper.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
        for bin, (left, right) in zip(bins, bars(bins), strict=True):
            middle, width = (left + right) / 2, right - left
            ends, gap = min(bin.accuracy, bin.confidence), bin.accuracy - bin.confidence
            upper.bar(middle, ends, width, color=FIRST, edgecolor="none")
            upper.bar(
                middle, abs(gap), width, bottom=ends, alpha=0.55,
                color=BAD if gap < 0 else SECOND, edgecolor="none",
            )  # fmt: skip
            low, high = wilson(round(bin.accuracy * bin.samples), bin.samples)
            upper.plot([middle, middle], [low, high], color=INK, linewidth=0.9)
            # A single sample must be seen beside thousands.
            lower.bar(
                middle, math.log10(bin.samples) + 0.3, width, bottom=-0.3, color=FIRST,
                edgecolor="none",
            )  # fmt: skip
        for axes in (upper, lower):
            axes.set_xlim(0, 1)
            plain(axes.xaxis)
        upper.set_ylim(0, 1)
        plain(upper.yaxis)
        title(upper, "accuracy")
        upper.tick_params(labelbottom=False)
        lower.set_ylim(-0.3, None)
        powers(lower.yaxis, most=3)
        title(lower, "samples")
        lower.set_xlabel("confidence")
        return inline(figure, label)


def bars(bins: Sequence[Bin]) -> Iterator[tuple[float, float]]:
    """Yield where the bar of each bin starts and ends: around its confidence, beside the next."""
    means = [bin.confidence for bin in bins]
    for before, mean, after in zip([-1.0, *means], means, [*means[1:], 2.0], strict=False):
        yield max(mean - _HALF, (before + mean) / 2), min(mean + _HALF, (mean + after) / 2)
