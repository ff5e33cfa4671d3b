"""Two processes that train one model together, beside one process, over the same seeds."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev

from scipy.stats import ttest_ind

from bench.project import copy_project, run, set_value, table

TITLE = "Training by two processes beside one"
# With batch norms, and without.
_MODELS = ("digits_source", "languages")
_METRIC, _SEEDS = "accuracy", range(5)


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Train with one process and with two, of the same effective batch, five seeds each.

    Holds when the 95 % interval of the difference of the means (Welch's) holds zero.
    """
    project = copy_project(root, folder / "project", _MODELS)
    ok, rows = True, []
    for model in _MODELS:
        found, seconds = _trained(project, model)
        low, high = ttest_ind(found[2], found[1], equal_var=False).confidence_interval(0.95)
        ok = ok and low <= 0 <= high
        for processes, values in found.items():
            gap = f"{mean(found[2]) - mean(found[1]):+.4f} ({low:+.4f} to {high:+.4f})"
            rows.append(
                (model, processes, *(f"{value:.4f}" for value in values), f"{mean(values):.4f}",
                 f"{stdev(values):.4f}", gap if processes == 2 else "",
                 f"{mean(seconds[processes]):.1f} s")
            )  # fmt: skip
    head = ("model", "processes", *(f"seed {seed}" for seed in _SEEDS), f"{_METRIC}, mean",
            "standard deviation", "gap, 95 %", "step `train`, mean")  # fmt: skip
    note = (
        "On CPUs, by gloo. Batches are of the same samples in both. What differs is what dropout "
        "draws, and of `digits` batch norms, which see each process's half. Without both, the "
        "weights are the same within rounding (`tests/pipeline/test_torchrun.py`)."
    )
    return ok, f"{table(head, [*rows])}\n\n{note}"


def _trained(project: Path, model: str) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    """Return the metric and the seconds of each training, by the number of processes."""
    recipe = project / "archive" / f"{model}.toml"
    set_value(project, model, "minimum_metric", '"any"')
    text = recipe.read_text(encoding="utf-8")
    metrics: dict[int, list[float]] = {1: [], 2: []}
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for processes in metrics:
        recipe.write_text(text.replace("[fit]\n", f"[fit]\nprocesses = {processes}\n"), "utf-8")
        for seed in _SEEDS:
            set_value(project, model, "seed", seed)
            run(project, "train", "--model", model)
            built = project / "build" / model
            metrics[processes].append(
                json.loads((built / "meta.json").read_bytes())["metrics"][_METRIC]
            )
            steps = json.loads((built / "build.json").read_bytes())["steps"]
            seconds[processes].append(steps["train"]["seconds"])
    return metrics, seconds
