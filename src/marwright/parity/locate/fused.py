"""Where an optimised ONNX graph begins to differ, when looking at every value hides it.

onnxruntime cannot fuse away a value that is an output. So one value at a time is made one, and
the rest stays as it is deployed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from marwright.parity.locate.layers import Compared, Trial, compare
from marwright.parity.locate.program import Step, walk


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """The first value that is wrong, those that were found to be within, and how it was found."""

    found: Compared
    within: Mapping[str, Compared]
    how: str


def locate_fused(trial: Trial, k: float, floor: float) -> Fused | None:
    """Bisect the values of an optimised graph, in the checkpoint's order.

    None where the output is within when nothing else is exposed. Raises `RuntimeError` when
    onnxruntime fails.
    """
    steps = {value: name for name, value in trial.shared().items()}
    values, output = list(steps), trial.graph.outputs[0]
    end = _step(trial, steps[output])
    found = _exposed(trial, output, end)[0]
    if found.within(k, floor):
        return None
    within: dict[str, Compared] = {}
    healing: Compared | None = None
    low, high = -1, values.index(output)
    while high - low > 1:
        middle = (low + high) // 2
        value = values[middle]
        each, last = _exposed(trial, value, _step(trial, steps[value]), end)
        if not each.within(k, floor):
            high, found, healing = middle, each, None
        elif last.within(k, floor):
            high, healing = middle, each
        else:
            low, within[value] = middle, each
    if healing is None:
        return _earliest(trial, steps, found, within, k, floor)
    how = (
        f"kept as an output, {healing.value} is right, and so is {found.value} then: "
        f"onnxruntime's optimisations go wrong where they fuse this node away; the error is that "
        f"of {found.value}"
    )
    return Fused(found=replace(healing, error=found.error), within=within, how=how)


def _earliest(
    trial: Trial,
    steps: Mapping[str, str],
    found: Compared,
    within: dict[str, Compared],
    k: float,
    floor: float,
) -> Fused:
    """Follow a wrong value back to one whose sources are all within: branches have no one order."""
    while True:
        _, sources = trial.graph.between(found.value, set(steps))
        for value in sources:
            if value in steps and value not in within:
                each = _exposed(trial, value, _step(trial, steps[value]))[0]
                if not each.within(k, floor):
                    found = each
                    break
                within[value] = each
        else:
            how = "found by exposing one value at a time, the rest optimised"
            return Fused(found=found, within=within, how=how)


def _step(trial: Trial, name: str) -> Step:
    return next(step for step in walk(trial.program, trial.inputs) if step.name == name)


def _exposed(trial: Trial, value: str, *steps: Step) -> list[Compared]:
    """Run with a value as an output, and compare it, and the graph's own output if asked."""
    values = [value, trial.graph.outputs[0]][: len(steps)]
    arrays = trial.run(values)
    return [compare(each, arrays[each], step) for each, step in zip(values, steps, strict=True)]
