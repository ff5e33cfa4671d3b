"""The smallest part of a graph that is wrong by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from marwright.export.to_onnx import export_onnx
from marwright.parity.locate.deviation import deviation
from marwright.parity.locate.layers import Trial
from marwright.parity.locate.onnx_graph import OnnxGraph, label
from marwright.parity.locate.onnx_slice import Slice, smallest_slice
from tests.parity.locate.exported import (
    FLOOR,
    OPSET,
    K,
    nudged,
    program,
    reweigh,
    rows,
    written,
)
from tests.parity.locate.test_fused import almost_gelu, inputs, trial
from tests.parity.locate.test_onnx_node import batch_of_one, nudge_product

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def first(model: ModelProto) -> None:
    reweigh(model, "first.conv.weight", nudged)


def part_of(path: Path, op: str, place: int = 0) -> Slice:
    graph = OnnxGraph.load(path)
    node = [label(each) for each in graph.nodes if each.op_type == op][place]
    looking = Trial(program=program(), graph=graph, inputs=rows(), optimised=False, threads=1)
    return smallest_slice(looking, node, K, FLOOR)


def ops(part: Slice) -> list[str]:
    return [node.op_type for node in part.graph.nodes]


def test_wrong_node_is_alone(tmp_path: Path) -> None:
    part = part_of(written(tmp_path, first), "Conv", 1)
    assert part.reproduces
    assert ops(part) == ["Conv"]
    assert set(part.graph.weights) == {"first.conv.weight", "first.conv.weight_bias"}
    assert part.graph.inputs == ["conv2d"]
    assert part.feeds["conv2d"].dtype == np.float32
    assert part.expected.dtype == np.float64
    arrays = part.graph.run(part.graph.outputs, part.feeds, optimised=False, threads=1)
    assert not deviation(arrays["getitem"], part.expected).within(part.limit)


def test_node_without_a_counterpart_comes_with_the_next_that_has_one(tmp_path: Path) -> None:
    part = part_of(written(tmp_path, nudge_product), "MatMul")
    assert part.reproduces
    assert ops(part) == ["MatMul", "Add"]


def test_part_that_is_right_is_widened(tmp_path: Path) -> None:
    """The node is the third behind the one that is wrong."""
    part = part_of(written(tmp_path, first), "Relu")
    assert part.reproduces
    assert ops(part) == ["Conv", "Conv", "Add", "Relu"]
    assert part.graph.inputs == ["input"]


def test_node_that_stops_is_alone(tmp_path: Path) -> None:
    part = part_of(written(tmp_path, batch_of_one), "Reshape")
    assert part.reproduces
    assert ops(part) == ["Reshape"]
    with pytest.raises(RuntimeError, match="requested shape"):
        part.graph.run(part.graph.outputs, part.feeds, optimised=False, threads=1)


def test_fused_nodes_come_together(tmp_path: Path) -> None:
    model, made_from = almost_gelu()
    path = export_onnx(model, (4,), OPSET, tmp_path)
    part = smallest_slice(trial(path, made_from, inputs()), "node_div", K, FLOOR)
    assert part.reproduces
    assert ops(part) == ["Div", "Erf", "Add", "Mul", "Mul", "Gemm"]


def test_nothing_reproduces_where_nothing_is_wrong(tmp_path: Path) -> None:
    part = part_of(written(tmp_path), "Gelu")
    assert not part.reproduces
    assert part.graph.outputs == ["output"]
    assert len(part.graph.nodes) == len(OnnxGraph.load(written(tmp_path)).nodes)
