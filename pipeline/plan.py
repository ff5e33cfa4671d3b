"""The order of the steps, and how far each verb goes."""

from __future__ import annotations

from pipeline.step import Step
from pipeline.steps import archive, onnx, parity, trace, train, verify

STEPS: tuple[Step, ...] = (
    train.STEP,
    trace.STEP,
    onnx.STEP,
    parity.STEP,
    archive.STEP,
    verify.STEP,
)

# A verb builds up to a step. `archive` ends in the store, so it verifies what it made.
GOALS = {
    "train": "trace",
    "onnx": "onnx",
    "parity": "parity",
    "archive": "verify",
    "verify": "verify",
}


def steps_up_to(goal: str) -> tuple[Step, ...]:
    """Return the steps in order, up to and with the named one."""
    names = [step.name for step in STEPS]
    return STEPS[: names.index(goal) + 1]


def furthest(verbs: list[str]) -> str:
    """Return the step that the most ambitious of some verbs goes up to."""
    names = [step.name for step in STEPS]
    return max((GOALS[verb] for verb in verbs), key=names.index)
