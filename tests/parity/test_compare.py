"""Every backend on every group at every batch size, and what each kind of fault is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from marwright.parity.compare import BATCHES, Comparison, whole_batches
from marwright.parity.types import BackendName
from tests.archive.proven import one_thread
from tests.parity.files import (
    COLUMNS,
    NET,
    ROWS,
    WEIGHTS,
    Arrays,
    Net,
    candidate,
    comparison,
    group,
    onnx_file,
    scripted_file,
    traced_file,
)

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

# Two rows are above it.
HIGH = float(np.sort(ROWS[:, 0])[-3])
EXACT: tuple[BackendName, ...] = ("torchscript", "onnx", "onnx optimised")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def compared(gate: Comparison, *more: Any) -> Comparison:
    gate.compare([gate.real, *more])
    return gate


def faults(gate: Comparison) -> set[tuple[str, str]]:
    return {(fault.backend, fault.check) for fault in gate.faults}


# What is compared


def test_a_healthy_candidate_is_compared_everywhere_and_has_no_fault(tmp_path: Path) -> None:
    edges = group(ROWS[:5] * 3, "boundary")
    gate = compared(comparison(candidate(tmp_path)), edges)
    assert gate.faults == []
    assert all(case.ok for case in gate.cases)
    assert [(c.backend, c.kind, c.batch) for c in gate.cases] == [
        (backend, kind, batch)
        for backend in EXACT
        for kind, batches in (("held-out", (1, 2, 3, 4, 7)), ("boundary", (1, 4)))
        for batch in batches
    ]
    assert gate.samples == {"held-out": 30, "boundary": 5}
    for case in gate.cases:
        # Whole batches only, or the case would measure another size as well.
        assert case.samples % case.batch == 0
        assert case.samples >= (30 if case.kind == "held-out" else 5)
        assert case.shape == [COLUMNS]
        assert 0 <= case.ratio < 1
        assert 0 <= case.batch_ratio < 1


def test_all_rows_go_through_at_the_serving_batch_and_some_at_the_others(tmp_path: Path) -> None:
    gate = compared(comparison(candidate(tmp_path), singles=6))
    counts = {case.batch: case.samples for case in gate.cases}
    assert counts == {1: 6, 2: 6, 3: 6, 4: 32, 7: 7}


def test_at_a_serving_batch_of_one_pairs_are_tried_as_well(tmp_path: Path) -> None:
    gate = compared(comparison(candidate(tmp_path), serving=1), group(ROWS[:3], "random"))
    sizes = {(case.kind, case.batch) for case in gate.cases}
    assert {size for kind, size in sizes if kind == "random"} == {1, 2}
    assert {size for kind, size in sizes if kind == "held-out"} == set(BATCHES)


def test_outputs_of_real_rows_are_kept_for_the_task(tmp_path: Path) -> None:
    gate = compared(comparison(candidate(tmp_path)), group(ROWS[:5] * 3, "boundary"))
    with torch.inference_mode():
        expected = NET(torch.from_numpy(ROWS)).numpy()
    assert list(gate.outputs) == list(EXACT)
    for outputs in gate.outputs.values():
        assert outputs.shape == (30, 3)
        assert np.allclose(outputs, expected, atol=1e-5)


def test_progress_counts_every_case(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    gate = comparison(candidate(tmp_path))
    gate.compare([gate.real], lambda *state: told.append(state))
    assert [done for done, _, _ in told] == list(range(1, len(gate.cases) + 1))
    assert {total for _, total, _ in told} == {len(gate.cases)}
    assert told[0][2] == "torchscript: held-out at batch 1"


def test_what_is_compared_later_is_added(tmp_path: Path) -> None:
    gate = compared(comparison(candidate(tmp_path)))
    count = len(gate.cases)
    gate.compare([group(ROWS[:4], "worst")])
    assert len(gate.cases) == count + 3 * 2
    assert gate.samples == {"held-out": 30, "worst": 4}


def test_the_last_batch_is_filled_up_with_the_first_rows() -> None:
    assert whole_batches(5, 7, 64).tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert whole_batches(5, 1, 64).tolist() == [0, 1, 2, 3, 4]
    assert whole_batches(300, 7, 64).tolist() == list(range(70))
    assert whole_batches(300, 1, 64).tolist() == list(range(64))
    assert whole_batches(2, 5, 1).tolist() == [0, 1, 0, 1, 0]


def test_the_worst_rows_of_each_case_are_kept(tmp_path: Path) -> None:
    class Spoilt(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) + 1e-3 * (inputs[:, :1] > HIGH)

    gate = compared(comparison(candidate(tmp_path, traced=traced_file(tmp_path, Spoilt()))))
    high = {f"held-out {n}" for n in np.flatnonzero(ROWS[:, 0] > HIGH)}
    assert len(high) == 2
    mine = [f for f in gate.found if f.backend == "torchscript" and f.ratio > 1]
    assert {found.name for found in mine} == high
    for found in mine:
        assert found.error == pytest.approx(1e-3, rel=1e-2)
        assert (found.row == ROWS[int(found.name.split()[-1])]).all()
        assert np.abs(found.output - found.reference).max() == pytest.approx(found.error)
        assert not found.strange
    assert faults(gate) == {("torchscript", "tolerance")}


# Faults


def nudged(arrays: Arrays) -> None:
    arrays["second.weight"][0, np.abs(arrays["second.weight"][0]).argmax()] *= np.float32(1.01)


def swapped(arrays: Arrays) -> None:
    for name in ("second.weight", "second.bias"):
        arrays[name] = arrays[name][[1, 0, 2]]


def broken(arrays: Arrays) -> None:
    arrays["second.bias"][2] = np.nan


def missing_output(arrays: Arrays) -> None:
    for name in ("second.weight", "second.bias"):
        arrays[name] = arrays[name][:2]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (nudged, "tolerance"),
        (swapped, "labels"),
        (broken, "finite"),
        (missing_output, "runs"),
    ],
)
def test_a_fault_in_the_onnx_file_is_of_both_its_backends_only(
    tmp_path: Path, change: Callable[[Arrays], None], check: str
) -> None:
    gate = compared(comparison(candidate(tmp_path, onnx=onnx_file(tmp_path, change))))
    assert {("onnx", check), ("onnx optimised", check)} <= faults(gate)
    assert {fault.backend for fault in gate.faults} == {"onnx", "onnx optimised"}
    assert all(case.ok == (case.backend == "torchscript") for case in gate.cases)


def test_an_output_that_is_missing_is_said_with_both_counts(tmp_path: Path) -> None:
    gate = compared(comparison(candidate(tmp_path, onnx=onnx_file(tmp_path, missing_output))))
    assert "gives 2 outputs a row, not 3" in gate.faults[0].text
    failed = [case for case in gate.cases if not case.ok]
    assert {(case.ratio, case.max_error) for case in failed} == {(-1, -1)}
    assert "onnx" not in gate.outputs


def test_a_baked_batch_size_fails_at_the_others(tmp_path: Path) -> None:
    gate = compared(comparison(candidate(tmp_path, onnx=onnx_file(tmp_path, batch=1))))
    assert faults(gate) == {("onnx", "runs"), ("onnx optimised", "runs")}
    onnx = {case.batch: case.ok for case in gate.cases if case.backend == "onnx"}
    assert onnx == {1: True, 2: False, 3: False, 4: False, 7: False}
    assert "Got invalid dimensions for input: input" in gate.faults[0].text
    assert gate.faults[0].where == "held-out inputs at batch 2"


def test_rows_that_strangely_become_nan_are_kept_as_the_worst(tmp_path: Path) -> None:
    class Rooted(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) + 0 * (HIGH - inputs[:, :1]).sqrt()

    gate = compared(comparison(candidate(tmp_path, traced=traced_file(tmp_path, Rooted()))))
    # A row of NaN has no label either.
    assert faults(gate) == {("torchscript", "finite"), ("torchscript", "labels")}
    strange = {found.name for found in gate.found if found.strange}
    assert strange == {f"held-out {n}" for n in np.flatnonzero(ROWS[:, 0] > HIGH)}


def test_a_row_that_depends_on_its_neighbours_is_noticed(tmp_path: Path) -> None:
    class Centred(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs = super().forward(inputs)
            return outputs + 1e-3 * (outputs.mean(dim=0) - outputs[0])

    path = traced_file(tmp_path, Centred())
    gate = compared(comparison(candidate(tmp_path, traced=path)))
    assert ("torchscript", "invariance") in faults(gate)
    assert {fault.backend for fault in gate.faults} == {"torchscript"}
    # Alone, each row is right.
    assert all(case.ok for case in gate.cases if case.batch == 1)
    # The checkpoint itself may do so no more than an export.
    model = Centred().eval()
    both = compared(comparison(candidate(tmp_path, traced=path, eager=model, yardstick=model)))
    assert ("checkpoint", "invariance") in faults(both)


class Constant(nn.Module):
    """What an untrained head of zeros gives: the same, whatever comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([0.5, 0.25, 0.125]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.bias + 0 * inputs[:, :3]


class Faint(Constant):
    """It depends on the input by less than float32 can say."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.bias + 1e-7 * inputs[:, :3]


@pytest.mark.parametrize("model", [Constant(), Faint()])
def test_an_output_that_does_not_depend_on_the_input_proves_nothing(
    tmp_path: Path, model: nn.Module
) -> None:
    model = model.eval()
    path = traced_file(tmp_path, model)
    gate = comparison(candidate(tmp_path, traced=path, eager=model, yardstick=model))
    assert faults(gate) == {("checkpoint", "power")}
    assert "the output hardly depends on the input" in gate.faults[0].text


def test_a_branch_that_no_real_row_takes_is_seen_at_the_edge(tmp_path: Path) -> None:
    class Branching(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs = self.second(self.first(inputs).tanh())
            if bool((inputs.abs().mean(1) > 3).any()):
                outputs = outputs + 4.6
            return outputs

    held = candidate(tmp_path, traced=scripted_file(tmp_path, Branching()))
    assert compared(comparison(held)).faults == []
    gate = compared(comparison(held), group(np.full((1, COLUMNS), 4, np.float32), "boundary"))
    assert faults(gate) == {("torchscript", "tolerance")}
    assert gate.faults[0].where == "boundary inputs at batch 1"


def test_a_checkpoint_that_draws_at_random_is_named_as_that(tmp_path: Path) -> None:
    class Drawing(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.dropout(super().forward(inputs), 0.5, training=True)

    model = Drawing().eval()
    gate = compared(comparison(candidate(tmp_path, eager=model, yardstick=model)))
    said = [fault.text for fault in gate.faults if fault.backend == "checkpoint"]
    assert any(text.startswith("two runs on the same rows differ") for text in said)
    assert not any("neighbours" in text for text in said)


def test_a_batch_of_each_failing_case_is_kept_as_it_was(tmp_path: Path) -> None:
    class Late(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            wrong = 1e-2 * (inputs[:, :1] > HIGH)
            return super().forward(inputs) + wrong

    gate = compared(comparison(candidate(tmp_path, traced=traced_file(tmp_path, Late()))))
    assert list(gate.failing) == ["torchscript"]
    assert sorted(len(batch) for batch in gate.failing["torchscript"]) == [1, 2, 3, 4, 7]
    for batch in gate.failing["torchscript"]:
        assert (batch[:, 0] > HIGH).any()
    fine = compared(comparison(candidate(tmp_path)))
    assert fine.failing == {}


# Files


@pytest.mark.parametrize("origin", ["cd" * 32, ""])
def test_files_of_other_weights_are_named_however_well_they_agree(
    tmp_path: Path, origin: str
) -> None:
    files = {
        "traced": traced_file(tmp_path, origin=origin),
        "onnx": onnx_file(tmp_path, origin=origin),
        "int8": onnx_file(tmp_path, origin=origin, name="model.int8.onnx"),
    }
    gate = comparison(candidate(tmp_path, **files))
    assert faults(gate) == {(name, "origin") for name in ("torchscript", "onnx", "int8")}
    said = "weights cdcdcdcdcdcd…" if origin else "weights that it does not name"
    assert gate.faults[0].text == (f"made from {said}, not from this checkpoint's {WEIGHTS[:12]}…")
    # Where nothing is known of the weights, nothing is asked.
    assert comparison(candidate(tmp_path, **files, origin="")).faults == []


def test_a_file_that_cannot_be_loaded_is_one_fault_and_stops_no_other(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"neither of them")
    gate = comparison(candidate(tmp_path, traced=bad))
    for _ in range(2):
        compared(gate)
    assert faults(gate) == {("torchscript", "runs")}
    assert len(gate.faults) == 1
    assert gate.faults[0].text.startswith("bad: torch cannot load it: ")
    assert {case.backend for case in gate.cases} == {"onnx", "onnx optimised"}
    gate = compared(comparison(candidate(tmp_path, onnx=bad)))
    assert faults(gate) == {("onnx", "runs"), ("onnx optimised", "runs")}
    assert gate.faults[0].text.startswith("bad: onnxruntime cannot load it: ")


# Reduced precision


def test_int8_is_compared_without_a_limit(tmp_path: Path) -> None:
    def coarse(arrays: Arrays) -> None:
        for name in arrays:
            arrays[name] = np.round(arrays[name] * 32) / np.float32(32)

    int8 = onnx_file(tmp_path, coarse, name="model.int8.onnx")
    gate = compared(comparison(candidate(tmp_path, int8=int8, precision="int8")))
    assert faults(gate) == set()
    mine = [case for case in gate.cases if case.backend == "int8"]
    assert {case.batch for case in mine} == {1, 2, 3, 4, 7}
    assert {case.ratio for case in mine} == {-1}
    assert all(case.max_error > 1e-3 for case in mine)
    assert all(f.ratio == -1 for f in gate.found if f.backend == "int8")
    # As an ordinary ONNX file it would not pass.
    gate = compared(comparison(candidate(tmp_path, onnx=onnx_file(tmp_path, coarse))))
    assert ("onnx", "tolerance") in faults(gate)


def test_bfloat16_is_held_against_bfloat16_and_the_others_against_float32(tmp_path: Path) -> None:
    class Reduced(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs.bfloat16()).float()

    reduced = Reduced().bfloat16().eval()
    path = traced_file(tmp_path, reduced)
    held = candidate(tmp_path, traced=path, yardstick=reduced, precision="bf16")
    assert compared(comparison(held)).faults == []
    exact = compared(comparison(candidate(tmp_path, traced=path)))
    assert ("torchscript", "tolerance") in faults(exact)


def test_bfloat16_is_held_closer_because_its_own_error_is_large(tmp_path: Path) -> None:
    class Reduced(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs.bfloat16()).float()

    held = candidate(tmp_path, yardstick=Reduced().bfloat16().eval(), precision="bf16")
    judge = comparison(held).judge
    for name, k in (("torchscript", 2.0), ("onnx", 8.0)):
        floor = 1e-6 * judge.calibrations[name].magnitude
        assert judge.calibrated.limit[name].min(axis=0) == pytest.approx(
            k * judge.calibrations[name].noise + floor, rel=1e-3
        )
    # And it is to be bfloat16.
    gate = comparison(held)
    gate.compare([gate.real])
    assert [(fault.check, fault.backend) for fault in gate.faults] == [("precision", "torchscript")]
    assert gate.faults[0].text.startswith("errs by ")
    reduced = replace(held, traced=traced_file(tmp_path, held.yardstick))
    gate = comparison(reduced)
    gate.compare([gate.real])
    assert gate.faults == []
    # A recipe may ask for less still.
    tight = comparison(held, k_bf16=0.5).judge
    assert tight.calibrated.limit["torchscript"].min() < 0.3 * judge.calibrated.limit[
        "torchscript"
    ].min()  # fmt: skip


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_rows_that_rounding_decides_are_not_compared(tmp_path: Path) -> None:
    class Edgy(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            # As if other kernels rounded zero another way.
            edge = -1.0 if len(inputs) == 1 else 1.0
            return super().forward(inputs) + 0 * (edge * (inputs[:, :1] == 0)).sqrt()

    model = Edgy().eval()
    path = traced_file(tmp_path, model)
    rows = np.abs(ROWS) + 1
    held = candidate(tmp_path, eager=model, yardstick=model, traced=path)
    edges = rows[:4].copy()
    edges[2, 0] = 0.0
    gate = compared(comparison(held, group(rows)), group(edges, "boundary"))
    assert gate.judge.undecided == ["boundary 2"]
    assert gate.samples == {"held-out": 30, "boundary": 4}
    assert "boundary 2" not in {found.name for found in gate.found}
    assert faults(gate) == set()


def test_what_was_once_found_is_tried_first(tmp_path: Path) -> None:
    gate = compared(comparison(candidate(tmp_path)), group(ROWS[:2], "regression"))
    assert list(gate.samples) == ["regression", "held-out"]
    kinds = [case.kind for case in gate.cases if case.backend == "onnx"]
    assert kinds == ["regression"] * 5 + ["held-out"] * 5
