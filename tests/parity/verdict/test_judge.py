"""What the checkpoint says of rows, what may differ from it, and where NaN and infinity belong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

from marwright.parity.backends import Array, Outputs, Run, eager_backend
from marwright.parity.inputs import Group
from marwright.parity.types import Kind, Tolerance
from marwright.parity.verdict.judge import (
    FAR,
    Expected,
    Judge,
    Measured,
    Yardstick,
    in_parts,
    measure,
    ratios,
)
from marwright.parity.verdict.tolerance import Floats
from marwright.recipe.errors import ParityError

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

NAN, INF = np.nan, np.inf
TOLERANCE = Tolerance(k=8.0, floor=1e-6)
CHANCE = np.random.default_rng(0)
ROWS = CHANCE.normal(size=(20, 4)).astype(np.float32)


def group(rows: Array = ROWS, kind: Kind = "held-out") -> Group:
    return Group(kind=kind, rows=rows, names=tuple(f"row {n}" for n in range(len(rows))))


def linear() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(4, 3)


def judge(model: nn.Module, real: Group | None = None, **more: Run) -> Judge:
    run = eager_backend(model)
    runs = {"torchscript": run, "onnx": run, "onnx optimised": run, **more}
    return judge_of(model, runs, real)


def judge_of(model: nn.Module, runs: Mapping[str, Run], real: Group | None = None) -> Judge:
    yardsticks = {name: Yardstick(run=run, tolerance=TOLERANCE) for name, run in runs.items()}
    return Judge(model, yardsticks, real or group(), 7)  # type: ignore[arg-type]


# What is measured, by hand


def expected(reference: Floats, eager: Floats, limit: float = 0.5) -> Expected:
    return Expected(
        group=group(np.zeros((len(reference), 1), np.float32)),
        reference=reference,
        decided=np.ones(len(reference), dtype=bool),
        eager={"onnx": eager},
        limit={"onnx": np.full_like(reference, limit)},
    )


def of(reference: float, eager: float, output: float, limit: float = 0.5) -> Measured:
    """Measure one row of one output."""
    known = expected(np.array([[reference]]), np.array([[eager]]), limit)
    return measure(np.array([[output]]), known, np.array([0]), "onnx")


def test_a_row_is_as_bad_as_its_worst_output() -> None:
    reference = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    known = expected(reference, reference)
    known.limit["onnx"][2] = [0.01, 10.0]
    rows = np.array([2, 0])
    found = measure(np.array([[5.1, 5.0], [1.0, 2.25]]), known, rows, "onnx")
    assert found.error == pytest.approx([1.0, 0.25])
    assert found.ratio == pytest.approx([10, 0.5])
    assert found.strange.tolist() == [False, False]
    assert found.worst_first.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("reference", "eager", "output", "strange"),
    [
        (1.0, 1.0, NAN, True),
        (1.0, 1.0, INF, True),
        (1.0, 1.0, -INF, True),
        # What is NaN must stay so: it may not be swallowed.
        (NAN, NAN, NAN, False),
        (NAN, NAN, 0.0, True),
        (NAN, NAN, INF, True),
        (INF, INF, INF, False),
        (INF, INF, -INF, True),
        (INF, INF, 3e38, True),
        (INF, INF, NAN, True),
        (-INF, -INF, -INF, False),
        # Only float32 overflows: so may the backend, and it need not.
        (1e39, INF, INF, False),
        (1e39, INF, 3e38, False),
        (1e39, INF, -INF, True),
        (1e39, INF, NAN, True),
        (1.0, NAN, NAN, False),
        (1.0, NAN, 1.0, False),
    ],
)
def test_nan_and_infinity_must_be_where_the_checkpoint_has_them(
    reference: float, eager: float, output: float, strange: bool
) -> None:
    found = of(reference, eager, output)
    assert found.strange.tolist() == [strange]
    # There is no number to hold against a limit.
    assert (found.error.tolist(), found.ratio.tolist()) == ([0], [0])


def test_the_other_outputs_of_a_broken_row_are_measured() -> None:
    known = expected(np.array([[NAN, 1.0]]), np.array([[NAN, 1.0]]))
    found = measure(np.array([[NAN, 2.0]]), known, np.array([0]), "onnx")
    assert (found.strange.tolist(), found.error.tolist(), found.ratio.tolist()) == (
        [False], [1], [2],
    )  # fmt: skip


def test_strange_rows_are_the_worst_of_all() -> None:
    reference = np.ones((4, 1))
    outputs = np.array([[1.0], [9.0], [NAN], [1.25]])
    found = measure(outputs, expected(reference, reference), np.arange(4), "onnx")
    assert found.worst_first.tolist() == [2, 1, 3, 0]


def test_without_a_limit_the_worst_row_is_that_of_the_largest_error() -> None:
    reference = np.ones((3, 1))
    known = expected(reference, reference, limit=INF)
    found = measure(np.array([[1.5], [1.0], [3.0]]), known, np.arange(3), "onnx")
    assert found.ratio.tolist() == [0, 0, 0]
    assert found.worst_first.tolist() == [2, 0, 1]


def test_ratios_are_numbers_that_json_can_hold() -> None:
    error, limit = np.array([0.0, 0.0, 1.0, 1.0, 6.0]), np.array([0.0, 1.0, 0.0, INF, 2.0])
    assert ratios(error, limit).tolist() == [0, 0, 1e300, 0, 3]
    assert ratios(np.array([1e308]), np.array([1e-308])).tolist() == [1e300]


def test_parts_are_batches_and_a_remainder() -> None:
    sizes = []

    def run(inputs: Array) -> Outputs:
        sizes.append(len(inputs))
        return inputs.astype(np.float64)

    assert (in_parts(run, ROWS, 7) == ROWS).all()
    assert sizes == [7, 7, 6]


# What the checkpoint says


def test_reference_is_float64_throughout() -> None:
    model = linear()
    weight, bias = (p.detach().numpy().astype(np.float64) for p in (model.weight, model.bias))
    exact = ROWS.astype(np.float64) @ weight.T + bias
    found = judge(model)
    assert np.allclose(found.calibrated.reference, exact, rtol=0, atol=1e-13)
    calibration = found.calibrations["onnx"]
    # Float32's own, in whichever order a processor adds up: five terms, each off by half a unit.
    most = 5 * 2.0**-24 * (np.abs(ROWS.astype(np.float64)) @ np.abs(weight.T) + np.abs(bias))
    assert 1e-13 < calibration.noise.max() <= most.max()
    assert calibration.size == pytest.approx(np.abs(exact).max())
    assert calibration.signal == pytest.approx((exact - exact.mean(axis=0)).std(), rel=1e-6)
    # The model is as it was.
    assert model.weight.dtype == torch.float32


def test_limit_is_what_float32_does_k_times_and_the_floor() -> None:
    found = judge(linear())
    limit, calibration = found.calibrated.limit["onnx"], found.calibrations["onnx"]
    floor = 1e-6 * np.maximum(np.abs(found.calibrated.reference), calibration.magnitude)
    assert (limit >= 8 * calibration.noise + floor - 1e-18).all()
    assert limit.max() < 1e-4


def test_inputs_that_are_not_real_data_may_err_by_more() -> None:
    found = judge(linear())
    [far] = found.expect([group(kind="boundary")])
    assert (far.reference == found.calibrated.reference).all()
    assert (far.limit["onnx"] >= found.calibrated.limit["onnx"]).all()
    # By a wobble of every result, far from one percent of what an output is.
    assert far.limit["onnx"].max() > 2 * found.calibrated.limit["onnx"].max()
    assert far.limit["onnx"].max() < FAR * 1e-4
    [same] = found.expect([group()])
    assert np.allclose(same.limit["onnx"], found.calibrated.limit["onnx"])


def test_int8_has_no_limit() -> None:
    found = judge(linear(), int8=eager_backend(linear()))
    assert np.isinf(found.calibrated.limit["int8"]).all()
    assert np.isfinite(found.calibrated.limit["onnx"]).all()


def test_each_precision_is_measured_by_its_own_yardstick() -> None:
    model = linear()

    def coarse(inputs: Array) -> Outputs:
        with torch.inference_mode():
            outputs = model.to(torch.bfloat16)(torch.from_numpy(inputs).bfloat16())
            model.float()
        return outputs.double().numpy()

    exact = linear()
    run = eager_backend(exact)
    own = Yardstick(run=coarse, tolerance=Tolerance(k=2.0, floor=1e-6), own=True)
    single = Yardstick(run=run, tolerance=TOLERANCE)
    found = Judge(exact, {"torchscript": own, "onnx": single}, group(), 7)
    limit = found.calibrated.limit
    assert limit["torchscript"].min() > 250 * limit["onnx"].max()
    # Each by its own tolerance as well.
    noise = found.calibrations["torchscript"].noise
    assert limit["torchscript"].min(axis=0) == pytest.approx(2 * noise, rel=1e-2)
    assert limit["torchscript"].max() < 8 * noise.max()
    assert (found.calibrated.eager["torchscript"] != found.calibrated.eager["onnx"]).any()
    # And nothing is added for other libraries beyond real data, where there is none.
    [same] = found.expect([group(kind="random")])
    assert same.limit["torchscript"] == pytest.approx(limit["torchscript"], rel=0.1)
    assert same.limit["onnx"].max() > 4 * limit["onnx"].max()


def test_backends_of_one_precision_share_their_runs() -> None:
    model, calls = linear(), []

    def run(inputs: Array) -> Outputs:
        calls.append(len(inputs))
        return eager_backend(model)(inputs)

    judge_of(model, {"onnx": run, "onnx optimised": run})
    # In chunks, and the first ones alone.
    assert calls == [7, 7, 6, *[1] * 16]


class Rooted(nn.Module):
    """NaN below zero; at zero for a row alone only, as if other kernels rounded another way."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        edge = -1.0 if len(inputs) == 1 else 1.0
        return inputs.sqrt() + 0 * (edge * (inputs == 0)).sqrt()


