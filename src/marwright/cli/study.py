"""`study`: a recipe against its variants, over several seeds; committed, and in the report."""

from __future__ import annotations

from functools import partial
from statistics import mean, stdev
from typing import TYPE_CHECKING

from marwright.archive.types import to_json
from marwright.cli.listing import print_table
from marwright.cli.look import parent_checkpoint
from marwright.files import write_bytes
from marwright.pipeline.display import Display
from marwright.pipeline.run_step import step_environment
from marwright.pipeline.steps.report import study_file, study_key
from marwright.recipe.types import MAIN_METRIC

if TYPE_CHECKING:
    from pathlib import Path

    from marwright.pipeline.layout import Layout
    from marwright.recipe.types import Recipe
    from marwright.training.record import StudyReport
    from marwright.training.run import Ready


def study_models(recipes: dict[str, Recipe], layout: Layout, *, jobs: int) -> int:
    """Study each model, print what came out, and write it beside the recipes; returns 0."""
    from marwright.training.study import study, variants_of

    for recipe in recipes.values():
        variants = variants_of(recipe)
        parents = {name: parent_checkpoint(other, layout) for name, other in variants.items()}
        log = layout.folder(recipe.name) / "log" / "study.log"
        write_bytes(log, b"")
        why = f"{len(variants) * recipe.study.seeds} trainings: {', '.join(variants)}"
        with Display() as display, display.step(recipe.name, "study", (why,)) as shown:
            report = study(
                recipe, layout.root, parents, shown.progress,
                key=study_key(recipe, layout), jobs=jobs,
                environment=step_environment(recipe.training.threads),
                before=partial(try_export, log),
            )  # fmt: skip
            shown.done(f"{report.samples} test samples")
        path = study_file(recipe.name)
        write_bytes(layout.root / path, to_json(report))
        _print(report)
        print(f"{path}: commit it, and `make report` shows it")
    return 0


def try_export(log: Path, recipe: Recipe, ready: Ready) -> None:
    """Try the export of what is to be trained; raises `ExportError` where it cannot ship."""
    from marwright.pipeline.trial import refuse_unexportable

    refuse_unexportable(recipe, ready.network, ready.spec, log)


def _print(report: StudyReport) -> None:
    from rich.table import Table

    metric = MAIN_METRIC[report.task]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("variant", f"{metric}, mean", "deviation", "least", "most", "seeds"):
        table.add_column(column, no_wrap=True, justify="left" if column == "variant" else "right")
    for variant in report.variants:
        values = [found[metric] for found in variant.metrics]
        spread = f"{stdev(values):.4f}" if len(values) > 1 else ""
        table.add_row(
            variant.name, f"{mean(values):.4f}", spread, f"{min(values):.4f}",
            f"{max(values):.4f}", str(len(values)),
        )  # fmt: skip
    print_table(table)
