"""The gate: healthy models pass, and each seeded fault is caught with the backend and the cause."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from archive.onnx_export import export_onnx
from archive.parity import BATCHES, compare
from archive.types import ParityCase, ParityReport, to_json
from recipes.errors import ParityError
from tests.archive.proven import Proven, one_thread

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

Array = NDArray[np.float32]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def gate(
    model: nn.Module, traced: Path, onnx_file: Path, inputs: Array, **options: Any
) -> ParityReport:
    values = {"atol": 1e-4, "rtol": 1e-4, "classification": True, **options}
    return compare(model, traced, onnx_file, inputs, **values)


@pytest.fixture(scope="module")
def exported(proven_image: Proven, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    return export_onnx(proven_image.model, proven_image.meta.spec.shape, 20, folder)


@pytest.fixture(scope="module")
def inputs(proven_image: Proven) -> Array:
    return proven_image.test_inputs()


def cases_of(report: ParityReport, backend: str) -> list[ParityCase]:
    return [case for case in report.cases if case.backend == backend]


def assert_only(report: ParityReport, backend: str, problem: str) -> list[ParityCase]:
    """Hold that each case of one backend fails for this reason, and that the other passes."""
    assert not report.ok
    other = {"torchscript": "onnxruntime", "onnxruntime": "torchscript"}[backend]
    assert all(case.ok for case in cases_of(report, other))
    failed = cases_of(report, backend)
    assert [(case.ok, case.problem) for case in failed] == [(False, problem)] * len(failed)
    assert report.worst() in failed
    return failed


DIFFERS = "differs by more than the tolerance"
NOT_FINITE = "NaN or infinity at other places than the checkpoint's"


def test_healthy_classifier_passes(proven_image: Proven, exported: Path, inputs: Array) -> None:
    report = gate(proven_image.model, proven_image.traced, exported, inputs)
    assert report.ok
    assert report.samples == len(inputs)
    assert [(case.backend, case.batch) for case in report.cases] == [
        (backend, batch) for backend in ("torchscript", "onnxruntime") for batch in BATCHES
    ]
    for case in report.cases:
        assert case.ok
        assert case.problem == ""
        assert 0 <= case.max_abs < 1e-4
        assert case.flips == 0
        # Whole batches only, or the case would measure another size as well.
        assert case.samples == -(-len(inputs) // case.batch) * case.batch


def test_healthy_regression_passes(proven_table: Proven, tmp_path: Path) -> None:
    path = export_onnx(proven_table.model, proven_table.meta.spec.shape, 20, tmp_path)
    inputs = proven_table.test_inputs()
    report = gate(proven_table.model, proven_table.traced, path, inputs, classification=False)
    assert report.ok
    assert {case.flips for case in report.cases} == {0}


def test_report_survives_json(proven_image: Proven, exported: Path, inputs: Array) -> None:
    report = gate(proven_image.model, proven_image.traced, exported, inputs)
    assert msgspec.json.decode(to_json(report), type=ParityReport) == report


def test_same_inputs_give_the_same_report(
    proven_image: Proven, exported: Path, inputs: Array
) -> None:
    first, second = (
        gate(proven_image.model, proven_image.traced, exported, inputs) for _ in range(2)
    )
    assert first == second


# Faults in the ONNX file.


def changed(source: Path, target: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    proto = onnx.load(source)
    change(proto)
    onnx.save(proto, target)
    return target


def last_layer(proto: onnx.ModelProto, kind: str) -> onnx.TensorProto:
    """Return `weight` (outputs, inputs) or `bias` (outputs) of the last linear layer."""
    node = next(node for node in reversed(proto.graph.node) if node.op_type == "Gemm")
    name = node.input[{"weight": 1, "bias": 2}[kind]]
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def edit(tensor: onnx.TensorProto, change: Callable[[Array], Array]) -> None:
    values = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def nudged_weight(proto: onnx.ModelProto) -> None:
    """One output's weights, by one per cent."""

    def nudge(weight: Array) -> Array:
        weight[0] *= np.float32(1.01)
        return weight

    edit(last_layer(proto, "weight"), nudge)


def swapped_outputs(proto: onnx.ModelProto) -> None:
    for kind in ("weight", "bias"):
        edit(last_layer(proto, kind), lambda values: values[[1, 0, 2]])


def dropped_bias(proto: onnx.ModelProto) -> None:
    edit(last_layer(proto, "bias"), np.zeros_like)


