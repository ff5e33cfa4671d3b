"""SIGKILL at random times of a training, which then goes on to the weights of an unbroken one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from bench.project import command, copy_project, run, table
from marwright.files import sha256_file

TITLE = "20 kills of trainings"
# Between them: dropout and augmentation, batches by length, a sampler that draws rare classes more
# often, and stages that are thawed one by one. What that one starts from is trained before.
_MODELS = ("digits_source", "languages", "wine_imbalanced")
_KILLS = 5


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Kill trainings anywhere, let each go on to its end, and compare the weights' SHA-256.

    Holds when all are those of the unbroken training, and some had an epoch to go on from. A
    training that ended before its kill does not count.
    """
    project = copy_project(root, folder / "project", _MODELS)
    chance, ok, continued = random.Random(0), True, 0
    rows: list[tuple[object, ...]] = []
    for model in _MODELS:
        run(project, "train", "--model", model)
        weights = project / "build" / model / "weights.safetensors"
        expected, seconds = sha256_file(weights), _train_again(project, model)
        same = went_on = halves = kills = 0
        while kills < _KILLS:
            _forget(project, model)
            if not _killed_after(project, model, chance.uniform(0.2, 1.0) * seconds):
                continue
            kills += 1
            resume = project / "build" / model / "resume" / "train"
            went_on += (resume / "state.pt").exists()
            halves += any(resume.glob(".*.tmp"))
            run(project, "train", "--model", model)
            same += sha256_file(weights) == expected
            print(f"  {model}: {kills} kills, {same} the same", flush=True)
        ok, continued = ok and same == _KILLS, continued + went_on
        rows.append((model, f"{seconds:.1f} s", _KILLS, went_on, halves, same, expected[:12]))
    head = ("model", "unbroken", "kills", "of them with an epoch kept", "of them in a write",
            "weights as unbroken", "SHA-256")  # fmt: skip
    note = (
        "Each kill is of the whole process group, at a time drawn from the training's; the same "
        "command then goes on from the last epoch that was kept, or begins anew without one. An "
        "epoch is kept at most once a second."
    )
    return ok and continued > 0, f"{table(head, rows)}\n\n{note}"


def _train_again(project: Path, model: str) -> float:
    """Return the seconds of a whole training, imports included."""
    _forget(project, model)
    started = time.monotonic()
    run(project, "train", "--model", model)
    return time.monotonic() - started


def _forget(project: Path, model: str) -> None:
    """Make a training stale, as if it had never been."""
    shutil.rmtree(project / "build" / model)


def _killed_after(project: Path, model: str, seconds: float) -> bool:
    """Start a training and kill it; returns False where it ended before."""
    with subprocess.Popen(
        command("train", "--model", model), cwd=project, stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as build:  # fmt: skip
        try:
            build.wait(seconds)
            return False
        except subprocess.TimeoutExpired:
            os.killpg(build.pid, signal.SIGKILL)
    # Whether it was this step: what comes behind it has weights to begin with.
    return not (project / "build" / model / "weights.safetensors").exists()
