"""Small real projects: copies of this one with recipes that build in seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("recipes", "handlers", "train", "archive", "pipeline")

# The real data and the whole pipeline; only the training is short and promises nothing.
TINY = """\
version = "1.0"
task = "regression"

[data]
dataset = "diabetes"

[preprocess]
kind = "table"

[model]
factory = "mlp"
params = {{ hidden = 4 }}

[fit]
seed = {seed}
epochs = 2

[serve]
handler = "predict_table"
"""


def make_project(folder: Path, *, models: tuple[str, ...] = ("tiny_a", "tiny_b")) -> Path:
    """Copy the rooms into a folder and give it tiny recipes in place of the shipped ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for room in ROOMS:
        ignored = shutil.ignore_patterns("__pycache__", "*.toml")
        shutil.copytree(ROOT / room, folder / room, ignore=ignored)
    for seed, model in enumerate(models):
        (folder / "recipes" / f"{model}.toml").write_text(TINY.format(seed=seed), encoding="utf-8")
    return folder


def pipeline(
    project: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m pipeline …` in a project, as its own process."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=project,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def built(project: Path, *arguments: str) -> str:
    """Run a build that must succeed; returns what it printed."""
    done = pipeline(project, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def steps_run(output: str) -> dict[str, list[str]]:
    """Return the steps that a build says it started, by model."""
    started: dict[str, list[str]] = {}
    for line in output.splitlines():
        words = line.split()
        if words[2:3] == ["starts"]:
            started.setdefault(words[0], []).append(words[1])
    return started


def edit(project: Path, path: str, old: str, new: str) -> None:
    """Replace text in a file of a project; it must be there."""
    file = project / path
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{path} does not contain {old!r}"
    file.write_text(text.replace(old, new), encoding="utf-8")
