"""What distinguishes a node of an ONNX file from what the exporter makes of the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import NodeProto
from torch.onnx import ONNXProgram

from marwright.parity.locate.onnx_graph import OnnxGraph

# Weights that the exporter folds may come out otherwise in their last bits.
_CLOSE = 1e-6
# Shapes, axes and the like are shown.
_SHORT = 8


def fresh_graph(program: ONNXProgram) -> OnnxGraph:
    """Return what the exporter makes of the checkpoint (`export_program`)."""
    return OnnxGraph(ir.to_proto(program.model), Path())


def first_difference(
    graph: OnnxGraph, fresh: OnnxGraph, nodes: Sequence[NodeProto]
) -> tuple[NodeProto, str] | None:
    """Return the first of some nodes that is not as in a fresh export, and what is different.

    Nodes belong together when they make values of one name, or else read the same.
    """
    renamed: dict[str, str] = {}
    for node in nodes:
        inputs = [renamed.get(name, name) for name in node.input]
        candidates = _counterparts(graph, fresh, node, inputs)
        differences = [_difference(graph, fresh, node, inputs, own) for own in candidates]
        if not differences:
            return node, "the checkpoint's own export has no such node"
        if all(differences):
            return node, differences[0]
        renamed |= dict(zip(node.output, candidates[differences.index("")].output, strict=False))
    return None


def opset_difference(graph: OnnxGraph, fresh: OnnxGraph) -> str:
    """Return in words how the operators' version is not that of a fresh export."""
    if graph.opset == fresh.opset:
        return ""
    return f"the file declares opset {graph.opset}, the checkpoint's own export {fresh.opset}"


def weights_difference(name: str, values: NDArray[Any], expected: NDArray[Any]) -> str:
    """Return in words how a weight is not the checkpoint's; empty where it is."""
    if values.shape != expected.shape:
        return f"{name} has the shape {list(values.shape)}, not {list(expected.shape)}"
    if values.dtype != expected.dtype:
        return f"{name} is {values.dtype}, not {expected.dtype}"
    off, extent = values != expected, ""
    if off.any() and not np.issubdtype(expected.dtype, np.floating) and off.size <= _SHORT:
        return f"{name} is {values.tolist()}, not {expected.tolist()}"
    if np.issubdtype(expected.dtype, np.floating):
        finite = np.isfinite(values) & np.isfinite(expected)
        error = np.abs(np.where(finite, values, 0.0) - np.where(finite, expected, 0.0))
        close = finite & (error <= _CLOSE * np.abs(expected[finite]).max(initial=0))
        off &= ~close & ~(np.isnan(values) & np.isnan(expected))
        extent = f", by up to {error.max(initial=0):.2g}" if error.any() else ""
    if not off.any():
        return ""
    return f"{name} is not the checkpoint's: differs in {off.sum()} of {off.size} values{extent}"


def _counterparts(
    graph: OnnxGraph, fresh: OnnxGraph, node: NodeProto, inputs: Sequence[str]
) -> list[NodeProto]:
    for value in node.output:
        if value in fresh.makers:
            return [fresh.makers[value]]
    wanted = [name for name in inputs if name not in graph.weights]
    return [
        own
        for own in fresh.nodes
        if own.op_type == node.op_type
        and [name for name in own.input if name not in fresh.weights] == wanted
    ]


def _difference(
    graph: OnnxGraph, fresh: OnnxGraph, node: NodeProto, inputs: Sequence[str], own: NodeProto
) -> str:
    if own.op_type != node.op_type:
        return f"the checkpoint's own export has {own.op_type} here"
    differences = []
    for name, expected in zip_longest(inputs, own.input, fillvalue=""):
        if name in graph.weights and expected in fresh.weights:
            values, wanted = graph.weight(name), fresh.weight(expected)
            # A weight that is shared, because its values are, may have either's name.
            if different := weights_difference(f"initialiser {expected}", values, wanted):
                differences.append(different)
        elif name != expected:
            differences.append(_reads(name, expected, fresh))
    return "; ".join([*differences, *_attributes(node, own)])


def _reads(name: str, expected: str, fresh: OnnxGraph) -> str:
    maker = fresh.makers.get(expected)
    made = f" (made by {maker.op_type})" if maker else ""
    if not name:
        return f"it lacks the input {expected}{made}"
    return f"it reads {name}, and the checkpoint's own export {expected or 'nothing'}{made}"


def _attributes(node: NodeProto, own: NodeProto) -> list[str]:
    values, wanted = ({each.name: each for each in side.attribute} for side in (node, own))
    return [
        f"attribute {name} is {_shown(values.get(name))}, not {_shown(wanted.get(name))}"
        for name in sorted(values.keys() | wanted.keys())
        # Branches are graphs of their own, whose names may differ.
        if (values.get(name) != wanted.get(name)) and not _is_graph(values.get(name))
    ]


def _is_graph(attribute: onnx.AttributeProto | None) -> bool:
    return attribute is not None and attribute.type == onnx.AttributeProto.GRAPH


def _shown(attribute: onnx.AttributeProto | None) -> str:
    if attribute is None:
        return "missing"
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else str(value)
