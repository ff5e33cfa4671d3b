"""What a build costs in which nothing is stale."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from statistics import median

from bench.project import command, run, table

TITLE = "A build in which nothing is stale"
_RUNS = 10
_LIMITS = {"make train archive": 0.30, "python -m marwright train archive": 0.15, "make setup": 0.1}


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Time no-op builds of the checkout, interleaved, and hold the medians against the limits."""
    run(root, "train", "archive")
    commands = {
        "make train archive": ["make", "train", "archive"],
        "python -m marwright train archive": command("train", "archive"),
        "make setup": ["make", "setup"],
    }
    # As on any machine where nobody forbids Python to keep its bytecode.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(_RUNS + 1):
        for name, words in commands.items():
            started = time.monotonic()
            subprocess.run(words, cwd=root, env=environment, check=True, capture_output=True)
            seconds[name].append(time.monotonic() - started)
    rows: list[tuple[object, ...]] = []
    ok = True
    for name, times in seconds.items():
        # The first run of each warms the file cache.
        measured = times[1:]
        ok = ok and median(measured) <= _LIMITS[name]
        rows.append(
            (f"`{name}`", f"{median(measured):.3f} s", f"{min(measured):.3f}–{max(measured):.3f} s",
             f"≤ {_LIMITS[name]:.2f} s")
        )  # fmt: skip
    return ok, table(("command", f"median of {_RUNS}", "range", "target"), rows)
