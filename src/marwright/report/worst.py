"""The worst inputs of a parity report: what they are, what was asked for and what was answered."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from marwright.parity.types import ParityReport, Worst
from marwright.report.numbers import measured, number
from marwright.report.page import Section, render
from marwright.report.templates import worst as templates
from marwright.report.words import BACKENDS

# Pixels on the page, of the longer side. Pictures below half of it are drawn as their pixels.
_SIDE = 176
_PNG = b"\x89PNG\r\n\x1a\n"
# Values of a row that are in sight.
_VALUES = 12
_NO_NUMBER = "NaN or ∞"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One output, of reference and backend, and where their bars start and how long they are.

    Starts and lengths are percentages of the room; zero lies where a bar of value 0 starts. What
    is NaN or infinity is None, and has no bar.
    """

    label: str
    reference: float | None
    output: float | None
    bars: tuple[tuple[float, float] | None, tuple[float, float] | None]

    @property
    def strange(self) -> bool:
        """Whether one of both is a number and the other is not."""
        return (self.reference is None) != (self.output is None)

    @property
    def difference(self) -> str:
        """How far the output is above the reference, as it is shown."""
        if self.reference is not None and self.output is not None:
            return number(self.output - self.reference)
        return _NO_NUMBER if self.strange else "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A PNG in base64 and its size on the page; `pixels` says that it is enlarged."""

    png: str
    width: int
    height: int
    pixels: bool


def worst_section(report: ParityReport) -> Section | None:
    """Return the worst inputs as cards, in the report's order; None when it has none."""
    if not report.worst:
        return None
    body = render(
        templates.WORST,
        cards=[
            (worst, [*facts(worst)], picture(worst.png), bars(worst, report.labels))
            for worst in report.worst
        ],
        no_number=_NO_NUMBER,
        backends=BACKENDS,
        strange=any(worst.strange for worst in report.worst),
        quantised=any(worst.backend == "int8" for worst in report.worst),
        in_sight=_VALUES,
        output="class" if report.task == "classification" else "output",
    )
    return Section(title="Worst inputs", anchor="parity-worst", body=body)


def facts(worst: Worst) -> Iterator[tuple[str, bool]]:
    """Yield what is to be said of an input, each with whether it is a fault."""
    if worst.strange:
        yield f"{_NO_NUMBER} at other places than the checkpoint's", True
    # What has no limit has no ratio.
    if worst.ratio >= 0:
        yield f"{'elsewhere ' * worst.strange}ratio {measured(worst.ratio)}", worst.ratio > 1
    if worst.max_error >= 0:
        yield f"largest error {measured(worst.max_error)}", False
    if worst.margin:
        yield f"another label over a margin of {measured(worst.margin)}", False


def bars(worst: Worst, labels: Sequence[str]) -> list[Bar]:
    """Return the outputs that a report shows of an input, the reference's largest first.

    `labels` name outputs by their index, where there are any.
    """
    shown = sorted(
        zip(worst.elements, worst.reference, worst.output, strict=True),
        key=lambda one: math.inf if one[1] is None else -one[1],
    )
    values = [0.0, *(v for _, *pair in shown for v in pair if v is not None)]
    low, room = min(values), (max(values) - min(values)) or 1.0
    return [
        Bar(
            label=labels[at] if at < len(labels) else str(at),
            reference=reference,
            output=output,
            bars=(_bar(reference, low, room), _bar(output, low, room)),
        )
        for at, reference, output in shown
    ]


def _bar(value: float | None, low: float, room: float) -> tuple[float, float] | None:
    if value is None:
        return None
    start = (min(value, 0.0) - low) / room * 100
    return round(start, 1), round(abs(value) / room * 100, 1)


def picture(png: str) -> Picture | None:
    """Return a PNG with the size to show it at; None when it is no PNG."""
    try:
        head = base64.b64decode(png, validate=True)[:24]
    except (binascii.Error, ValueError):
        return None
    if len(head) < 24 or head[:8] != _PNG or 0 in (size := struct.unpack(">II", head[16:24])):
        return None
    longer = max(size)
    scale = _SIDE / longer
    pixels = longer <= _SIDE // 2
    if pixels:
        # Whole pixels, or some would be wider than others.
        scale = _SIDE // longer
    width, height = (max(round(side * scale), 1) for side in size)
    return Picture(png=png, width=width, height=height, pixels=pixels)
