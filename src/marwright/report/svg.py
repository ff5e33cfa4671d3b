"""Plots as part of a page: small SVG without dates, fonts and names that are the page's."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context, rcParamsDefault
from matplotlib.figure import Figure

from marwright.report.style import INK, LINE, MUTED, VARIABLES

# None of these dates or names a file.
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,
    "path.simplify": False,  # lines without length are our dots
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": "none",
}
_NUMBER = re.compile(r"-?\d+\.\d+")
_COLOUR = re.compile("|".join(VARIABLES))
_FONT = re.compile(r"font-family:[^;]*;? ?")
_REFERENCE = re.compile(r"#([\w.-]+)\)?$")


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Draw and save in the house's style, whatever a person's own matplotlib settings are.

    `name` is that of one plot of a page: what a plot calls its parts by is made of it.
    """
    # Which backend there is, is not asked: a figure saves itself as SVG.
    defaults = {key: value for key, value in rcParamsDefault.items() if "backend" not in key}
    with rc_context({**defaults, **_STYLE, "svg.hashsalt": name}):
        yield


def inline(figure: Figure, label: str) -> Markup:
    """Return a figure as SVG to stand in a page, read aloud as `label`; inside `drawing` only."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_METADATA)
    root = ET.fromstring(buffer.getvalue())
    used = {name for element in root.iter() for name in _referenced(element)}
    for parent in root.iter():
        for child in [*parent]:
            # It would style the whole page.
            if child.tag.endswith("}style"):
                parent.remove(child)
    for element in root.iter():
        _slim(element, used)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": label}
    return Markup(ET.tostring(root, encoding="unicode"))


def _referenced(element: ET.Element) -> Iterator[str]:
    for key, value in element.attrib.items():
        if key.endswith(("href", "clip-path")) and (found := _REFERENCE.search(value)):
            yield found[1]


def _slim(element: ET.Element, used: set[str]) -> None:
    """Take from an element what a page does not need: namespaces, names, fonts, far decimals."""
    element.tag = element.tag.rpartition("}")[2]
    element.tail = None
    if element.tag != "text":
        element.text = None
    old = dict(element.attrib)
    element.attrib.clear()
    for key, value in old.items():
        key = key.rpartition("}")[2]
        if (key == "id" and value not in used) or (key, value[:9]) == ("transform", "rotate(-0"):
            continue
        if key == "style":
            value = _COLOUR.sub(lambda found: VARIABLES[found[0]], _FONT.sub("", value))
        elif key not in ("id", "href", "clip-path"):
            value = " ".join(_NUMBER.sub(lambda found: f"{float(found[0]):.5g}", value).split())
        element.attrib[key] = value
