"""The recipes' metrics over training seeds, on a test split that does not move."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from ci.prove.project import copy_project, run, set_value, table

TITLE = "Metrics on the test split over 5 training seeds"
_SEEDS = range(5)
_PROMISED = {"digits": ("accuracy", 0.985), "diabetes": ("r2", 0.40)}


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Train each recipe with each seed; the shipped one and the median must keep the promise."""
    project = copy_project(root, folder / "project")
    rows: list[tuple[object, ...]] = []
    ok = True
    for model, (metric, promised) in _PROMISED.items():
        # Without this the pipeline itself would stop, and the figure would not be seen.
        set_value(project, model, "minimum_metric", "-1.0")
        metrics, seconds, digests = [], [], set()
        for seed in _SEEDS:
            set_value(project, model, "seed", seed)
            run(project, "train", "--model", model)
            meta = json.loads((project / "build" / model / "meta.json").read_bytes())
            log = json.loads((project / "build" / model / "build.json").read_bytes())
            metrics.append(meta["metrics"][metric])
            seconds.append(log["steps"]["train"]["cpu_seconds"])
            digests.add(meta["splits"]["test"])
        ok = ok and metrics[0] >= promised and median(metrics) >= promised and len(digests) == 1
        rows.append(
            (model, metric, f"≥ {promised}", *(f"{value:.4f}" for value in metrics),
             f"{median(seconds):.1f} s", meta["split_sizes"]["test"])
        )  # fmt: skip
    seeds = tuple(f"seed {seed}" for seed in _SEEDS)
    header = ("model", "metric", "promised", *seeds, "CPU time, median", "test samples")
    note = (
        "The shipped seed is 0; the test split is the same in all runs. CPU time is that of the "
        "whole train step, importing torch included."
    )
    return ok, f"{table(header, rows)}\n\n{note}"
