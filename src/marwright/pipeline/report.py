"""The pages that a person looks at: of a gate that failed, and the index of all models."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path

from marwright.archive.types import read_json
from marwright.parity.types import ParityReport
from marwright.pipeline.facts import CHECKPOINT_BEFORE, metric_of, of_this_checkpoint
from marwright.pipeline.layout import Layout
from marwright.pipeline.plan import STEPS
from marwright.recipe.types import Recipe

PAGE = "report.html"


def draw_failed(recipe: Recipe, failed: Path) -> None:
    """Draw the page of a step that failed, if it left reports in its folder."""
    names = ("train.json", "quantise.json", "parity.json", "answers.json")
    files = {name: failed / name for name in names if (failed / name).exists()}
    if files:
        # Of a training that is not good enough, its own; what comes behind was made of the last.
        trained = failed.parent.parent / "train.json"
        if "train.json" not in files and trained.exists():
            files["train.json"] = trained
        from marwright.report.model import write_model_page

        write_model_page(failed / PAGE, recipe, files)


def draw_index(
    recipes: Mapping[str, Recipe],
    layout: Layout,
    *,
    failed_steps: Mapping[str, str],
    stale: Mapping[str, str],
    unreadable: Mapping[str, str],
) -> None:
    """Write `build/index.html`, say where it is, and open it where there is a browser.

    `failed_steps` are those of this build, by model; `stale` says of a model why it is not current;
    `unreadable` recipes have no more than their error.
    """
    from marwright.report.index import Entry, write_index

    def is_older(step: str, model: str) -> bool:
        return not of_this_checkpoint(step, model, layout)

    entries = []
    for name, recipe in recipes.items():
        failed = _failed_step(recipe, layout) or failed_steps.get(name, "")
        page = (layout.failed(name, failed) if failed else layout.folder(name)) / PAGE
        report = _parity_report(name, failed, layout)
        entries.append(
            Entry(
                name=name,
                version=recipe.version,
                task=recipe.task,
                metric=_metric(name, failed, layout),
                parity=None if report is None else report.summary(),
                exports_are_older=failed != "parity" and is_older("parity", name),
                failed=failed,
                stale=stale.get(name, ""),
                page=page if page.exists() else None,
                page_is_older=not failed and is_older("report", name),
            )
        )
    index = layout.root / layout.build / "index.html"
    write_index(index, entries, unreadable)
    print(index.relative_to(layout.root).as_posix())
    # Where there is no screen, a browser would be one for text, and take the terminal over.
    screen = sys.platform == "darwin" or os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}
    if screen and sys.stdout.isatty():
        webbrowser.open(index.as_uri())


def _failed_step(recipe: Recipe, layout: Layout) -> str:
    """Return the first step that left a folder when it failed: it stopped those behind it."""
    for step in STEPS:
        if step.applies(recipe) and layout.failed(recipe.name, step.name).exists():
            return step.name
    return ""


def _parity_report(model: str, failed: str, layout: Layout) -> ParityReport | None:
    """Return what the gate last measured; None when what failed stands before it."""
    names = [step.name for step in STEPS]
    if failed and names.index(failed) < names.index("parity"):
        return None
    folder = layout.failed(model, failed) if failed == "parity" else layout.folder(model)
    return read_json(folder / "parity.json", ParityReport)


def _metric(model: str, failed: str, layout: Layout) -> str:
    """Return a model's metric; where its training failed, that is of the one before."""
    metric = metric_of(model, layout)
    return f"{metric} ({CHECKPOINT_BEFORE})" if metric and failed == "train" else metric
