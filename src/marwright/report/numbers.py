"""Numbers as a page shows them: short, and in one way everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits: `0.470`, `12,400`, `3.81e-6`, `−2`.

    Zeros at the end go where the number is no longer than what is shown.
    """
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "NaN")
    rounded = f"{abs(value):.{digits - 1}e}"
    mantissa, _, exponent = rounded.partition("e")
    tail = ""
    if value == 0 or -4 <= int(exponent) < 6:
        mantissa = f"{float(rounded):,.{max(digits - 1 - int(exponent), 0)}f}"
    else:
        tail = f"e{int(exponent)}"
    if float(rounded) == abs(value) and "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{'−' if value < 0 else ''}{mantissa}{tail}"


def measured(value: float) -> str:
    """Return a number that is not negative; a dash for -1, which stands for nothing measured."""
    return "–" if value < 0 else number(value)


def count(value: int) -> str:
    """Return a count with its thousands apart; a dash for -1, as in `measured`."""
    return "–" if value < 0 else f"{value:,}"


def size(value: int) -> str:
    """Return a size in bytes: `3.91 KiB`, `44.6 MiB`."""
    kib = value / 1024
    return f"{number(kib)} KiB" if kib < 1000 else f"{number(kib / 1024)} MiB"


def power(exponent: float) -> str:
    """Return a power of ten as an axis shows it: `10⁻³`, `1`, `10`."""
    whole = round(exponent)
    return {0: "1", 1: "10"}.get(whole, f"10{str(whole).translate(_RAISED)}")


def plural(many: int, one: str) -> str:
    """Return a count and its noun: `1 case`, `2 cases`."""
    return f"{many:,} {one}{'s' * (many != 1)}"


def shape(sizes: Iterable[int]) -> str:
    """Return a shape as it is said: `3 × 224 × 224`; a dash where there are no axes to name."""
    return " × ".join(map(str, sizes)) or "–"


def listed(words: Iterable[str]) -> str:
    """Return words as a sentence lists them: `a`, `a and b`, `a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
