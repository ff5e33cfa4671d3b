"""The order of the steps, and how far each verb goes."""

from __future__ import annotations

from marwright.pipeline.step import Step
from marwright.pipeline.steps import (
    answers,
    archive,
    onnx,
    parity,
    quantise,
    report,
    trace,
    train,
    verify,
)
from marwright.pipeline.steps import quick as quick_step

STEPS: tuple[Step, ...] = (
    train.STEP,
    trace.STEP,
    onnx.STEP,
    quantise.STEP,
    parity.STEP,
    answers.STEP,
    report.STEP,
    archive.STEP,
    verify.STEP,
)

# A verb builds up to a step. The gate ends with the handler's answers, and `archive` in the store,
# so it verifies what it made.
GOALS = {
    "train": "trace",
    "onnx": "onnx",
    "parity": "answers",
    "report": "report",
    "archive": "verify",
    "verify": "verify",
}


def steps_up_to(goal: str) -> tuple[Step, ...]:
    """Return the steps in order, up to and with the named one."""
    names = [step.name for step in STEPS]
    return STEPS[: names.index(goal) + 1]


def steps_of_quick_look() -> tuple[Step, ...]:
    """Return the steps of `parity --quick`: a look at the gate, which leads to no archive."""
    return (*steps_up_to("quantise"), quick_step.STEP)


def furthest(verbs: list[str]) -> str:
    """Return the step that the most ambitious of some verbs goes up to."""
    names = [step.name for step in STEPS]
    return max((GOALS[verb] for verb in verbs), key=names.index)
