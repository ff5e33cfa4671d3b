"""One case: what it measures, and each fault that it names, on numbers made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from marwright.parity.inputs import Group
from marwright.parity.types import BackendName, Case, Kind
from marwright.parity.verdict.case import (
    Fault,
    Trial,
    judge_trial,
    not_measured,
    problems_of,
    where_of,
)
from marwright.parity.verdict.judge import Expected
from marwright.parity.verdict.tolerance import Floats

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

REFERENCE = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.45, 0.0], [0.0, 0.0, 2.0]])
EVERY = np.arange(4)


def expected(
    limit: float = 0.1, *, backend: BackendName = "onnx", kind: Kind = "held-out"
) -> Expected:
    rows = np.zeros((4, 1, 2, 3), np.float32)
    return Expected(
        group=Group(kind=kind, rows=rows, names=tuple(f"sample {n}" for n in range(4))),
        reference=REFERENCE,
        decided=np.ones(len(REFERENCE), dtype=bool),
        eager={backend: REFERENCE},
        limit={backend: np.full_like(REFERENCE, limit)},
    )


def tried(
    outputs: Floats, *, alone: Floats | None = None, classification: bool = True, **more: Any
) -> tuple[Case, list[Fault]]:
    """Judge outputs of all rows, or of those given."""
    values: dict[str, Any] = {"backend": "onnx", "expected": expected(), "batch": 2, "rows": EVERY}
    trial = Trial(outputs=outputs, alone=alone, **{**values, **more})
    case, _, faults = judge_trial(trial, classification=classification)
    return case, faults


def checks(faults: list[Fault]) -> list[str]:
    return [fault.check for fault in faults]


def test_what_agrees_is_a_case_without_faults() -> None:
    case, faults = tried(REFERENCE + np.array([0.05, 0.0, -0.02]), alone=REFERENCE)
    assert faults == []
    assert case == Case(
        backend="onnx", kind="held-out", batch=2, shape=[1, 2, 3], samples=4,
        max_error=case.max_error, ratio=case.ratio, batch_ratio=case.batch_ratio,
        flips=0, forgiven=0, worst_sample=0, ok=True,
    )  # fmt: skip
    assert case.max_error == pytest.approx(0.05)
    assert case.ratio == pytest.approx(0.5)
    assert case.batch_ratio == pytest.approx(0.5)


@pytest.mark.parametrize(("off", "ok"), [(0.099, True), (0.101, False), (-0.101, False)])
def test_an_error_above_the_limit_is_a_fault_on_its_row(off: float, ok: bool) -> None:
    outputs = REFERENCE.copy()
    outputs[3, 0] += off
    case, faults = tried(outputs)
    assert case.ok is ok
    assert case.worst_sample == 3
    assert case.ratio == pytest.approx(abs(off) / 0.1)
    if not ok:
        [fault] = faults
        assert (fault.check, fault.backend) == ("tolerance", "onnx")
        assert fault.where == "held-out inputs at batch 2"
        assert fault.text == "off by 1.01e-01, 1.01 times what is allowed, on sample 3"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_faults_of_their_own(value: float) -> None:
    outputs = REFERENCE.copy()
    outputs[1:3, 2] = value
    case, faults = tried(outputs, classification=False)
    assert checks(faults) == ["finite"]
    assert (case.ok, case.worst_sample) == (False, 1)
    assert faults[0].text.endswith("in 2 of 4 rows; the first is sample 1")


def test_a_label_that_is_lost_is_a_fault_unless_it_was_a_close_call() -> None:
    close, clear = REFERENCE.copy(), REFERENCE.copy()
    close[2] = [0.45, 0.5, 0.0]
    case, faults = tried(close)
    assert (case.ok, case.flips, case.forgiven) == (True, 1, 1)
    clear[0] = [0.0, 1.0, 0.0]
    case, faults = tried(clear, expected=expected(limit=0.3))
    assert (case.ok, case.flips, case.forgiven) == (False, 1, 0)
    assert checks(faults) == ["tolerance", "labels"]
    assert faults[1].text.startswith("1 of 4 rows get another label although")
    assert tried(clear, classification=False)[0].flips == 0


def test_rows_are_those_that_went_through_more_than_once_too() -> None:
    """The last batch is filled up with the first rows; the worst one is named by its own place."""
    rows = np.array([0, 1, 2, 3, 0, 1])
    outputs = REFERENCE[rows].copy()
    outputs[5, 0] = 0.5
    case, faults = tried(outputs, rows=rows, batch=3)
    assert (case.samples, case.worst_sample, case.batch) == (6, 1, 3)
    assert faults[0].text.endswith("on sample 1")


# Batch invariance


def test_a_row_may_not_be_another_one_among_others() -> None:
    outputs = REFERENCE.copy()
    # Each within the limit, and further from each other than that.
    outputs[1] += 0.06
    alone = REFERENCE.copy()
    alone[1] -= 0.06
    case, faults = tried(outputs, alone=alone)
    assert case.ratio == pytest.approx(0.6)
    assert case.batch_ratio == pytest.approx(1.2)
    assert checks(faults) == ["invariance"]
    assert not case.ok
    assert tried(outputs, alone=REFERENCE)[1] == []


def test_only_rows_that_were_alone_are_held_against_themselves() -> None:
    outputs = REFERENCE.copy()
    outputs[3] += 0.09
    assert tried(outputs, alone=REFERENCE[:2])[0].batch_ratio == 0
    rows = np.array([3, 2, 1])
    case, _ = tried(REFERENCE[rows] + 0.05, alone=REFERENCE[:2], rows=rows)
    assert case.batch_ratio == pytest.approx(0.5)
    assert tried(outputs, alone=None)[0].batch_ratio == -1


def test_nan_among_others_is_another_check_s() -> None:
    alone = REFERENCE.copy()
    alone[0] = np.nan
    assert tried(REFERENCE, alone=alone)[0].batch_ratio == 0


# int8


def test_int8_is_not_held_against_a_limit_and_its_flips_are_counted() -> None:
    outputs = REFERENCE.copy()
    # A margin of 1, and one of 0.05; on the whole, it errs by the root of a twelfth of 1.16.
    outputs[0], outputs[2] = [0.0, 0.1, 0.0], [0.5, 0.9, 0.0]
    case, faults = tried(
        outputs, backend="int8", expected=expected(np.inf, backend="int8"), alone=outputs
    )
    assert (faults, case.ok, case.ratio) == ([], True, -1)
    assert case.max_error == pytest.approx(1.0)
    assert (case.worst_sample, case.flips, case.forgiven) == (0, 2, 1)
    assert case.batch_ratio == 0


def test_int8_may_not_depend_on_neighbours_by_more_than_it_errs() -> None:
    known, alone = expected(np.inf, backend="int8"), REFERENCE + 0.01
    for move, said in ((0.009, []), (0.03, ["invariance"])):
        case, faults = tried(alone + move, backend="int8", expected=known, alone=alone)
        assert checks(faults) == said
        assert case.batch_ratio == pytest.approx(move / 0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_int8_may_not_give_nan_or_infinity(value: float) -> None:
    outputs = REFERENCE.copy()
    outputs[2, 0] = value
    known = expected(np.inf, backend="int8")
    case, faults = tried(outputs, backend="int8", expected=known)
    assert checks(faults) == ["finite"]
    assert (case.ok, case.worst_sample) == (False, 2)


# In words


def test_where_names_the_size_where_sizes_vary() -> None:
    assert where_of(expected(kind="boundary"), 3) == "boundary inputs at batch 3"
    assert where_of(expected(kind="shapes"), 3) == "shapes inputs of 1×2×3 at batch 3"


def test_what_could_not_run_is_a_case_that_failed() -> None:
    case = not_measured("onnx", expected(), 7, 28)
    assert (case.ok, case.ratio, case.max_error, case.batch_ratio) == (False, -1, -1, -1)
    assert (case.batch, case.samples, case.shape) == (7, 28, [1, 2, 3])


def test_faults_of_a_kind_are_one_problem_told_by_the_worst() -> None:
    faults = [
        Fault(check="tolerance", backend="onnx", text="small", where="here", ratio=2),
        Fault(check="labels", backend="onnx", text="flipped", where="here", ratio=1),
        Fault(check="tolerance", backend="onnx", text="large", where="there", ratio=9),
        Fault(check="tolerance", backend="torchscript", text="other", where="here", ratio=3),
        Fault(check="power", backend="checkpoint", text="constant"),
        Fault(check="tolerance", backend="onnx", text="middling", where="here", ratio=5),
    ]
    problems = problems_of(faults)
    assert {(p.backend, p.check, p.text) for p in problems} == {
        ("onnx", "tolerance", "there: large (and in 2 more cases)"),
        ("onnx", "labels", "here: flipped"),
        ("torchscript", "tolerance", "here: other"),
        ("checkpoint", "power", "constant"),
    }
    assert problems == problems_of(faults[::-1])
    assert problems_of([]) == []
