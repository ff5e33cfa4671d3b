"""`make list`: a table of models, versions, metrics, parity and state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.keys import KeyMaker
from pipeline.layout import Layout
from pipeline.plan import STEPS
from pipeline.state import read_record
from pipeline.status import statuses
from recipes.errors import MarwrightError
from recipes.types import MAIN_METRIC, Recipe

if TYPE_CHECKING:
    from rich.table import Table

_NONE = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a model as it was last built, ready to be printed."""

    metric: str
    parity: str
    published: str


def facts_of(model: str, layout: Layout) -> Facts:
    """Return what the last build of a model left."""
    meta = _read(layout, model, "meta.json")
    parity = _read(layout, model, "parity.json")
    metric = MAIN_METRIC[meta["task"]] if meta else ""
    largest = max((case["max_abs"] for case in parity.get("cases", [])), default=0.0)
    record = read_record(layout.record(model, "verify"))
    target = layout.store_target(model)
    published = _NONE
    if record is not None and target.exists():
        recorded = record.outputs[target.relative_to(layout.root).as_posix()]
        published = f"{recorded.sha256[:12]}… {recorded.size / 1024:.0f} KiB"
    return Facts(
        metric=f"{metric} {meta['metrics'][metric]:.4f}" if meta else _NONE,
        parity=f"≤ {largest:.1e}" if parity else _NONE,
        published=published,
    )


def list_models(recipes: dict[str, Recipe], layout: Layout) -> int:
    """Print the table; returns 0."""
    from rich.table import Table

    keys = KeyMaker(layout)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "version", "task", "metric", "parity", "published", "state"):
        table.add_column(column, no_wrap=True)
    for name, recipe in recipes.items():
        facts = facts_of(name, layout)
        try:
            stale = [s for s in statuses(recipe, STEPS, layout, keys) if s.state == "stale"]
            state = f"{stale[0].step.name} is stale" if stale else "current"
        except MarwrightError as error:
            state = str(error)
        table.add_row(
            name, recipe.version, recipe.task, facts.metric, facts.parity, facts.published, state
        )
    print_table(table)
    return 0


def print_table(table: Table) -> None:
    """Print a table; where there is no terminal, as wide as it is, so that nothing is cut."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(table)


def _read(layout: Layout, model: str, name: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = msgspec.json.decode(
            (layout.folder(model) / name).read_bytes(), type=dict
        )
    except (FileNotFoundError, msgspec.DecodeError):
        return {}
    return content
