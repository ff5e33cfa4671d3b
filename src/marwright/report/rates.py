"""The page of the learning-rate finder: how the loss went while the rate grew."""

from __future__ import annotations

import math
from pathlib import Path

from markupsafe import Markup

from marwright.report.axes import figure_of, plain, powers, range_of, title
from marwright.report.page import Section, render, write_page
from marwright.report.style import FIRST, INK, MUTED, SECOND
from marwright.report.svg import drawing, inline
from marwright.report.templates.rates import RATES
from marwright.training.record import RatesFound


def write_rates_page(target: Path, model: str, found: RatesFound, declared: float) -> None:
    """Write the page of a model whose recipe declares a learning rate."""
    body = render(RATES, found=found, declared=declared, plot=_plot(found, declared))
    section = Section(title="Learning rate", anchor="rates", body=body)
    write_page(target, [section], title=f"{model}: learning rate", subtitle="lr-find")


def _plot(found: RatesFound, declared: float) -> Markup:
    label = (
        f"Loss against learning rate: it falls fastest at {found.steepest:.1e}; "
        f"suggested is {found.suggested:.1e}"
    )
    with drawing("rates"):
        figure, (axes,) = figure_of((6.2, 3.4), [(0.11, 0.15, 0.86, 0.76)])
        rates = [math.log10(rate) for rate in found.rates]
        axes.plot(rates, found.losses, color=FIRST, linewidth=1.6)
        for rate, color, style in (
            (declared, MUTED, ":"),
            (found.steepest, SECOND, "-"),
            (found.suggested, INK, "-"),
        ):
            axes.axvline(math.log10(rate), color=color, linewidth=1, linestyle=style)
        axes.set_ylim(*range_of(found.losses))
        axes.set_xlabel("learning rate")
        powers(axes.xaxis)
        plain(axes.yaxis)
        title(axes, "smoothed loss")
        return inline(figure, label)
