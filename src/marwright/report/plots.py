"""The plots of a parity report. Nothing that a file says is drawn as text: it stands in the page.

Whatever spans powers of ten is drawn by its logarithm, on plain axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from marwright.parity.types import Layer, Plot
from marwright.report.axes import dots, figure_of, plain, powers, range_of, title
from marwright.report.style import BAD, FIRST, INK, SECOND
from marwright.report.svg import drawing, inline


def histogram(plot: Plot, unit: str, name: str, label: str) -> Markup:
    """Draw how many elements have which ratio to `unit`, where a line stands.

    What is beyond a `limit` has the colour of faults.
    """
    bars = [*zip(plot.edges, plot.edges[1:], plot.counts, strict=False)]
    filled = [bar for bar in bars if bar[2]]
    with drawing(name):
        figure, (axes,) = figure_of((4.1, 2.7), [(0.13, 0.19, 0.84, 0.72)])
        for left, right, many in filled:
            # A single element must be seen beside thousands.
            axes.bar(
                left, math.log10(many) + 0.3, right - left, bottom=-0.3, align="edge",
                color=BAD if left >= 0 and unit == "limit" else FIRST, edgecolor="none",
            )  # fmt: skip
        axes.axvline(0, color=INK, linewidth=1)
        low = min([left for left, _, _ in filled], default=-1.0)
        high = max([right for _, right, _ in filled], default=0.0)
        axes.set_xlim(min(low, -1) - 0.2, max(high, 0.3) + 0.2)
        axes.set_ylim(-0.3, None)
        axes.text(0, 1.02, unit, ha="center", transform=axes.get_xaxis_transform())
        axes.set_xlabel(f"error ÷ {unit}")
        title(axes, "elements")
        powers(axes.xaxis)
        powers(axes.yaxis)
        return inline(figure, label)


def scatter(plot: Plot, limit: float | None, name: str, label: str) -> Markup:
    """Draw output against reference with the line where both are equal, and below their difference.

    `limit` is the largest error that is allowed, if there is one.
    """
    pairs = [*zip(plot.reference, plot.output, strict=True)]
    differences = [(reference, abs(output - reference)) for reference, output in pairs]
    positive = [difference for _, difference in differences if difference > 0]
    lines = [math.log10(limit)] if limit else []
    floor = min([*lines, *map(math.log10, positive)], default=0.0) - 0.5
    logs = [(x, math.log10(d) if d > 0 else floor) for x, d in differences]
    with drawing(name):
        figure, (upper, lower) = figure_of(
            (4.1, 4.9), [(0.16, 0.46, 0.81, 0.49), (0.16, 0.1, 0.81, 0.24)]
        )
        low, high = range_of([value for pair in pairs for value in pair])
        upper.plot([low, high], [low, high], color=INK, linewidth=0.8)
        dots(upper, pairs, FIRST)
        upper.set(xlim=(low, high), ylim=(low, high))
        title(upper, "output against reference")
        plain(upper.xaxis)
        plain(upper.yaxis)

        for line in lines:
            lower.axhline(line, color=INK, linewidth=1)
            lower.text(1, line, "limit ", ha="right", va="bottom",
                       transform=lower.get_yaxis_transform())  # fmt: skip
        most = min(lines, default=math.inf)
        dots(lower, [point for point in logs if point[1] <= most], FIRST)
        dots(lower, [point for point in logs if point[1] > most], BAD)
        top = max(lines + [y for _, y in logs], default=0.0)
        lower.set(xlim=(low, high), ylim=(floor - 0.5, top + 1))
        title(lower, "|output − reference|")
        lower.set_xlabel("reference")
        plain(lower.xaxis)
        powers(lower.yaxis, most=4)
        return inline(figure, label)


def layers(nodes: Sequence[Layer], diverging: int | None, name: str, label: str) -> Markup:
    """Draw the error after each node, of the export and of eager float32.

    `diverging` is the index of the node to mark. Nodes without any error are passed over.
    """
    with drawing(name):
        figure, (axes,) = figure_of((10, 3.2), [(0.06, 0.15, 0.93, 0.74)])
        marker = "o" if len(nodes) <= 100 else None
        for errors, color, style in (
            ([node.float32 for node in nodes], SECOND, "--"),
            ([node.error for node in nodes], FIRST, "-"),
        ):
            seen = [(at, math.log10(error)) for at, error in enumerate(errors, 1) if error > 0]
            axes.plot(
                [at for at, _ in seen], [error for _, error in seen], color=color, linestyle=style,
                linewidth=1.4, marker=marker, markersize=3.2, markeredgewidth=0,
            )  # fmt: skip
        if diverging is not None:
            at = diverging + 1
            axes.axvline(at, color=BAD, linewidth=1.2)
            side: Literal["left", "right"] = "right" if at > len(nodes) / 2 else "left"
            axes.text(at, 1.02, "first diverging node", color=BAD, ha=side,
                      transform=axes.get_xaxis_transform())  # fmt: skip
        axes.set_xlim(0.5, len(nodes) + 0.5)
        axes.set_xlabel("node, in the order of the graph")
        title(axes, "relative error")
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
        powers(axes.yaxis)
        return inline(figure, label)
