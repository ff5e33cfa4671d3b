"""Backends give float64 rows, or say in one line why they cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from marwright.parity.backends import (
    Run,
    eager_backend,
    onnx_backend,
    rank_of,
    reference_backend,
    traced_backend,
)
from marwright.recipe.errors import ParityError
from tests.archive.proven import one_thread
from tests.parity.files import COLUMNS, NET, ROWS, Net, onnx_file, traced_file

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def every_backend(folder: Path) -> dict[str, Run]:
    traced, file = traced_file(folder), onnx_file(folder)
    return {
        "eager": eager_backend(NET),
        "reference": reference_backend(NET),
        "torchscript": traced_backend(traced, ROWS[:2]),
        "onnx": onnx_backend(file, optimised=False, threads=1),
        "onnx optimised": onnx_backend(file, optimised=True, threads=1),
    }


def test_all_agree_and_give_float64(tmp_path: Path) -> None:
    backends = every_backend(tmp_path)
    reference = backends["reference"](ROWS)
    for name, run in backends.items():
        for batch in (1, 7, 30):
            outputs = run(ROWS[:batch])
            assert outputs.dtype == np.float64, name
            assert outputs.shape == (batch, 3)
            assert np.allclose(outputs, reference[:batch], rtol=0, atol=1e-6)
    # Only one of them is exact, and no two need be the same.
    assert (backends["eager"](ROWS) != reference).any()


def test_reference_leaves_the_model_in_float32() -> None:
    run = reference_backend(NET)
    run(ROWS)
    assert {value.dtype for value in NET.parameters()} == {torch.float32}


class Shaped(nn.Module):
    """Outputs of any shape behind the batch axis, or without one."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.change(inputs)


def test_outputs_are_flattened_behind_the_batch_axis() -> None:
    run = eager_backend(Shaped(lambda inputs: inputs.reshape(-1, COLUMNS, 1)))
    assert (run(ROWS) == ROWS).all()
    assert eager_backend(Shaped(lambda inputs: inputs[:, 0]))(ROWS).shape == (30, 1)


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        (lambda inputs: inputs.mean(), r"\(\)"),
        (lambda inputs: inputs[:-1], r"\(29, 5\)"),
        (lambda inputs: inputs.reshape(-1, 1), r"\(150, 1\)"),
    ],
)
def test_outputs_without_a_row_for_each_input_are_a_failure(change: Any, shape: str) -> None:
    with pytest.raises(RuntimeError, match=rf"^gives shape {shape} for 30 rows$"):
        eager_backend(Shaped(change))(ROWS)


def test_an_onnx_file_that_loses_its_rows_is_a_failure(tmp_path: Path) -> None:
    proto = onnx.load(onnx_file(tmp_path))
    proto.graph.node[-1].output[0] = "logits"
    proto.graph.node.append(helper.make_node("ReduceMean", ["logits"], ["output"], keepdims=0))
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(proto, tmp_path / "mean.onnx")
    run = onnx_backend(tmp_path / "mean.onnx", optimised=True, threads=1)
    with pytest.raises(RuntimeError, match=r"^gives shape \(\) for 30 rows, and the checkpoint 2"):
        run(ROWS)


def reshaped(proto: onnx.ModelProto) -> None:
    """The same numbers with an axis more."""
    proto.graph.node[-1].output[0] = "logits"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
    proto.graph.node.append(helper.make_node("Unsqueeze", ["logits", "axis"], ["output"]))
    axis = proto.graph.output[0].type.tensor_type.shape.dim.add()
    axis.dim_value = 1


def doubled(proto: onnx.ModelProto) -> None:
    """The same numbers in float64."""
    proto.graph.node[-1].output[0] = "logits"
    double = TensorProto.DOUBLE
    proto.graph.node.append(helper.make_node("Cast", ["logits"], ["output"], to=double))
    proto.graph.output[0].type.tensor_type.elem_type = double


def two_outputs(proto: onnx.ModelProto) -> None:
    proto.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, None))


