"""The probe opens a payload before any code of the archive runs: what it is, and whether it is."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper
from torch import nn

from marwright.archive.probe import Result, open_payload, payload_kind

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def torchscript() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 1), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


def weights(**options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(nn.Linear(2, 1).state_dict(), buffer, **options)
    return buffer.getvalue()


def onnx_model() -> bytes:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    made: bytes = helper.make_model(graph).SerializeToString()
    return made


def tensors() -> bytes:
    return safetensors.torch.save({"a": torch.zeros(8)})


def zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"")
    return buffer.getvalue()


# An end record that leads nowhere, as weights may hold one by accident.
NO_ZIP = b"weights " * 9 + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 9999, 9999, 0)
KINDS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "TorchScript": ("model.pt", torchscript, "TorchScript"),
    # By what is in it, not by its name.
    "TorchScript under another name": ("model.bin", torchscript, "TorchScript"),
    "weights": ("model.pt", weights, "weights"),
    "weights under another name": ("pytorch_model.bin", weights, "weights"),
    "weights of old": (
        "model.pth", lambda: weights(_use_new_zipfile_serialization=False), "weights",
    ),
    "ONNX": ("model.onnx", onnx_model, "ONNX"),
    "ONNX in capitals": ("MODEL.ONNX", onnx_model, "ONNX"),
    "safetensors": ("model.safetensors", tensors, "safetensors"),
    "anything": ("model.dat", lambda: b"anything", "unknown"),
    "anything, without a name": ("model", lambda: b"", "unknown"),
    "a zip": ("model.zip", lambda: zip_of("a.txt"), "unknown"),
    "what only looks like a zip": ("model.dat", lambda: NO_ZIP, "unknown"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "kind"), KINDS.values(), ids=KINDS)
def test_payload_is_opened_as_what_it_is(
    tmp_path: Path, name: str, content: Callable[[], bytes], kind: str
) -> None:
    (tmp_path / name).write_bytes(content())
    assert payload_kind(tmp_path / name) == kind
    result = Result()
    open_payload(tmp_path / name, result)
    assert result.problems == []
    unknown = f"{name}: a payload of a kind that cannot be opened here"
    assert result.unchecked == ([unknown] if kind == "unknown" else [])


def without_a_tensor() -> bytes:
    """A zip that is one, of a state_dict whose storage is gone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(weights())) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            if not name.endswith("/data/0"):
                new.writestr(name, old.read(name))
    return buffer.getvalue()


def onnx_without_an_operator() -> bytes:
    model = onnx.load_from_string(onnx_model())
    model.graph.node[0].op_type = "NoSuchOperator"
    made: bytes = model.SerializeToString()
    return made


DAMAGED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "nothing": ("model.pt", lambda: b"", "weights: EOFError: "),
    "no weights": ("model.pt", lambda: b"not weights", "weights: UnpicklingError: "),
    "weights without a tensor": ("model.pt", without_a_tensor, "weights: RuntimeError: "),
    "TorchScript without its code": (
        "model.pt", lambda: zip_of("m/constants.pkl"), "TorchScript: RuntimeError: ",
    ),
    "what only looks like a zip": ("model.pt", lambda: NO_ZIP, "weights: "),
    "no ONNX": ("model.onnx", lambda: b"not ONNX", "ONNX: "),
    "an unknown operator": (
        "model.onnx", onnx_without_an_operator, "ONNX: ValidationError: No Op registered",
    ),
    "safetensors, cut off": (
        "model.safetensors", lambda: tensors()[:-1], "safetensors: SafetensorError: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "cause"), DAMAGED.values(), ids=DAMAGED)
def test_payload_that_cannot_be_opened_is_one_short_problem(
    tmp_path: Path, name: str, content: Callable[[], bytes], cause: str
) -> None:
    (tmp_path / name).write_bytes(content())
    result = Result()
    open_payload(tmp_path / name, result)
    (problem,) = result.problems
    assert problem.startswith(f"{name}: cannot be opened as {cause}")
    assert "\n" not in problem
    assert result.unchecked == []


class Caller:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("was run"),)


@pytest.mark.parametrize("zip_file", [False, True])
def test_nothing_of_a_payload_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zip_file: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Caller(), "model.pt", _use_new_zipfile_serialization=zip_file)
    result = Result()
    open_payload(tmp_path / "model.pt", result)
    (problem,) = result.problems
    assert problem.startswith("model.pt: cannot be opened as weights: UnpicklingError: ")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
