"""`make bench-parity`: how long the gate takes, and in how much memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.project import copy_project, run, table

TITLE = "The gate's time and memory"
_ARCHITECTURE, _THREADS, _ROUNDS = "resnet18", 2, 3
# Seconds, of whole processes: imports, loading and the report are in them.
_TARGETS = {"gate": 90.0, "quick look": 20.0}


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Run the gate over a ResNet-18 at 224 on two threads, and build `digits` for its gate.

    Medians of whole processes, gate and quick look in turns. Holds when the targets of issue 4 do.
    """
    _zoo(root, "make", folder)
    seconds: dict[str, list[float]] = {name: [] for name in _TARGETS}
    rows = {}
    for _ in range(_ROUNDS):
        for name, more in (("gate", ["all"]), ("quick look", [])):
            started = time.monotonic()
            rows[name] = _zoo(root, "gate", folder, *more)
            seconds[name].append(time.monotonic() - started)
    ok, lines = True, []
    for name, target in _TARGETS.items():
        median = statistics.median(seconds[name])
        held = median <= target and rows[name]["ok"]
        ok = ok and held
        lines.append(
            (f"ResNet-18 at 224, {name}", f"{median:.1f} s",
             f"{min(seconds[name]):.1f}–{max(seconds[name]):.1f} s", f"≤ {target:.0f} s",
             f"{rows[name]['peak_mib']} MiB", rows[name]["inputs"],
             f"{100 * rows[name]['ratio']:.0f} %", "met" if held else "MISSED")
        )  # fmt: skip
    project = copy_project(root, folder / "project", models={"digits"})
    run(project, "parity", "--model", "digits")
    report = json.loads((project / "build/digits/parity.json").read_text())
    step = json.loads((project / "build/digits/build.json").read_text())["steps"]["parity"]
    worst = max(case["ratio"] for case in report["cases"])
    lines.append(
        ("digits, step `parity`", f"{step['seconds']:.1f} s", "one run", "",
         f"{step['peak_mib']} MiB", sum(report["samples"].values()), f"{100 * worst:.0f} %", "")
    )  # fmt: skip
    head = ("gate", "median", "range", "target", "peak memory", "inputs", "limit used", "")
    return ok, table(head, [*lines])


def _zoo(root: Path, stage: str, folder: Path, *more: str) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "marwright.parity.zoo",
        stage,
        _ARCHITECTURE,
        folder,
        _THREADS,
    ]
    done = subprocess.run(
        [*map(str, command), *more], cwd=root, capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(_THREADS)},
    )  # fmt: skip
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row
