"""What is known of a model as it was last built, and why it is not current."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from marwright.archive.types import read_json
from marwright.files import sha256_file
from marwright.parity.types import ParityReport, Summary
from marwright.pipeline.keys import KeyMaker
from marwright.pipeline.layout import Layout
from marwright.pipeline.plan import STEPS
from marwright.pipeline.state import read_record
from marwright.pipeline.status import Status, statuses
from marwright.pipeline.steps.train import REFUSED_KEY
from marwright.pipeline.steps.train import STEP as TRAIN
from marwright.recipe.errors import MarwrightError
from marwright.recipe.types import MAIN_METRIC, Recipe

NONE = "–"
REFUSED = "train was refused: "
# Said of what was made of weights that have been trained anew since.
OTHER_CHECKPOINT = "another checkpoint"
# Said of a metric where the training since then was refused or failed.
CHECKPOINT_BEFORE = "the checkpoint before"
# What makes a checkpoint, as later steps read it.
_CHECKPOINT = ("weights.safetensors", "meta.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a model as it was last built, ready to be printed.

    `metric` stands beside its baseline; `exports` say how closely they agree with the checkpoint,
    and nothing of how good that is. What is of another checkpoint than the metric says so.
    """

    metric: str
    exports: str
    published: str


def facts_of(model: str, layout: Layout) -> Facts:
    """Return what the last build of a model left."""
    report = read_json(layout.folder(model) / "parity.json", ParityReport)
    return Facts(
        metric=metric_of(model, layout) or NONE,
        exports=NONE
        if report is None
        else _exports(report.summary()) + _mark(of_this_checkpoint("parity", model, layout)),
        published=_published(model, layout),
    )


def metric_of(model: str, layout: Layout) -> str:
    """Return a model's main metric on the test split, ready to be printed; nothing without one."""
    meta = read_json(layout.folder(model) / "meta.json", dict[str, Any]) or {}
    metric = MAIN_METRIC.get(meta.get("task", ""), "")
    value, baseline = (meta.get(key, {}).get(metric) for key in ("metrics", "baseline"))
    if value is None:
        return ""
    return f"{metric} {value:.4f}" + ("" if baseline is None else f" (baseline {baseline:.4f})")


def of_this_checkpoint(step: str, model: str, layout: Layout) -> bool:
    """Whether what a step last made is of the checkpoint that is there now."""
    trained, made = (read_record(layout.record(model, name)) for name in ("train", step))
    if trained is None or made is None:
        return False
    outputs = {name: trained.outputs.get(layout.output(model, name)) for name in _CHECKPOINT}
    return all(
        output is not None and made.parts.get(f"input {name}", output.sha256) == output.sha256
        for name, output in outputs.items()
    )


def _mark(is_of_it: bool) -> str:
    return "" if is_of_it else f" ({OTHER_CHECKPOINT})"


def _exports(summary: Summary) -> str:
    """Return the largest error on held-out samples, how much of what is allowed was used, and
    what a reduced precision costs of the metric.
    """
    cost = "" if summary.drop is None else f", {summary.precision} {-summary.drop:+z.2f} points"
    return f"≤ {summary.max_error:.1e}, {100 * summary.worst_ratio:.0f} % of limit{cost}"


def _published(model: str, layout: Layout) -> str:
    record = read_record(layout.record(model, "verify"))
    target = layout.store_target(model)
    if not target.exists():
        return NONE
    path = target.relative_to(layout.root).as_posix()
    if record is None or path not in record.outputs:
        return "not by this build"
    output = record.outputs[path]
    if not output.looks_untouched(target) and sha256_file(target) != output.sha256:
        return "changed since"
    archive = read_record(layout.record(model, "archive"))
    packed = None
    if archive is not None:
        packed = archive.outputs.get(layout.output(model, "model.mar"))
    is_of_it = (
        packed is not None
        and record.parts.get("input model.mar") == packed.sha256
        and of_this_checkpoint("archive", model, layout)
    )
    return f"{output.sha256[:12]}… {output.size / 1024:.0f} KiB{_mark(is_of_it)}"


def why_not_current(recipe: Recipe, layout: Layout, keys: KeyMaker) -> str:
    """Say of the first step that is not current why; nothing where all are."""
    try:
        for status in statuses(recipe, STEPS, layout, keys):
            if status.state != "current":
                return _refused(status, recipe, layout) or _state(status)
    except MarwrightError as error:
        return str(error)
    return ""


def _state(first: Status) -> str:
    return f"{first.step.name} is stale" if first.state == "stale" else first.reasons[0]


def _refused(first: Status, recipe: Recipe, layout: Layout) -> str:
    """Say in short why the model of the last training must not ship.

    Nothing where training would make another one now, or where the recipe's minimum allows it now.
    """
    from marwright.pipeline.run_step import resume_key
    from marwright.training.accepted import refusal
    from marwright.training.record import TrainReport

    folder = layout.failed(recipe.name, TRAIN.name)
    key, report = folder / REFUSED_KEY, read_json(folder / "train.json", TrainReport)
    if first.step is not TRAIN or first.parts is None or report is None or not key.exists():
        return ""
    if key.read_text(encoding="utf-8") != resume_key(first):
        return ""
    problem = refusal(recipe, report, sum(report.data.counts["test"]))
    return f"{REFUSED}{re.split('[:;]', problem)[0]}" if problem else ""


def judged_anew(model: str, layout: Layout) -> bool:
    """Whether what was refused is the checkpoint that is there: only the minimum was raised."""
    refused, kept = (
        read_json(folder / "train.json", dict[str, Any])
        for folder in (layout.failed(model, TRAIN.name), layout.folder(model))
    )
    return refused == kept
