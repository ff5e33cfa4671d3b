"""Two processes that train one model together, beside one process, over the same seeds."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev

from ci.prove.project import copy_project, run, set_value, table

TITLE = "Training by two processes beside one"
_MODEL, _METRIC, _SEEDS = "digits", "accuracy", range(5)


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Train with one process and with two, of the same effective batch, five seeds each.

    Holds when the means lie nearer than two standard errors of their difference.
    """
    project = copy_project(root, folder / "project", (_MODEL,))
    recipe = project / "recipes" / f"{_MODEL}.toml"
    set_value(project, _MODEL, "minimum_metric", "-1.0")
    text = recipe.read_text(encoding="utf-8")
    found: dict[int, list[float]] = {}
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for processes in (1, 2):
        recipe.write_text(text.replace("[fit]\n", f"[fit]\nprocesses = {processes}\n"), "utf-8")
        for seed in _SEEDS:
            set_value(project, _MODEL, "seed", seed)
            run(project, "train", "--model", _MODEL)
            built = project / "build" / _MODEL
            metrics = json.loads((built / "meta.json").read_bytes())["metrics"]
            found.setdefault(processes, []).append(metrics[_METRIC])
            log = json.loads((built / "build.json").read_bytes())
            seconds[processes].append(log["steps"]["train"]["seconds"])
    gap = mean(found[2]) - mean(found[1])
    error = sum(stdev(values) ** 2 / len(values) for values in found.values()) ** 0.5
    rows: list[tuple[object, ...]] = [
        (processes, *(f"{value:.4f}" for value in values), f"{mean(values):.4f}",
         f"{stdev(values):.4f}", f"{mean(seconds[processes]):.1f} s")
        for processes, values in found.items()
    ]  # fmt: skip
    head = ("processes", *(f"seed {seed}" for seed in _SEEDS), f"{_METRIC}, mean",
            "standard deviation", "step `train`, mean")  # fmt: skip
    note = (
        f"`{_MODEL}` on CPUs, by gloo. The means differ by {gap:+.4f}; two standard errors of the "
        f"difference are {2 * error:.4f}. Batches are of the same samples in both; batch norms see "
        "each process's half, which is why the weights are not the same. Of networks without batch "
        "norms and dropout they are, within rounding (`tests/pipeline/test_torchrun.py`)."
    )
    return abs(gap) <= 2 * error, f"{table(head, rows)}\n\n{note}"
