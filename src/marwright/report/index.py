"""The page of all models, with a link to each one's own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from marwright.parity.types import Summary
from marwright.report.numbers import plural
from marwright.report.page import Section, render, write_page
from marwright.report.templates.index import INDEX


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the index. `metric` is ready to be shown; `page` is the model's page, if any.

    `failed` names the step that failed, if one did; `stale` says why it is not current, if not.
    What is older is of another checkpoint than the metric.
    """

    name: str
    version: str
    task: str
    metric: str = ""
    parity: Summary | None = None
    exports_are_older: bool = False
    failed: str = ""
    stale: str = ""
    page: Path | None = None
    page_is_older: bool = False


def write_index(
    target: Path, entries: Sequence[Entry], unreadable: Mapping[str, str] | None = None
) -> None:
    """Write the index, in the order given; its links are relative to its own place.

    `unreadable` are recipes by name, with what is wrong with them.
    """
    body = render(
        INDEX,
        entries=[(entry, _link(target, entry.page)) for entry in entries],
        unreadable=unreadable or {},
    )
    failing = sum(bool(entry.failed) for entry in entries) + len(unreadable or {})
    count = len(entries) + len(unreadable or {})
    subtitle = plural(count, "model") + (f", {failing:,} failing" if failing else "")
    section = Section(title="All models", anchor="models", body=body)
    write_page(target, [section], title="Models", subtitle=subtitle)


def _link(target: Path, page: Path | None) -> str | None:
    return quote(Path(os.path.relpath(page, target.parent)).as_posix()) if page else None