def renamed(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "pixels"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (doubled, r"^model\.onnx gives output: tensor\(double\), not output: tensor\(float\)$"),
        (two_outputs, r"^model\.onnx gives output: tensor\(float\), b: tensor\(float\), not"),
        (renamed, r"^model\.onnx takes pixels: tensor\(float\), not input: tensor\(float\)$"),
    ],
)
def test_an_onnx_file_of_other_inputs_and_outputs_is_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], says: str
) -> None:
    proto = onnx.load(onnx_file(tmp_path))
    change(proto)
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(ParityError, match=says):
        onnx_backend(tmp_path / "model.onnx", optimised=True, threads=1)


def test_outputs_of_another_rank_are_a_failure(tmp_path: Path) -> None:
    proto = onnx.load(onnx_file(tmp_path))
    reshaped(proto)
    onnx.save(proto, tmp_path / "model.onnx")
    run = onnx_backend(tmp_path / "model.onnx", optimised=True, threads=1)
    with pytest.raises(RuntimeError, match=r"^gives shape \(30, 1, 3\) for 30 rows, and the che"):
        run(ROWS)
    assert onnx_backend(tmp_path / "model.onnx", optimised=True, threads=1, rank=3)(ROWS).shape
    assert rank_of(NET, ROWS[:1]) == 2


def test_a_traced_module_of_another_form_is_a_failure(tmp_path: Path) -> None:
    class Pair(Net):
        def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return super().forward(inputs), inputs

    class Double(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs).double()

    for kind, says in ((Pair, "^gives a tuple, not a tensor$"), (Double, "^gives torch.float64")):
        traced = torch.jit.trace(kind().eval(), torch.zeros(2, COLUMNS), check_trace=False)
        torch.jit.save(traced, str(tmp_path / "model.pt"))
        with pytest.raises(RuntimeError, match=says):
            traced_backend(tmp_path / "model.pt", ROWS[:2])(ROWS)


def test_a_model_that_writes_into_its_input_spoils_no_other(tmp_path: Path) -> None:
    run, rows = eager_backend(Shaped(lambda inputs: inputs.add_(1))), ROWS.copy()
    assert (run(rows) == ROWS + 1).all()
    assert (rows == ROWS).all()


def test_a_failure_is_told_in_one_line(tmp_path: Path) -> None:
    wrong = ROWS[:, :4].copy()
    for name, run in every_backend(tmp_path).items():
        with pytest.raises(RuntimeError) as failure:
            run(wrong)
        assert str(failure.value), name
        assert "\n" not in str(failure.value)


@pytest.mark.parametrize("content", [b"", b"neither of them", b"PK\x03\x04 and no more"])
def test_a_file_that_cannot_be_loaded_is_named(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.file"
    bad.write_bytes(content)
    with pytest.raises(ParityError, match=r"^bad\.file: torch cannot load it: "):
        traced_backend(bad, ROWS[:2])
    with pytest.raises(ParityError, match=r"^bad\.file: onnxruntime cannot load it: "):
        onnx_backend(bad, optimised=True, threads=1)


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    proto = onnx.load(onnx_file(tmp_path))
    onnx.save(
        proto, tmp_path / "outside.onnx", save_as_external_data=True, location="outside.data",
        size_threshold=0,
    )  # fmt: skip
    onnx_backend(tmp_path / "outside.onnx", optimised=True, threads=1)(ROWS)
    (tmp_path / "outside.data").unlink()
    with pytest.raises(ParityError, match=r"^outside\.onnx: onnxruntime cannot load it: .*data"):
        onnx_backend(tmp_path / "outside.onnx", optimised=True, threads=1)


def test_models_are_run_as_they_are_served() -> None:
    class Noisy(Net):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(self.dropout(inputs))

    noisy = Noisy().train()
    assert (eager_backend(noisy)(ROWS) == eager_backend(NET)(ROWS)).all()
    assert (reference_backend(Noisy().train())(ROWS) == reference_backend(NET)(ROWS)).all()


def test_no_gradients_are_kept() -> None:
    before = torch.is_grad_enabled()
    eager_backend(NET)(ROWS)
    assert torch.is_grad_enabled() is before
    assert all(parameter.grad is None for parameter in NET.parameters())
