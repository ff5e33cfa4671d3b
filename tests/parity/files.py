"""A network so small that its exports are written by hand, and ways to write them wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from marwright.export.to_onnx import ORIGIN as IN_ONNX
from marwright.export.trace import ORIGIN as IN_TRACE
from marwright.parity.compare import Candidate, Comparison, Settings
from marwright.parity.inputs import Group
from marwright.parity.types import Kind, Tolerance

WEIGHTS = "ab" * 32
COLUMNS, OUTPUTS = 5, 3
Arrays = dict[str, NDArray[np.float32]]


class Net(nn.Module):
    """Rows to outputs, by way of a tanh."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(COLUMNS, 8), nn.Linear(8, OUTPUTS)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(inputs).tanh())


NET = Net().eval()
ROWS = np.random.default_rng(0).normal(size=(30, COLUMNS)).astype(np.float32)


def group(rows: NDArray[np.float32] = ROWS, kind: Kind = "held-out") -> Group:
    return Group(kind=kind, rows=rows, names=tuple(f"{kind} {n}" for n in range(len(rows))))


def traced_file(folder: Path, model: nn.Module = NET, *, origin: str = WEIGHTS) -> Path:
    """Trace a module and write it, as made from some weights."""
    path = folder / "model.pt"
    traced = torch.jit.trace(model.eval(), torch.zeros(2, COLUMNS), check_trace=False)
    torch.jit.save(traced, str(path), _extra_files={IN_TRACE: origin} if origin else {})
    return path


def scripted_file(folder: Path, model: nn.Module) -> Path:
    """Script a module, branches and all, and write it."""
    path = folder / "model.pt"
    torch.jit.save(torch.jit.script(model.eval()), str(path), _extra_files={IN_TRACE: WEIGHTS})
    return path


def onnx_file(
    folder: Path,
    change: Callable[[Arrays], object] = lambda _: None,
    *,
    origin: str = WEIGHTS,
    batch: str | int = "batch",
    name: str = "model.onnx",
) -> Path:
    """Write the network as ONNX, with its weights changed, and a batch axis of this size."""
    arrays = {key: value.detach().numpy().copy() for key, value in NET.named_parameters()}
    change(arrays)
    nodes = [
        helper.make_node("Gemm", ["input", "first.weight", "first.bias"], ["a"], transB=1),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "second.weight", "second.bias"], ["output"], transB=1),
    ]
    shapes = {"input": [batch, COLUMNS], "output": [batch, len(arrays["second.bias"])]}
    [ends, results] = (
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, shapes[key])]
        for key in ("input", "output")
    )
    weights = [numpy_helper.from_array(value, key) for key, value in arrays.items()]
    graph = helper.make_graph(nodes, "net", ends, results, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if origin:
        helper.set_model_props(proto, {IN_ONNX: origin})
    path = folder / name
    onnx.save(proto, path)
    return path


def candidate(folder: Path, **files: Any) -> Candidate:
    """The network and its exports, but for what is given."""
    given: dict[str, Any] = {"eager": NET, "yardstick": NET, "origin": WEIGHTS, **files}
    given.setdefault("traced", traced_file(folder) if "traced" not in files else None)
    given.setdefault("onnx", onnx_file(folder) if "onnx" not in files else None)
    return Candidate(**given)


def comparison(held: Candidate, real: Group | None = None, **settings: Any) -> Comparison:
    """Compare on real rows alone, or on none yet where none are given."""
    chosen: dict[str, Any] = {
        "tolerance": Tolerance(k=8.0, floor=1e-6), "task": "classification", "serving": 4,
        **settings,
    }  # fmt: skip
    return Comparison(held, real or group(), Settings(**chosen))
