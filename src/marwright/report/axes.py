"""What the plots of a page share: axes set by hand, ticks as a page shows numbers, and dots."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, MaxNLocator

from marwright.report.numbers import number, power
from marwright.report.style import INK

# Points closer than this part of an axis are one: half a pixel of what is drawn.
_GRAIN = 1 / 600
_DOT = 2.6
# Powers of ten up to which an axis names more than whole powers.
_CLOSE = 2.5


def figure_of(
    inches: tuple[float, float], places: Sequence[tuple[float, float, float, float]]
) -> tuple[Figure, list[Axes]]:
    """Return a figure, and its axes at their places: left, bottom, width and height as parts."""
    figure = Figure(figsize=inches)
    # Set by hand: what is laid out by the size of letters depends on the fonts of the machine.
    return figure, [figure.add_axes(place) for place in places]


def title(axes: Axes, text: str) -> None:
    """Say above an axes what goes upwards in it."""
    axes.set_title(text, loc="left", fontsize=9.5, color=INK)


def dots(axes: Axes, points: Sequence[tuple[float, float]], color: str) -> None:
    """Draw points as one path of lines without length: a third of what a mark for each takes."""
    wide, high = _extent([x for x, _ in points]), _extent([y for _, y in points])
    seen = {(round(x / wide / _GRAIN), round(y / high / _GRAIN)): (x, y) for x, y in points}
    vertices = [point for point in seen.values() for _ in range(2)]
    if vertices:
        path = Path(vertices, [Path.MOVETO, Path.LINETO] * len(seen))
        drawn = PathPatch(path, fill=False, edgecolor=color, linewidth=_DOT, alpha=0.7)
        drawn.set_capstyle("round")
        axes.add_patch(drawn)


def _extent(values: Sequence[float]) -> float:
    return (max(values, default=1.0) - min(values, default=0.0)) or 1.0


def range_of(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis, with room beside the outermost values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low or abs(high) or 1.0) * 0.05
    return low - room, high + room


def powers(axis: Axis, most: int = 6) -> None:
    """Name powers of ten on an axis of exponents, some of the whole ones."""
    axis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))
    axis.set_major_formatter(lambda exponent, _: power(exponent))


def logs(axis: Axis, low: float, high: float) -> None:
    """Name values on an axis of exponents from `low` to `high`: 1, 2 and 5 where these are few."""
    if high - low > _CLOSE:
        powers(axis)
        return
    wholes = range(math.floor(low), math.ceil(high) + 1)
    exponents = [math.log10(step * 10.0**whole) for whole in wholes for step in (1, 2, 5)]
    axis.set_major_locator(FixedLocator([at for at in exponents if low <= at <= high]))
    axis.set_major_formatter(lambda exponent, _: number(float(f"{10**exponent:.6g}"), 2))


def plain(axis: Axis) -> None:
    """Name a few plain values on an axis."""
    axis.set_major_locator(MaxNLocator(5))
    # Of a tick at 0.30000000000000004 the first digits are meant.
    axis.set_major_formatter(lambda value, _: number(float(f"{value:.6g}"), 6))


def whole(axis: Axis, most: int = 8) -> None:
    """Name whole numbers on an axis."""
    axis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))
    axis.set_major_formatter(lambda value, _: f"{round(value):,}")
