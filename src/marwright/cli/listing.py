"""`make list`: a table of models, versions, metrics, exports and state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins

from marwright.archive.names import one_line
from marwright.archive.store import list_store, removal
from marwright.archive.types import read_json
from marwright.files import sha256_file
from marwright.parity.types import ParityReport
from marwright.pipeline.facts import (
    CHECKPOINT_BEFORE,
    NONE,
    REFUSED,
    facts_of,
    judged_anew,
    of_this_checkpoint,
    why_not_current,
)
from marwright.pipeline.keys import KeyMaker
from marwright.pipeline.layout import Layout
from marwright.recipe.errors import ServeError
from marwright.recipe.paths import recipe_file
from marwright.recipe.types import Recipe

if TYPE_CHECKING:
    from rich.table import Table


def list_models(recipes: dict[str, Recipe], layout: Layout, *, as_json: bool = False) -> int:
    """Print the table; returns 0."""
    keys = KeyMaker(layout)
    if as_json:
        print(json.dumps([*_rows(recipes, layout, keys)], ensure_ascii=False, indent=2))
        return 0
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "version", "task", "metric", "exports agree", "published", "state"):
        table.add_column(column, no_wrap=True)
    for name, recipe in recipes.items():
        facts = facts_of(name, layout)
        state = why_not_current(recipe, layout, keys) or "current"
        metric = facts.metric
        if state.startswith(REFUSED) and metric != NONE and not judged_anew(name, layout):
            metric += f" ({CHECKPOINT_BEFORE})"
        table.add_row(
            name, recipe.version, recipe.task, metric, facts.exports, facts.published, state
        )
    print_table(table)
    for line in (*strangers(layout), *_served_older(layout)):
        print(line)
    return 0


def _rows(recipes: dict[str, Recipe], layout: Layout, keys: KeyMaker) -> Iterator[dict[str, Any]]:
    """Yield a JSON-ready row a model: figures as they were measured, null for what is not there."""
    for name, recipe in recipes.items():
        meta = read_json(layout.folder(name) / "meta.json", dict[str, Any]) or {}
        report = read_json(layout.folder(name) / "parity.json", ParityReport)
        target = layout.store_target(name)
        yield {
            "model": name,
            "version": recipe.version,
            "task": recipe.task,
            "state": why_not_current(recipe, layout, keys) or "current",
            "metrics": meta.get("metrics"),
            "baseline": meta.get("baseline"),
            "parity": None if report is None else to_builtins(report.summary()),
            "of_this_checkpoint": of_this_checkpoint("parity", name, layout),
            "published": sha256_file(target) if target.exists() else None,
        }


def print_table(table: Table) -> None:
    """Print a table; where there is no terminal, as wide as it is, so that nothing is cut."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=240)
    console.print(table)


def _served_older(layout: Layout) -> list[str]:
    """Return a line for each archive that was published after the running server took it."""
    from marwright.serve.folders import Home
    from marwright.serve.foreground import HOME
    from marwright.serve.loaded import outdated
    from marwright.serve.process import read_record as read_server

    try:
        server = read_server(Home(path=layout.root / HOME))
    except ServeError as error:
        return [str(error)]
    return [*outdated(server.archives)] if server else []


def strangers(layout: Layout) -> list[str]:
    """Return a line for each thing in the store that no recipe declares, or that is not served."""
    listing = list_store(layout.root / layout.store)
    lines = {
        one.path: f"{one.why.splitlines()[0]}: `{removal(one.path.relative_to(layout.root))}` "
        "removes it"
        for one in (*listing.strangers, *listing.refused)
    }
    lines |= {
        one.path: "no recipe declares it, and it would be served"
        for one in listing.models
        if not recipe_file(layout.recipes, one.path.stem).exists()
    }
    return [
        f"{one_line(path.relative_to(layout.root).as_posix())}: {lines[path]}"
        for path in sorted(lines)
    ]
