"""Small real projects: copies of this one with recipes that build in seconds."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.project import command, copy_project, environment
from marwright.files import sha256_file

ROOT = Path(__file__).resolve().parent.parent
# Where the engine lies in this repository, and in copies of it.
SRC = "src/marwright"
# The steps of an archive.
ALL = ["train", "trace", "onnx", "parity", "answers", "report", "archive", "verify"]
# A recipe of the regression kind with nothing in it but what must be.
TABLE = """\
version = "1.0"
task = "regression"

[data]
dataset = "diabetes"

[preprocess]
kind = "table"

[model]
factory = "mlp"

[serve]
handler = "predict_table"
"""


def tiny(seed: int) -> str:
    """Return a recipe for the real data and the whole pipeline; only its training is short.

    So short that it learns next to nothing.
    """
    return f'{TABLE}\n[fit]\nseed = {seed}\nepochs = 2\nminimum_metric = "any"\n'


def make_project(folder: Path, *, models: tuple[str, ...] = ("tiny_a", "tiny_b")) -> Path:
    """Copy the rooms into a folder and give it tiny recipes in place of the shipped ones."""
    copy_project(ROOT, folder, models=())
    for seed, model in enumerate(models):
        (folder / "archive" / f"{model}.toml").write_text(tiny(seed), encoding="utf-8")
    return folder


def pipeline(
    project: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m marwright …` in a project, as its own process."""
    return subprocess.run(
        command(*arguments),
        cwd=project,
        env=environment(project, **(env or {})),
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


def archives(project: Path) -> dict[str, str]:
    """Return the SHA-256 of each published archive, by file name."""
    return {path.name: sha256_file(path) for path in (project / "model_store").glob("*.mar")}
