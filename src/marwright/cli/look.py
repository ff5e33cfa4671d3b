"""`summary` and `lr-find`: what a recipe would train, looked at before it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marwright.archive.types import to_json
from marwright.cli.listing import print_table
from marwright.files import write_bytes
from marwright.pipeline.build import build
from marwright.pipeline.display import Display
from marwright.pipeline.status import parent_of
from marwright.pipeline.steps.train import STEP as TRAIN
from marwright.project import enter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from marwright.pipeline.layout import Layout
    from marwright.recipe.types import Recipe
    from marwright.training.record import Start
    from marwright.training.run import Ready
    from marwright.training.types import Checkpoint

# Names of tensors in a line, at most.
_NAMED = 6


def summarise_models(recipes: dict[str, Recipe], layout: Layout) -> int:
    """Print the layers of each model by stage, with sizes and rates; returns 0."""
    from rich.table import Table

    from marwright.training.describe import describe
    from marwright.training.tensors import inputs_of as tensors_of

    for recipe in recipes.values():
        ready = _ready(recipe, layout)
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
            table.add_row(
                stage.name, "", "", "", f"{stage.parameters:,}", since, f"{stage.rate:.3g}",
                style="bold",
            )  # fmt: skip
            for layer in stage.layers:
                shape = "×".join(map(str, layer.output))
                size = f"{layer.parameters:,}" if layer.parameters else ""
                table.add_row("", layer.name, layer.kind, shape, size)
        trained = sum(stage.parameters for stage in stages if stage.since is not None)
        whole = sum(stage.parameters for stage in stages)
        shape = "×".join(map(str, example.shape[1:]))
        print(f"{recipe.name}: {recipe.model.factory}, input {shape}, {len(stages)} stages")
        print_table(table)
        print(f"{whole:,} parameters, {trained:,} of them are trained")
        if ready.start is not None:
            print("\n".join(_of_start(ready.start)))
        print()
    return 0


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


def find_rates(recipes: dict[str, Recipe], layout: Layout) -> int:
    """Try learning rates for a moment, print one to begin with, and draw what was seen."""
    from marwright.report.rates import write_rates_page
    from marwright.training.loop.finder import STEPS, find_rate
    from marwright.training.loop.run import Run
    from marwright.training.run import tensors_of

    for recipe in recipes.values():
        ready = _ready(recipe, layout)
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
    return 0


def _ready(recipe: Recipe, layout: Layout) -> Ready:
    from marwright.training.run import prepare

    enter(layout.root)
    return prepare(recipe, layout.root, parent_checkpoint(recipe, layout))


def parent_checkpoint(recipe: Recipe, layout: Layout) -> Checkpoint | None:
    """Return the checkpoint that a recipe starts from, if it starts from another recipe's.

    That is trained first where it is stale. Raises its error where that fails.
    """
    from marwright.training.types import Checkpoint, read_meta

    if recipe.model.parent is None:
        return None
    parent = parent_of(recipe, layout)
    for outcome in build({parent.name: parent}, (TRAIN,), layout):
        if outcome.error is not None:
            raise outcome.error
    folder = layout.folder(parent.name)
    weights, meta = folder / "weights.safetensors", folder / "meta.json"
    learned = folder / "learned.safetensors"
    return Checkpoint(weights=weights, meta=read_meta(meta), learned=learned)