def missing_output(proto: onnx.ModelProto) -> None:
    for kind in ("weight", "bias"):
        edit(last_layer(proto, kind), lambda values: values[:2])
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    del proto.graph.value_info[:]


def nan_bias(proto: onnx.ModelProto) -> None:
    edit(last_layer(proto, "bias"), lambda bias: bias * np.float32(np.nan))


def infinite_bias(proto: onnx.ModelProto) -> None:
    edit(last_layer(proto, "bias"), lambda bias: bias + np.float32(np.inf))


def softmax_added(proto: onnx.ModelProto) -> None:
    last = proto.graph.node[-1]
    last.output[0] = "logits"
    proto.graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["output"]))


def batch_mean(proto: onnx.ModelProto) -> None:
    """All outputs lose their batch axis: nothing is left to put together."""
    last = proto.graph.node[-1]
    last.output[0] = "logits"
    proto.graph.node.append(onnx.helper.make_node("ReduceMean", ["logits"], ["output"], keepdims=0))
    del proto.graph.output[0].type.tensor_type.shape.dim[:]


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (nudged_weight, DIFFERS),
        (swapped_outputs, DIFFERS),
        (dropped_bias, DIFFERS),
        (softmax_added, DIFFERS),
        (nan_bias, NOT_FINITE),
        (infinite_bias, NOT_FINITE),
        (batch_mean, "fails to run: zero-dimensional arrays cannot be concatenated"),
    ],
)
def test_fault_in_the_onnx_file_is_caught(
    proven_image: Proven,
    exported: Path,
    inputs: Array,
    tmp_path: Path,
    fault: Callable[[onnx.ModelProto], None],
    problem: str,
) -> None:
    path = changed(exported, tmp_path / "fault.onnx", fault)
    report = gate(proven_image.model, proven_image.traced, path, inputs)
    assert_only(report, "onnxruntime", problem)
    # Whatever was measured can be written and read.
    assert msgspec.json.decode(to_json(report), type=ParityReport) == report


