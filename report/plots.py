"""The plots of a parity report. Nothing that a file says is drawn as text: it stands in the page.

Whatever spans powers of ten is drawn by its logarithm, on plain axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from archive.parity.types import Layer, Plot
from report.numbers import number, power
from report.style import BAD, FIRST, INK, SECOND
from report.svg import drawing, inline

# Points closer than this part of an axis are one: half a pixel of what is drawn.
_GRAIN = 1 / 600
_DOT = 2.6


def histogram(plot: Plot, unit: str, name: str, label: str) -> Markup:
    """Draw how many elements have which ratio to `unit`, where a line stands.

    What is beyond a `limit` has the colour of faults.
    """
    bars = [*zip(plot.edges, plot.edges[1:], plot.counts, strict=False)]
    filled = [bar for bar in bars if bar[2]]
    with drawing(name):
        figure, (axes,) = _axes((4.1, 2.7), [(0.13, 0.19, 0.84, 0.72)])
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
        axes.set_title("elements", loc="left", fontsize=9.5, color=INK)
        _powers(axes.xaxis)
        _powers(axes.yaxis)
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
        figure, (upper, lower) = _axes(
            (4.1, 4.9), [(0.16, 0.46, 0.81, 0.49), (0.16, 0.1, 0.81, 0.24)]
        )
        low, high = _range([value for pair in pairs for value in pair])
        upper.plot([low, high], [low, high], color=INK, linewidth=0.8)
        _dots(upper, pairs, FIRST)
        upper.set(xlim=(low, high), ylim=(low, high))
        upper.set_title("output against reference", loc="left", fontsize=9.5, color=INK)
        _plain(upper.xaxis)
        _plain(upper.yaxis)

        for line in lines:
            lower.axhline(line, color=INK, linewidth=1)
            lower.text(1, line, "limit ", ha="right", va="bottom",
                       transform=lower.get_yaxis_transform())  # fmt: skip
        most = min(lines, default=math.inf)
        _dots(lower, [point for point in logs if point[1] <= most], FIRST)
        _dots(lower, [point for point in logs if point[1] > most], BAD)
        top = max(lines + [y for _, y in logs], default=0.0)
        lower.set(xlim=(low, high), ylim=(floor - 0.5, top + 1))
        lower.set_title("|output − reference|", loc="left", fontsize=9.5, color=INK)
        lower.set_xlabel("reference")
        _plain(lower.xaxis)
        _powers(lower.yaxis, most=4)
        return inline(figure, label)


def layers(nodes: Sequence[Layer], diverging: int | None, name: str, label: str) -> Markup:
    """Draw the error after each node, of the export and of eager float32.

    `diverging` is the index of the node to mark. Nodes without any error are passed over.
    """
    with drawing(name):
        figure, (axes,) = _axes((10, 3.2), [(0.06, 0.15, 0.93, 0.74)])
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
        axes.set_title("relative error", loc="left", fontsize=9.5, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
        _powers(axes.yaxis)
        return inline(figure, label)


def _axes(
    inches: tuple[float, float], places: Sequence[tuple[float, float, float, float]]
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=inches)
    # Set by hand: what is laid out by the size of letters depends on the fonts of the machine.
    return figure, [figure.add_axes(place) for place in places]


def _dots(axes: Axes, points: Sequence[tuple[float, float]], color: str) -> None:
    """Draw points as one path of lines without length: a third of what a mark for each takes."""
    wide, high = _extent([x for x, _ in points]), _extent([y for _, y in points])
    seen = {(round(x / wide / _GRAIN), round(y / high / _GRAIN)): (x, y) for x, y in points}
    vertices = [point for point in seen.values() for _ in range(2)]
    if vertices:
        path = Path(vertices, [Path.MOVETO, Path.LINETO] * len(seen))
        dots = PathPatch(path, fill=False, edgecolor=color, linewidth=_DOT, alpha=0.7)
        dots.set_capstyle("round")
        axes.add_patch(dots)


def _extent(values: Sequence[float]) -> float:
    return (max(values, default=1.0) - min(values, default=0.0)) or 1.0


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis, with room beside the outermost values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low or abs(high) or 1.0) * 0.05
    return low - room, high + room


def _powers(axis: Axis, most: int = 6) -> None:
    axis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))
    axis.set_major_formatter(lambda exponent, _: power(exponent))


def _plain(axis: Axis) -> None:
    axis.set_major_locator(MaxNLocator(5))
    # Of a tick at 0.30000000000000004 the first digits are meant.
    axis.set_major_formatter(lambda value, _: number(float(f"{value:.6g}"), 6))
