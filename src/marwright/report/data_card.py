"""What a model was trained on, as a section: samples, faults, and what occurs more than once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from marwright.report.numbers import number
from marwright.report.page import Section, render
from marwright.report.templates.data_card import DATA
from marwright.training.record import DataCard

# Splits as a page orders them; those that there may be besides come after.
_SPLITS = ("train", "validation", "test")
# Classes up to which all are in sight, and how many of the largest and the smallest are of more.
_ALL, _ENDS = 20, 8
# Faults and pairs that are in sight.
_FAULTS, _PAIRS = 20, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A class: its samples by split, and as percentages of those that the largest class has.

    The first split is that of training, where there is one.
    """

    label: str
    counts: tuple[int, ...]
    widths: tuple[float, ...]

    @property
    def total(self) -> int:
        """The samples of all splits."""
        return sum(self.counts)


def data_section(data: DataCard) -> Section:
    """Show what there is of each split and class, what was left out, and what training knew."""
    splits = ordered(data.counts)
    classes = [*rows(data)]
    # What a model learns of a class goes by the samples that it is trained on.
    by_size = sorted(classes, key=lambda row: (-row.counts[0], -row.total))
    many = len(classes) > _ALL
    body = render(
        DATA,
        data=data,
        splits=[(name, sum(data.counts[name]), data.target.get(name)) for name in splits],
        total=sum(map(sum, data.counts.values())),
        classes=classes,
        ends=[*by_size[:_ENDS], None, *by_size[-_ENDS:]] if many else [],
        between=len(classes) - 2 * _ENDS,
        imbalance=_imbalance(splits, by_size),
        faults=_FAULTS,
        pairs=_PAIRS,
    )
    return Section(title="Data card", anchor="data-card", body=body)


def ordered(names: Iterable[str]) -> list[str]:
    """Return names of splits in their own order."""
    return sorted(names, key=lambda name: _SPLITS.index(name) if name in _SPLITS else len(_SPLITS))


def rows(data: DataCard) -> Iterator[Row]:
    """Yield a row for each class, in the order of the labels."""
    counts = [*zip(*(data.counts[name] for name in ordered(data.counts)), strict=True)]
    most = max(map(sum, counts), default=0) or 1
    for label, some in zip(data.labels, counts, strict=False):
        widths = tuple(round(100 * many / most, 2) for many in some)
        yield Row(label=label, counts=some, widths=widths)


def _imbalance(splits: Sequence[str], by_size: Sequence[Row]) -> str:
    if len(by_size) < 2:
        return ""
    largest, smallest = by_size[0], by_size[-1]
    most, least = largest.counts[0], smallest.counts[0]
    if most == least:
        return f"In {splits[0]}, all classes have the same number of samples."
    end = f"{least:,}: a ratio of {number(most / least)}" if least else "none"
    return (
        f"In {splits[0]}, the largest class, {largest.label}, has {most:,} samples and the "
        f"smallest, {smallest.label}, {end}."
    )