def test_output_of_another_shape_is_caught_with_both_shapes(
    proven_image: Proven, exported: Path, inputs: Array, tmp_path: Path
) -> None:
    path = changed(exported, tmp_path / "fault.onnx", missing_output)
    report = gate(proven_image.model, proven_image.traced, path, inputs, batches=(2,))
    count = -(-len(inputs) // 2) * 2
    assert_only(report, "onnxruntime", f"gives shape ({count}, 2), not ({count}, 3)")


def test_swapped_outputs_are_counted_as_flips(
    proven_image: Proven, exported: Path, inputs: Array, tmp_path: Path
) -> None:
    path = changed(exported, tmp_path / "fault.onnx", swapped_outputs)
    classified = gate(proven_image.model, proven_image.traced, path, inputs, batches=(1,))
    with torch.inference_mode():
        answers = proven_image.model(torch.from_numpy(inputs)).numpy().argmax(axis=1)
    assert cases_of(classified, "onnxruntime")[0].samples == len(inputs)
    assert classified.worst().flips == int((answers != 2).sum()) > 0
    regression = gate(
        proven_image.model, proven_image.traced, path, inputs, batches=(1,), classification=False
    )
    assert regression.worst().flips == 0


def test_baked_batch_is_caught_at_the_other_sizes(
    proven_image: Proven, exported: Path, inputs: Array, tmp_path: Path
) -> None:
    def bake(proto: onnx.ModelProto) -> None:
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 2

    path = changed(exported, tmp_path / "baked.onnx", bake)
    report = gate(proven_image.model, proven_image.traced, path, inputs)
    assert not report.ok
    assert all(case.ok for case in cases_of(report, "torchscript"))
    cases = {case.batch: case for case in cases_of(report, "onnxruntime")}
    assert [batch for batch, case in cases.items() if case.ok] == [2]
    for batch in (1, 3, 7):
        assert cases[batch].problem.startswith("fails to run: ")
        assert f"Got: {batch} Expected: 2" in cases[batch].problem


def retrained(model: nn.Module) -> nn.Module:
    """Return a network like this one with other weights."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    return other


def test_onnx_file_of_another_checkpoint_is_caught(
    proven_image: Proven, inputs: Array, tmp_path: Path
) -> None:
    path = export_onnx(retrained(proven_image.model), proven_image.meta.spec.shape, 20, tmp_path)
    report = gate(proven_image.model, proven_image.traced, path, inputs)
    assert_only(report, "onnxruntime", DIFFERS)


# Faults in the traced module.


def traced_module(model: nn.Module, shape: tuple[int, ...], target: Path) -> Path:
    torch.jit.trace(model, torch.zeros(2, *shape), check_trace=False).save(str(target))
    return target


def test_traced_module_of_another_checkpoint_is_caught(
    proven_image: Proven, exported: Path, inputs: Array, tmp_path: Path
) -> None:
    other = retrained(proven_image.model)
    path = traced_module(other, proven_image.meta.spec.shape, tmp_path / "other.pt")
    assert_only(gate(proven_image.model, path, exported, inputs), "torchscript", DIFFERS)


def test_traced_module_with_dropout_on_is_caught(
    proven_image: Proven, exported: Path, inputs: Array, tmp_path: Path
) -> None:
    noisy = copy.deepcopy(proven_image.model)
    for layer in noisy.modules():
        if isinstance(layer, nn.Dropout):
            layer.train()
    path = traced_module(noisy, proven_image.meta.spec.shape, tmp_path / "noisy.pt")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        report = gate(proven_image.model, path, exported, inputs)
    assert_only(report, "torchscript", DIFFERS)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_batch_norm_left_in_training_is_caught(
    proven_image: Proven, exported: Path, inputs: Array, tmp_path: Path
) -> None:
    noisy = copy.deepcopy(proven_image.model)
    for layer in noisy.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
    path = traced_module(noisy, proven_image.meta.spec.shape, tmp_path / "noisy.pt")
    assert_only(gate(proven_image.model, path, exported, inputs), "torchscript", DIFFERS)


def test_checkpoint_that_was_left_in_training_mode_is_compared_as_it_will_be_served(
    proven_image: Proven, exported: Path, inputs: Array
) -> None:
    left = copy.deepcopy(proven_image.model).train()
    before = {name: value.clone() for name, value in left.state_dict().items()}
    assert gate(left, proven_image.traced, exported, inputs).ok
    assert all(torch.equal(value, before[name]) for name, value in left.state_dict().items())


# What a case says, on models of which every number is known.


class Shifted(nn.Module):
    """Adds to its inputs what is set for it, and can fail on the large ones."""

    def __init__(self, shift: float = 0.0, limit: float = np.inf, beyond: float = 0.0) -> None:
        super().__init__()
        self.shift, self.limit, self.beyond = shift, limit, beyond

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        beyond = torch.full_like(inputs, self.beyond)
        return torch.where(inputs > self.limit, beyond, inputs + self.shift)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(Shifted(), (2,), 20, tmp_path_factory.mktemp("identity"))


def case_of(
    identity: Path, tmp_path: Path, module: nn.Module, inputs: Array, **options: Any
) -> ParityCase:
    """Compare a traced module with the one that gives back its inputs."""
    path = traced_module(module, (2,), tmp_path / "module.pt")
    options = {"classification": False, "batches": (1,), **options}
    return gate(Shifted(), path, identity, inputs, **options).cases[0]


ROWS = np.arange(20, dtype=np.float32).reshape(10, 2)


def test_worst_sample_is_the_one_furthest_beyond_its_tolerance(
    identity: Path, tmp_path: Path
) -> None:
    class Wrong(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            # Sample 2 is wrong by 0.5, and sample 7 by 0.4: a smaller part of larger values.
            off = (inputs == 4.0) * 0.5 + (inputs == 14.0) * 0.4
            return inputs + off

    case = case_of(identity, tmp_path, Wrong(), ROWS)
    assert not case.ok
    assert case.worst_sample == 2
    assert case.max_abs == pytest.approx(0.5)
    assert case.max_rel == pytest.approx(0.5 / 4)
    # Where large values may be off by more, the small difference is the worse one.
    relative = case_of(identity, tmp_path, Wrong(), ROWS[::-1].copy(), rtol=0.2, atol=1e-3)
    assert relative.ok
    shifted = case_of(identity, tmp_path, Shifted(0.25), ROWS, rtol=0.1, atol=0.1)
    assert not shifted.ok
    assert shifted.worst_sample == 0


def test_worst_sample_counts_over_all_batches(
    proven_image: Proven, exported: Path, inputs: Array, tmp_path: Path
) -> None:
    """Against an independent measurement of each sample, on a real network."""
    other = retrained(proven_image.model)
    path = traced_module(other, proven_image.meta.spec.shape, tmp_path / "other.pt")
    report = gate(proven_image.model, path, exported, inputs, rtol=1e-12, batches=(7,))
    with torch.inference_mode():
        tensor = torch.from_numpy(inputs)
        difference = (other(tensor) - proven_image.model(tensor)).abs().amax(dim=1)
    case = report.worst()
    assert case.worst_sample == int(difference.argmax())
    assert case.max_abs == pytest.approx(float(difference.max()), rel=1e-4)


@pytest.mark.parametrize(
    ("shift", "tolerances", "ok"),
    [
        (0.49, {"atol": 0.5, "rtol": 1e-9}, True),
        (0.51, {"atol": 0.5, "rtol": 1e-9}, False),
        (-0.51, {"atol": 0.5, "rtol": 1e-9}, False),
        (0.99, {"atol": 0.5, "rtol": 0.5}, True),
        (1.01, {"atol": 0.5, "rtol": 0.5}, False),
    ],
)
def test_tolerance_is_absolute_plus_relative(
    identity: Path, tmp_path: Path, shift: float, tolerances: dict[str, float], ok: bool
) -> None:
    ones = np.ones((4, 2), dtype=np.float32)
    case = case_of(identity, tmp_path, Shifted(shift), ones, **tolerances)
    assert case.ok is ok
    assert case.problem == ("" if ok else DIFFERS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_sample_that_becomes_nan_or_infinite_is_named(
    identity: Path, tmp_path: Path, value: float
) -> None:
    case = case_of(identity, tmp_path, Shifted(limit=16.5, beyond=value), ROWS, atol=1e30)
    assert (case.ok, case.problem) == (False, NOT_FINITE)
    assert case.worst_sample == 8


def test_nan_of_the_checkpoint_must_stay_nan(identity: Path, tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[3] = [np.nan, np.inf]
    assert case_of(identity, tmp_path, Shifted(), rows).ok

    class Swallowing(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.nan_to_num(inputs)

    swallowed = case_of(identity, tmp_path, Swallowing(), rows)
    assert (swallowed.ok, swallowed.problem) == (False, NOT_FINITE)
    assert swallowed.worst_sample == 3


def test_differences_of_any_size_can_be_written_as_json(identity: Path, tmp_path: Path) -> None:
    rows = np.array([[3e38, 0.0], [-3e38, 0.0]], dtype=np.float32)

    class Negated(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return -inputs + 1.0

    case = case_of(identity, tmp_path, Negated(), rows)
    assert not case.ok
    assert case.max_abs == pytest.approx(6e38)
    assert msgspec.json.decode(msgspec.json.encode(case), type=ParityCase) == case


class WrongAtTheEnd(nn.Module):
    """Only the last row of each batch is wrong: by one, or NaN."""

    def __init__(self, off: float) -> None:
        super().__init__()
        self.off = off

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([inputs[:-1], inputs[-1:] + self.off])


@pytest.mark.parametrize("off", [1.0, float("nan")])
def test_batch_is_filled_up_and_the_worst_sample_is_still_one_of_them(
    identity: Path, tmp_path: Path, off: float
) -> None:
    """Five samples at batch seven: 0, 1, 2, 3, 4, 0, 1."""
    case = case_of(identity, tmp_path, WrongAtTheEnd(off), ROWS[:5], batches=(7,))
    assert not case.ok
    assert (case.samples, case.worst_sample) == (7, 1)
    assert case_of(identity, tmp_path, Shifted(), ROWS[:5], batches=(7,)).ok


def test_many_samples_are_cut_to_so_many_calls(identity: Path, tmp_path: Path) -> None:
    rows = np.zeros((300, 2), dtype=np.float32)
    assert case_of(identity, tmp_path, Shifted(), rows, batches=(1,)).samples == 64
    assert case_of(identity, tmp_path, Shifted(), rows, batches=(7,)).samples == 301


def test_gate_without_samples_passes_nothing(
    proven_image: Proven, exported: Path, inputs: Array
) -> None:
    with pytest.raises(ParityError, match="no held-out samples"):
        gate(proven_image.model, proven_image.traced, exported, inputs[:0])


def test_gate_without_batches_passes_nothing(
    proven_image: Proven, exported: Path, inputs: Array
) -> None:
    with pytest.raises(ValueError, match="its 0 cases"):
        gate(proven_image.model, proven_image.traced, exported, inputs, batches=())


def test_file_that_cannot_be_loaded_is_named(
    proven_image: Proven, exported: Path, inputs: Array, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"neither of them")
    with pytest.raises(ParityError, match=r"^broken: torch cannot load it: "):
        gate(proven_image.model, broken, exported, inputs)
    with pytest.raises(ParityError, match=r"^broken: onnxruntime cannot load it: "):
        gate(proven_image.model, proven_image.traced, broken, inputs)