def test_rows_that_rounding_decides_are_named_and_not_judged() -> None:
    rows = np.abs(ROWS[:5]) + 1
    rows[1], rows[3] = 0.0, -1.0
    found = judge(Rooted(), group(np.abs(ROWS) + 1))
    assert found.undecided == []
    [few] = found.expect([group(rows, "boundary")])
    assert found.undecided == ["row 1"]
    # NaN for certain is an answer.
    assert few.decided.tolist() == [True, False, True, True, True]
    measured = measure(np.full_like(few.reference, 7.0), few, np.arange(5), "onnx")
    assert measured.strange.tolist() == [False, False, False, True, False]
    assert (measured.ratio[1], measured.error[1]) == (0, 0)
    assert (measured.ratio[[0, 2, 4]] > 1).all()


class Normed(nn.Module):
    """Rows centred and scaled to length 1: of one that is constant, 0/0 with a little rounding."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        centred = inputs - inputs.mean(dim=1, keepdim=True)
        return centred / centred.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("kind", ["held-out", "boundary"])
def test_a_number_where_float64_has_none_is_not_judged(kind: Kind) -> None:
    chance = np.random.default_rng(0)
    rows = chance.normal(size=(20, 10)).astype(np.float32)
    # Ten times this is no float32, and is a float64.
    rows[4] = 0.1
    found = judge(Normed(), group(rows))
    [expected] = [found.calibrated] if kind == "held-out" else found.expect([group(rows, kind)])
    assert not np.isfinite(expected.reference[4]).any()
    assert np.isfinite(expected.eager["onnx"][4]).all()
    assert expected.decided.tolist() == [row != 4 for row in range(20)]
    assert "row 4" in found.undecided
    outputs = expected.eager["onnx"].copy()
    outputs[4] = -outputs[4]
    measured = measure(outputs, expected, np.arange(20), "onnx")
    assert not measured.strange.any()
    assert measured.ratio.max() < 1


class Stepped(nn.Module):
    """A jump at 1, where 0.1 times 10 is: float32 and float64 need not be on the same side."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs[:, :3] + 0.05 * (inputs[:, :1] * 10 > 1)


