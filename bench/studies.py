"""`make study` over all recipes that ship: metrics over seeds, and variants beside them."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, median

from bench.project import run, table
from marwright.archive.types import read_json
from marwright.pipeline.steps.report import study_file
from marwright.recipe.load import load_recipes
from marwright.recipe.types import MAIN_METRIC
from marwright.report.study import Row, rows_of
from marwright.training.record import StudyReport

TITLE = "Metrics on the test split over 5 training seeds"


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Study every recipe of the checkout, and leave what came out beside the recipes.

    Holds when the first seed, which ships, and the median over all seeds reach what the recipe
    promises.
    """
    recipes, unreadable = load_recipes(root / "archive")
    assert not unreadable, unreadable
    run(root, "study")
    ok, rows = True, []
    for name, recipe in recipes.items():
        report = read_json(root / study_file(name), StudyReport)
        promised = recipe.fit.minimum_metric
        assert report is not None and isinstance(promised, float), name
        declared, *variants = rows_of(report)
        ok = ok and declared.values[0] >= promised and median(declared.values) >= promised
        metric = MAIN_METRIC[recipe.task]
        f1 = [found["macro_f1"] for found in report.variants[0].metrics if "macro_f1" in found]
        rows.append(_line(name, metric, f"≥ {promised:g}", declared, f1, report.samples))
        for row, variant in zip(variants, report.variants[1:], strict=True):
            f1 = [found["macro_f1"] for found in variant.metrics if "macro_f1" in found]
            rows.append(_line(f"… {row.name}", metric, "", row, f1, report.samples))
    seeds = tuple(f"seed {seed}" for seed in range(5))
    head = ("model", "metric", "promised", *seeds, "mean", "standard deviation", "macro-F1, mean",
            "gap to the recipe, 95 %", "test samples")  # fmt: skip
    note = (
        "Seed 0 ships; the test split is the same in all runs of a model. Variants stand below "
        "their recipe; a gap is the mean difference by seed, with the 95 % interval of Student's t "
        "over the seeds."
    )
    return ok, f"{table(head, rows)}\n\n{note}"


def _line(
    name: str, metric: str, promised: str, row: Row, f1: list[float], samples: int
) -> tuple[object, ...]:
    gap = ""
    if row.interval is not None:
        gap = f"{row.gap:+.4f} ({row.interval[0]:+.4f} to {row.interval[1]:+.4f})"
    return (name, metric, promised, *(f"{value:.4f}" for value in row.values), f"{row.mean:.4f}",
            f"{row.deviation:.4f}", f"{fmean(f1):.4f}" if f1 else "", gap, samples)  # fmt: skip
