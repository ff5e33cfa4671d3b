"""A small network of many kinds of nodes, its ONNX file, and faults to put into it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from torch import nn
from torch.nn import functional
from torch.onnx import ONNXProgram

from marwright.export.to_onnx import export_onnx, export_program

SHAPE = (1, 8, 8)
OPSET = 20
K, FLOOR = 8.0, 1e-6


class Block(nn.Module):
    """A residual block; the exporter folds its batch norm into the convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(images + self.norm(self.conv(images)))


class Small(nn.Module):
    """Images to logits: convolutions, a reshape, layer norm, an MLP, and a cast of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.first, self.second = Block(4), Block(4)
        self.norm = nn.LayerNorm(4)
        self.mlp, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.second(self.first(self.stem(images)))
        tokens = self.norm(maps.flatten(2).transpose(1, 2))
        features = functional.gelu(self.mlp(tokens)).mean(1)
        return self.head(features) + features.argmax(1).to(torch.float32)[:, None]


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network in eval mode, with batch norms that do something."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        model = build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    return model.eval()


@cache
def small() -> nn.Module:
    """The network. Exports take seconds, so tests share them, and change nothing of it."""
    return seeded(Small)


@cache
def program() -> ONNXProgram:
    """What the exporter makes of it."""
    return export_program(small(), SHAPE, OPSET, {})


@cache
def _exported() -> bytes:
    with TemporaryDirectory() as folder:
        return export_onnx(small(), SHAPE, OPSET, Path(folder)).read_bytes()


def rows(count: int = 3, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    """Random inputs."""
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


def written(folder: Path, fault: Callable[[ModelProto], None] = lambda _: None) -> Path:
    """Write the network's ONNX file, with a fault."""
    proto = onnx.load_from_string(_exported())
    fault(proto)
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return path


def node_of(model: ModelProto, op: str, place: int = 0) -> NodeProto:
    """Find the n-th node of an operator."""
    return [node for node in model.graph.node if node.op_type == op][place]


def reweigh(
    model: ModelProto, name: str, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]
) -> None:
    """Change the values of an initialiser."""
    [weight] = [each for each in model.graph.initializer if each.name == name]
    values = numpy_helper.to_array(weight).copy()
    weight.CopyFrom(numpy_helper.from_array(change(values), name))


def nudged(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Change the largest by 1 %."""
    values.flat[np.abs(values).argmax()] *= 1.01
    return values


def insert_before(model: ModelProto, node: NodeProto, op: str, **attributes: object) -> None:
    """Put a node of one input in front of another's first."""
    extra = helper.make_node(op, [node.input[0]], ["extra_value"], name="extra", **attributes)
    place = next(n for n, each in enumerate(model.graph.node) if each is node or each == node)
    node.input[0] = "extra_value"
    model.graph.node.insert(place, extra)