def test_a_row_that_rounding_decides_widens_no_other_s_limit() -> None:
    rows = ROWS.copy()
    usual = judge(Stepped(), group(rows)).calibrated.limit["onnx"].max()
    # In float32 this times 10 is 1; in float64 it is a little more.
    rows[4, 0] = np.float32(0.1)
    found = judge(Stepped(), group(rows))
    assert np.abs(found.calibrated.eager["onnx"][4] - found.calibrated.reference[4]).max() > 0.04
    assert np.delete(found.calibrated.limit["onnx"], 4, axis=0).max() < 2 * usual
    assert found.usual_limit("onnx") < 2 * usual
    assert found.calibrations["onnx"].usual.tolist() == [row != 4 for row in range(20)]
    # As it is when an export has it on another side than both.
    found = judge(Stepped(), group(np.where(rows == rows[4, 0], np.float32(0.1) * 0.9999999, rows)))
    found.doubt("onnx", np.array([3, 4]))
    assert found.undecided == ["row 4"]
    assert found.calibrated.decided.tolist() == [row != 4 for row in range(20)]


def test_a_checkpoint_that_fails_on_what_is_not_real_is_told_of() -> None:
    class Picky(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if inputs.max() > 100:
                raise IndexError("no such category")
            return inputs * 2

    found = judge(Picky())
    known = found.expect([group(ROWS * 1e3, "boundary"), group(ROWS, "random")])
    assert [one.group.kind for one in known] == ["random"]
    assert found.failing == {"boundary inputs": "no such category"}
    with pytest.raises(
        ParityError, match=r"^the checkpoint fails on held-out samples: no such cat"
    ):
        judge(Picky(), group(ROWS * 1e3))


# Neighbours


class Centred(nn.Module):
    """A row's output depends on the others', as with batch statistics."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs - 1e-3 * inputs.mean(dim=0)


@pytest.mark.parametrize(
    ("model", "dependent"),
    [
        (linear(), False),
        (nn.BatchNorm1d(4).eval(), False),
        (Centred(), True),
        (nn.Softmax(dim=0), True),
    ],
)
def test_a_model_whose_rows_influence_each_other_is_noticed(
    model: nn.Module, dependent: bool
) -> None:
    assert judge(model).dependent is dependent


class Drawing(nn.Module):
    """Dropout that does not look at eval mode."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(inputs, 0.5, training=True)


def test_a_model_that_draws_at_random_is_noticed() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert judge(Drawing()).random
    assert not judge(linear()).random
    broken = ROWS.copy()
    broken[0] = NAN
    assert not judge(linear(), group(broken)).random


class Deciding(nn.Module):
    """All rows together decide, and only some inputs make them: a sum that is far out."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + 0.01 * (inputs.sum() > 100)


def test_a_decision_by_the_whole_batch_is_noticed_where_it_is_taken() -> None:
    found = judge(Deciding())
    assert not found.dependent
    found.expect([group(ROWS, "random")])
    assert not found.dependent
    # Seven rows of a chunk come to more than 100, and none of them alone does.
    found.expect([group(np.full((7, 4), 10, np.float32), "boundary")])
    assert found.dependent


def test_one_row_and_rows_of_nan_are_no_trouble() -> None:
    assert not judge(linear(), group(ROWS[:1])).dependent
    broken = ROWS.copy()
    broken[:3] = NAN
    found = judge(linear(), group(broken))
    assert not found.dependent
    assert np.isfinite(found.calibrated.limit["onnx"]).all()
