"""Step `train`: data to weights."""

from __future__ import annotations

import os
import time
from importlib import import_module
from typing import TYPE_CHECKING

from marwright.pipeline.step import Job, Step
from marwright.recipe.errors import TrainError
from marwright.recipe.labels import file_of
from marwright.recipe.types import TRAINED_SECTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from marwright.recipe.types import Recipe
    from marwright.training.run import Ready

# Of the checkpoint of the recipe that this one starts from.
_PARENT = {
    "parent.safetensors": "weights.safetensors",
    "parent.json": "meta.json",
    "parent_learned.safetensors": "learned.safetensors",
}
# What runs beside, where several processes train together.
_SEVERAL = ("marwright/pipeline/torchrun.py", "marwright/pipeline/worker.py")
_STATE = "state.pt"
_REPORT = "train.json"
# Beside the report of a model that is not good enough: the key of its training.
REFUSED_KEY = "key"
# Seconds between two times that what it takes to go on is kept: a write waits for the disk.
_EVERY = 1.0
# The variable that names a folder for TensorBoard. It changes nothing of what is made, so it is in
# no key.
_BOARD = "MARWRIGHT_TENSORBOARD"


def _of_parent(recipe: Recipe) -> dict[str, str]:
    return _PARENT if recipe.model.parent else {}


def _weights(recipe: Recipe) -> tuple[str, ...]:
    if not recipe.model.init_from or recipe.model.parent:
        return ()
    return tuple(filter(None, (recipe.model.init_from, file_of(recipe.model.init_labels))))


def _sources(recipe: Recipe) -> tuple[str, ...]:
    several = _SEVERAL if recipe.fit.processes > 1 else ()
    own = () if recipe.train is None else (recipe.train.run.file,)
    return (recipe.model.file, recipe.data.file, recipe.trainer, *own, *several)


STEP = Step(
    name="train",
    sections=TRAINED_SECTIONS,
    judged_by=("fit.minimum_metric", "train.minimum_metric"),
    of_parent=_of_parent,
    outputs=(
        "weights.safetensors",
        "losses.safetensors",
        "learned.safetensors",
        "meta.json",
        "train.json",
    ),
    sources=_sources,
    committed=_weights,
    reads_data=True,
    on_device=True,
)


def run(job: Job) -> str:
    """Train, select on the validation split, measure once on the test split, save.

    A run that was killed goes on after the last epoch that it kept. Where only `minimum_metric` has
    changed, what was trained is judged anew.
    """
    from shutil import copyfile

    from marwright.archive.types import read_json
    from marwright.training.accepted import beside_baseline, refusal
    from marwright.training.record import TrainReport
    from marwright.training.types import read_meta

    went_on = 0
    if job.made:
        for name, path in job.made.items():
            copyfile(path, job.out / name)
        meta = read_meta(job.out / "meta.json")
        if problem := refusal(job.recipe, meta, meta.split_sizes["test"]):
            _keep_report(job)
            raise TrainError(problem)
    elif job.recipe.fit.processes > 1:
        # By name, so that it is not followed: it is of the key where it runs.
        import_module("marwright.pipeline.torchrun").train_together(job)
    else:
        went_on = _train(job)
    meta = read_meta(job.out / "meta.json")
    reached = beside_baseline(meta.task, meta)
    told = [f"{reached} on {meta.split_sizes['test']} test samples"]
    if job.made:
        told.append("as it was trained, judged anew")
    if went_on:
        told.append(f"went on after epoch {went_on}")
    report = read_json(job.out / _REPORT, TrainReport)
    assert report is not None
    # What a person should look at; the report has all of it.
    found = report.data.duplicates
    counted = {
        "faults left out": len(report.data.faults), "contents with two targets": found.conflicting,
        "held-out samples in training": found.leaked, "nearly so": found.near,
        "learned before": found.before, "notes in the report": len(report.events),
    }  # fmt: skip
    told += [f"{what}: {many}" for what, many in counted.items() if many]
    return "; ".join(told)


def _keep_report(job: Job) -> None:
    """Leave the report of a model that is not good enough: what a person looks at first."""
    if (report := job.out / _REPORT).exists():
        job.failed.mkdir(parents=True, exist_ok=True)
        report.replace(job.failed / _REPORT)
        (job.failed / REFUSED_KEY).write_text(job.key, encoding="utf-8")


def take_part(job: Job) -> None:
    """Train as one of several processes. The first of a machine writes what comes of it."""
    from marwright.training import together
    from marwright.training.machine import choose_device

    wanted = job.recipe.fit.processes
    with together.group(choose_device(job.recipe.fit.device)):
        if together.size() != wanted:
            raise TrainError(
                f"[fit] processes = {wanted}, and torchrun was told to start {together.size()}"
            )
        _train(job)


def _train(job: Job) -> int:
    """Train, or go on with it; returns the epoch after which it went on, 0 where it began."""
    from marwright.files import replacing
    from marwright.recipe.types import MAIN_METRIC
    from marwright.training import together
    from marwright.training.checkpoint import outputs_of
    from marwright.training.fitted import Kept, State
    from marwright.training.loop.state import read_state, write_state
    from marwright.training.record import Epoch
    from marwright.training.run import help_train, train
    from marwright.training.types import Checkpoint, read_meta

    recipe, kept_at = job.recipe, time.monotonic()
    parent = None
    if recipe.model.parent:
        weights, described, learned = (job.inputs[name] for name in _PARENT)
        parent = Checkpoint(weights=weights, meta=read_meta(described), learned=learned)

    board = None
    if folder := os.environ.get(_BOARD):
        # By name, so that it is not followed: what it writes is nothing that the step makes.
        board = import_module("marwright.training.board").Board(
            job.root / folder / recipe.name / job.key[:12], MAIN_METRIC[recipe.task]
        )

    def keep(state: State) -> None:
        nonlocal kept_at
        if board is not None:
            board.add(Epoch(**state["epochs"][-1]))
        if time.monotonic() - kept_at >= _EVERY:
            with replacing(job.resume / _STATE) as file:
                write_state(file, job.key, state)
            kept_at = time.monotonic()

    def try_export(ready: Ready) -> None:
        if together.rank() == 0:
            # By name, so that it is not followed: an export is in no training's key.
            trial = import_module("marwright.pipeline.trial")
            outputs = outputs_of(ready.opened.splits)
            trial.try_export(job, ready.network, ready.spec, outputs)

    state = read_state(job.resume / _STATE, job.key) if together.rank() == 0 else None
    resumed = together.of_first(state)
    if resumed is not None:
        print(f"goes on after epoch {len(resumed['epochs'])}", flush=True)
    kept = Kept(state=resumed, keep=keep, folder=_own_folder(job) if recipe.train else None)
    if together.is_first_here():
        try:
            train(
                recipe, job.root, job.out, job.progress,
                parent=parent, kept=kept, before=try_export,
            )  # fmt: skip
        except TrainError:
            _keep_report(job)
            raise
    else:
        help_train(recipe, job.root, parent=parent, kept=kept)
    if board is not None:
        board.close()
    return len(resumed["epochs"]) if resumed is not None else 0


def _own_folder(job: Job) -> Path:
    """Return the folder that a script keeps things in while it trains; of this very training."""
    from shutil import rmtree

    parent = job.resume / "script"
    folder = parent / job.key[:16]
    if not folder.exists():
        rmtree(parent, ignore_errors=True)
        folder.mkdir(parents=True)
    return folder
