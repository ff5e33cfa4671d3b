"""From a comparison to `parity.json`: what counts as wrong, what is shown, and what is noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from marwright.archive.types import to_json
from marwright.parity.compare import Comparison, Found
from marwright.parity.report import WORST, report_of, worst_of
from marwright.parity.types import ParityReport
from marwright.parity.verdict.task import losses
from tests.archive.proven import one_thread
from tests.parity.files import (
    COLUMNS,
    NET,
    ROWS,
    Arrays,
    Net,
    candidate,
    comparison,
    group,
    onnx_file,
    traced_file,
)
from tests.specs import numbers

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

with torch.inference_mode():
    LOGITS = NET(torch.from_numpy(ROWS)).double().numpy()
# Three in ten are not what the checkpoint says.
TARGETS = LOGITS.argmax(axis=1)
TARGETS[::10] = (TARGETS[::10] + 1) % 3
ACCURACY = accuracy_score(TARGETS, LOGITS.argmax(axis=1))
SPEC = numbers(
    tuple("abcde"), center=(10.0,) * 5, scale=(2.0,) * 5,
    target="y", target_mean=0.0, target_std=1.0,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    gate = comparison(candidate(tmp_path_factory.mktemp("healthy")))
    gate.compare([gate.real, group(ROWS[:5] * 3, "boundary")])
    return gate


def compared(folder: Path, **files: Any) -> Comparison:
    gate = comparison(candidate(folder, **files))
    gate.compare([gate.real])
    return gate


def reported(gate: Comparison, **values: Any) -> ParityReport:
    return report_of(gate, flops=100, **{"targets": TARGETS, **values})


def test_healthy_report_holds_what_was_measured(healthy: Comparison) -> None:
    report = reported(healthy, recorded=ACCURACY, labels=("x", "y", "z"), spec=SPEC)
    assert report.ok
    assert (report.problems, report.notes) == ([], [])
    assert report.cases == healthy.cases
    assert report.samples == {"held-out": 30, "boundary": 5}
    assert (report.flops, report.labels, report.precision) == (100, ["x", "y", "z"], "fp32")
    assert report.size == pytest.approx(np.abs(LOGITS).max(), rel=1e-6)
    assert report.signal == pytest.approx((LOGITS - LOGITS.mean(axis=0)).std(), rel=1e-3)
    assert 0 < report.noise < 1e-6 < report.limit < 1e-4
    assert [one.backend for one in report.agreement] == ["torchscript", "onnx", "onnx optimised"]
    for one in report.agreement:
        assert one.reference == one.measured == pytest.approx(ACCURACY)
        assert (one.drop, one.flips) == (0, 0)


def test_same_comparison_same_report_and_it_survives_json(healthy: Comparison) -> None:
    one, two = (reported(healthy, recorded=ACCURACY, spec=SPEC) for _ in range(2))
    assert to_json(one) == to_json(two)
    assert msgspec.json.decode(to_json(one), type=ParityReport) == one


def test_without_targets_the_task_is_not_measured(healthy: Comparison) -> None:
    assert report_of(healthy, flops=1).agreement == []
    assert report_of(healthy, flops=1).ok


def test_nothing_compared_is_not_ok(tmp_path: Path) -> None:
    assert not reported(comparison(candidate(tmp_path))).ok


def nudged(arrays: Arrays) -> None:
    arrays["second.weight"][0] *= np.float32(1.01)


def test_a_fault_is_a_problem_and_stops_the_build(tmp_path: Path) -> None:
    report = reported(compared(tmp_path, onnx=onnx_file(tmp_path, nudged)))
    assert not report.ok
    assert {(p.check, p.backend) for p in report.problems} == {
        ("tolerance", "onnx"), ("tolerance", "onnx optimised"),
    }  # fmt: skip
    for problem in report.problems:
        assert problem.text.startswith("held-out inputs at batch ")
        assert problem.text.endswith("(and in 4 more cases)")
    assert msgspec.json.decode(to_json(report), type=ParityReport) == report


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_can_be_written(tmp_path: Path, value: float) -> None:
    def broken(arrays: Arrays) -> None:
        arrays["second.bias"][2] = value

    report = reported(compared(tmp_path, onnx=onnx_file(tmp_path, broken)), spec=SPEC)
    assert ("finite", "onnx") in {(p.check, p.backend) for p in report.problems}
    assert msgspec.json.decode(to_json(report), type=ParityReport) == report
    # Its metric would be one of labels that are none.
    assert [one.backend for one in report.agreement] == ["torchscript"]
    strange = [one for one in report.worst if one.strange]
    assert report.worst[: len(strange)] == strange != []
    for one in strange:
        assert [element is None for element in one.output] == [False, False, True]
        assert None not in one.reference
        # Of the two other outputs.
        assert 0 <= one.ratio < 1 and 0 <= one.max_error < 1e-5


def test_where_no_output_is_a_number_nothing_was_measured(tmp_path: Path) -> None:
    def broken(arrays: Arrays) -> None:
        arrays["second.bias"][:] = np.nan

    worst = reported(compared(tmp_path, onnx=onnx_file(tmp_path, broken))).worst[0]
    assert (worst.strange, worst.ratio, worst.max_error) == (True, -1, -1)
    assert worst.output == [None] * 3
    assert None not in worst.reference


def test_an_infinity_that_both_give_is_no_fault(tmp_path: Path) -> None:
    def endless(arrays: Arrays) -> None:
        arrays["second.bias"][2] = np.inf

    model = Net().eval()
    with torch.no_grad():
        model.second.bias[2] = torch.inf
    traced, onnx = traced_file(tmp_path, model), onnx_file(tmp_path, endless)
    held = candidate(tmp_path, traced=traced, onnx=onnx, eager=model, yardstick=model)
    gate = comparison(held, task="regression")
    gate.compare([gate.real])
    report = report_of(gate, flops=1)
    assert {problem.check for problem in report.problems} <= {"power"}
    for one in report.worst:
        assert not one.strange
        assert one.reference[2] is one.output[2] is None
    assert msgspec.json.decode(to_json(report), type=ParityReport) == report


def test_checkpoint_s_own_nan_is_noted(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[:2] = np.nan
    gate = comparison(candidate(tmp_path), group(rows))
    gate.compare([gate.real])
    report = reported(gate)
    assert report.ok
    assert report.notes == ["the checkpoint itself gives NaN or infinity for 2 rows"]


def test_inputs_that_rounding_decides_are_noted(tmp_path: Path) -> None:
    gate = compared(tmp_path)
    gate.judge.undecided += [f"random {n}" for n in range(7)]
    assert reported(gate).notes == [
        "7 inputs are not judged, because rounding decides what the checkpoint's output is: "
        "random 0, random 1, random 2, random 3, random 4"
    ]


# The metric


def metric_problems(gate: Comparison, **values: Any) -> list[str]:
    report = reported(gate, **values)
    return [p.text for p in report.problems if (p.check, p.backend) == ("metric", "checkpoint")]


@pytest.mark.parametrize(("off", "said"), [(0.04, False), (-0.04, False), (0.06, True)])
def test_another_metric_than_training_recorded_is_found(
    healthy: Comparison, off: float, said: bool
) -> None:
    """A sample in 30 may be decided otherwise in float64, and no more."""
    problems = metric_problems(healthy, recorded=ACCURACY + off)
    assert problems == [
        f"accuracy on the test split is {ACCURACY:.4f} here, and training recorded "
        f"{ACCURACY + off:.4f}: the preprocessing, the labels or the weights are not training's"
    ] * said  # fmt: skip


LOSSES = losses(LOGITS, TARGETS, "classification").astype(np.float32)
LOSS = float(LOSSES.mean())


@pytest.mark.parametrize(
    ("part", "said"), [(0.0, False), (5e-4, False), (2e-3, True), (-0.01, True)]
)
def test_another_loss_than_training_recorded_is_found(
    healthy: Comparison, part: float, said: bool
) -> None:
    """It moves when no label does."""
    recorded = LOSSES * np.float32(1 + part)
    report = reported(healthy, recorded=ACCURACY, recorded_losses=recorded)
    assert [problem.text for problem in report.problems] == [
        f"the loss of 30 test samples is {LOSS:.6f} here, and training recorded "
        f"{recorded.mean():.6f}: the preprocessing, the labels or the weights are not training's"
    ] * said  # fmt: skip


def test_the_losses_of_a_part_of_the_split_are_those_of_its_own_samples(tmp_path: Path) -> None:
    """Cross entropy has a heavy tail: the mean of a few says nothing of the mean of all."""
    few = np.argsort(LOSSES)[:6]
    assert LOSSES[few].mean() < 0.8 * LOSS
    gate = comparison(candidate(tmp_path), real=group(ROWS[few]))
    gate.compare([gate.real])
    assert reported(gate, targets=TARGETS[few], recorded_losses=LOSSES[few]).ok
    assert not reported(gate, targets=TARGETS[few], recorded_losses=LOSSES[few[::-1]] * 1.01).ok


def swapped(arrays: Arrays) -> None:
    for name in ("second.weight", "second.bias"):
        arrays[name] = arrays[name][[1, 0, 2]]


def test_int8_is_stopped_by_what_it_costs(tmp_path: Path) -> None:
    int8 = onnx_file(tmp_path, swapped, name="model.int8.onnx")
    gate = compared(tmp_path, int8=int8, precision="int8")
    lost = ACCURACY - accuracy_score(TARGETS, LOGITS[:, [1, 0, 2]].argmax(axis=1))
    report = reported(gate, max_metric_drop=0.5)
    [problem] = report.problems
    assert (problem.check, problem.backend) == ("metric", "int8")
    assert f": {100 * lost:.2f} points less, and 0.5 are allowed" in problem.text
    assert report.summary().drop == pytest.approx(100 * lost)
    assert reported(gate, max_metric_drop=100 * lost + 0.1).ok


def test_no_export_may_fall_to_the_baseline_whatever_it_may_cost(tmp_path: Path) -> None:
    int8 = onnx_file(tmp_path, swapped, name="model.int8.onnx")
    gate = compared(tmp_path, int8=int8, precision="int8")
    measured = float(accuracy_score(TARGETS, LOGITS[:, [1, 0, 2]].argmax(axis=1)))
    [problem] = reported(gate, max_metric_drop=100.0, baseline=measured).problems
    assert (problem.check, problem.backend) == ("metric", "int8")
    assert problem.text == (
        f"accuracy is {measured:.4f}, not above the baseline, {measured:.4f}; of the checkpoint it "
        f'is {ACCURACY:.4f}: lower [parity] max_metric_drop, or set [export] precision = "fp32"'
    )
    assert reported(gate, max_metric_drop=100.0, baseline=measured - 0.01).ok
    # Of a checkpoint that is no better, this is not for the exports to say.
    assert reported(gate, max_metric_drop=100.0, baseline=ACCURACY).ok


# Notes


def test_too_few_samples_to_tell_are_noted_of_what_lost_precision(tmp_path: Path) -> None:
    int8 = onnx_file(tmp_path, name="model.int8.onnx")
    gate = compared(tmp_path, int8=int8, precision="int8")
    notes = reported(gate, max_metric_drop=5).notes
    # No label changed, and the bootstrap would be sure of itself.
    assert reported(gate).agreement[-1].interval == (0, 0)
    assert notes == [
        "int8: 30 held-out samples are too few to tell a drop of 5 points: they show one of 0.00, "
        "give or take 10.00"
    ]
    assert reported(gate, max_metric_drop=11).notes == []
    exact = compared(tmp_path)
    assert reported(exact, max_metric_drop=0.01).notes == []


def test_of_bfloat16_only_the_traced_module_is_noted(tmp_path: Path) -> None:
    class Reduced(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs.bfloat16()).float()

    reduced = Reduced().bfloat16().eval()
    traced = traced_file(tmp_path, reduced)
    gate = compared(tmp_path, traced=traced, yardstick=reduced, precision="bf16")
    report = reported(gate, max_metric_drop=5)
    assert [note.partition(":")[0] for note in report.notes] == ["torchscript"]
    # Its limit is the one that holds for what is packed.
    assert report.limit == gate.judge.calibrated.limit["torchscript"].max()
    assert report.limit > 100 * gate.judge.calibrated.limit["onnx"].max()


# What is shown


def found(ratio: float, row: float, **values: Any) -> Found:
    given: dict[str, Any] = {
        "kind": "random", "backend": "onnx", "batch": 1, "name": f"row {row}",
        "row": np.full(COLUMNS, row, np.float32), "strange": False, "ratio": ratio, "error": 0.0,
        "margin": 0.0, "reference": np.zeros(3), "output": np.zeros(3), **values,
    }  # fmt: skip
    return Found(**given)


def test_the_worst_come_first_and_each_once() -> None:
    several = [
        found(0.5, 1), found(3.0, 2), found(2.0, 2), found(0.1, 3, strange=True),
        found(-1.0, 4, error=0.5), found(-1.0, 5, error=0.75),
    ]  # fmt: skip
    assert [one.name for one in worst_of(several)] == [
        "row 3", "row 2", "row 1", "row 5", "row 4",
    ]  # fmt: skip
    assert [one.ratio for one in worst_of([found(n, n) for n in range(20)])] == [
        *range(19, 19 - WORST, -1)
    ]


def test_int8_has_half_of_the_places_and_sure_labels_that_flip_come_first() -> None:
    exact = [found(0.1 * n, n) for n in range(20)]
    quantised = [
        found(-1.0, 30 + n, backend="int8", error=n, margin=margin)
        for n, margin in enumerate((0.0, 0.5, 0.0, 2.0, 0.0))
    ]
    worst = [one.name for one in worst_of([*exact, *quantised])]
    assert worst == [*(f"row {n}" for n in (19, 18, 17, 16, 33, 31, 34, 32))]
    # A row that both have is told once; what is no number comes first, whoever gives it.
    both = found(-1.0, 19, backend="int8", margin=3.0)
    broken = found(-1.0, 40, backend="int8", strange=True)
    worst = [one.name for one in worst_of([*exact, *quantised, both, broken])]
    assert worst == [*(f"row {n}" for n in (40, 19, 18, 17, 16, 33, 31, 34))]


def test_worst_inputs_are_shown_with_what_was_answered(tmp_path: Path) -> None:
    report = reported(compared(tmp_path, onnx=onnx_file(tmp_path, nudged)), spec=SPEC)
    assert 2 < len(report.worst) <= WORST
    ratios = [one.ratio for one in report.worst]
    assert ratios == sorted(ratios, reverse=True)
    assert len({one.name for one in report.worst}) == len(report.worst)
    for one in report.worst:
        place = int(one.name.split()[-1])
        assert one.elements == [0, 1, 2]
        assert one.reference == pytest.approx(LOGITS[place], abs=1e-5)
        off = np.abs(np.subtract(one.reference, one.output))
        assert off.max() == pytest.approx(one.max_error, rel=1e-6)
        assert one.png == ""
        assert list(one.values) == list("abcde")
        assert list(one.values.values()) == pytest.approx(10 + 2 * ROWS[place], rel=1e-5)


def test_plots_are_of_every_element_and_its_ratio(healthy: Comparison) -> None:
    plots = reported(healthy).plots
    assert [plot.backend for plot in plots] == ["torchscript", "onnx", "onnx optimised"]
    for plot in plots:
        assert plot.reference == pytest.approx(LOGITS.ravel(), abs=1e-5)
        assert plot.output == pytest.approx(plot.reference, abs=1e-5)
        assert len(plot.edges) == len(plot.counts) + 1
        assert sum(plot.counts) == LOGITS.size
        # Nothing is above the limit, which is ten to the power of nothing.
        assert sum(plot.counts[plot.edges.index(0) :]) == 0


@pytest.mark.parametrize("change", [nudged, swapped])
def test_a_histogram_counts_what_is_above_the_limit(
    tmp_path: Path, change: Callable[[Arrays], None]
) -> None:
    gate = compared(tmp_path, onnx=onnx_file(tmp_path, change))
    plot = next(plot for plot in reported(gate).plots if plot.backend == "onnx")
    error = np.abs(gate.outputs["onnx"] - gate.judge.calibrated.reference)
    above = int((error >= gate.judge.calibrated.limit["onnx"]).sum())
    assert sum(plot.counts[plot.edges.index(0) :]) == above > 0


def test_a_plot_of_many_outputs_is_thinned_out(tmp_path: Path) -> None:
    gate = comparison(candidate(tmp_path), group(np.tile(ROWS, (20, 1))))
    gate.compare([gate.real])
    for plot in report_of(gate, flops=1).plots:
        assert len(plot.reference) == len(plot.output) == 400
        assert sum(plot.counts) == 1800
