"""A look at recipes in a process of its own, because it runs a project's code.

`python -m marwright.cli.look_child`: what to look at is JSON in the first line of standard input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from marwright.archive.types import to_json
from marwright.cli import streams
from marwright.cli.listing import print_table
from marwright.files import write_bytes
from marwright.pipeline.display import Display
from marwright.pipeline.layout import Layout
from marwright.pipeline.machine import machine_error
from marwright.project import enter
from marwright.recipe.errors import MarwrightError
from marwright.recipe.types import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from marwright.training.record import Start
    from marwright.training.types import Checkpoint

# Names of tensors in a line, at most.
_NAMED = 6


def main() -> int:
    """Do what standard input says; returns the exit code."""
    task = json.loads(sys.stdin.readline())
    root = Path(task["root"])
    enter(root)
    recipe = msgspec.convert(task["recipe"], Recipe)
    try:
        if task["verb"] == "summary":
            summarise(recipe, root, _checkpoint(task["parent"]))
        else:
            find_rates(recipe, Layout(root=root), _checkpoint(task["parent"]))
    except (MarwrightError, OSError, MemoryError, ModuleNotFoundError) as error:
        known = error if isinstance(error, MarwrightError) else machine_error(error)
        if task["debug"] or known is None:
            raise
        print(f"marwright: {known}", file=sys.stderr)
        return known.exit_code
    return 0


def _checkpoint(files: dict[str, Any] | None) -> Checkpoint | None:
    from marwright.training.types import Checkpoint, read_meta

    if files is None:
        return None
    weights, meta, learned = (Path(files[name]) for name in ("weights", "meta", "learned"))
    return Checkpoint(weights=weights, meta=read_meta(meta), learned=learned)


def summarise(recipe: Recipe, root: Path, parent: Checkpoint | None) -> None:
    """Print the layers of a model by stage, with sizes, and what trains when and how fast."""
    from rich.table import Table

    from marwright.training.describe import describe
    from marwright.training.run import prepare
    from marwright.training.tensors import inputs_of as tensors_of

    ready = prepare(recipe, root, parent)
    splits = ready.opened.splits
    example = tensors_of(splits.samples, splits.train[:1], ready.spec)
    stages = describe(ready.network, recipe, example)
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in ("stage", "layer", "kind", "output"):
        table.add_column(column, no_wrap=True)
    for column in ("parameters", "trains", "rate"):
        table.add_column(column, no_wrap=True, justify="right")
    for stage in stages:
        since = "never" if stage.since is None else f"from epoch {stage.since}"
        when = (since, f"{stage.rate:.3g}") if recipe.train is None else ("", "")
        table.add_row(stage.name, "", "", "", f"{stage.parameters:,}", *when, style="bold")
        for layer in stage.layers:
            shape = "×".join(map(str, layer.output))
            size = f"{layer.parameters:,}" if layer.parameters else ""
            table.add_row("", layer.name, layer.kind, shape, size)
    trained = sum(stage.parameters for stage in stages if stage.since is not None)
    whole = sum(stage.parameters for stage in stages)
    shape = "×".join(map(str, example.shape[1:]))
    print(f"{recipe.name}: {recipe.model.factory}, input {shape}, {len(stages)} stages")
    print_table(table)
    by = f"{trained:,} of them are trained"
    if recipe.train is not None:
        by = f"trained by {recipe.train.script}"
    print(f"{whole:,} parameters, {by}")
    if ready.start is not None:
        print("\n".join(_of_start(ready.start)))
    print()


def _of_start(start: Start) -> Iterator[str]:
    """Say what a network was begun with, and why it has not all of that."""
    new = f": {_some(start.initialised)}" if start.initialised else ""
    yield (
        f"starts from {start.source}: {len(start.loaded)} tensors taken, "
        f"{len(start.initialised)} new{new}"
    )
    for why in dict.fromkeys(start.skipped.values()):
        names = [name for name, reason in start.skipped.items() if reason == why]
        yield f"not taken: {_some(names)}: {why}"
    yield from start.notes


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + ", …" * (len(names) > _NAMED)


def find_rates(recipe: Recipe, layout: Layout, parent: Checkpoint | None) -> None:
    """Try learning rates for a moment, print one to begin with, and draw what was seen."""
    from marwright.report.rates import write_rates_page
    from marwright.training.loop.finder import STEPS, find_rate
    from marwright.training.loop.run import Run
    from marwright.training.run import prepare, tensors_of

    ready = prepare(recipe, layout.root, parent)
    training = tensors_of("train", recipe, ready.opened.splits, ready.spec)
    run = Run(ready.network, training, recipe)
    with (
        Display() as display,
        display.step(recipe.name, "lr-find", (f"{STEPS} batches",)) as shown,
    ):
        found = find_rate(run, shown.progress)
        shown.done(
            f"the loss falls fastest at {found.steepest:.1e}; begin with a tenth of where it "
            f"is least, {found.suggested:.1e} (the recipe says {recipe.fit.learning_rate:.1e})"
        )
    folder = layout.folder(recipe.name)
    write_bytes(folder / "lr_find.json", to_json(found))
    page = folder / "lr_find.html"
    write_rates_page(page, recipe.name, found, recipe.fit.learning_rate)
    print(page.relative_to(layout.root).as_posix())


if __name__ == "__main__":
    streams.settle()
    sys.exit(streams.end(main()))
