"""Where an ONNX file begins to differ from the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from onnx import NodeProto
from torch.onnx import ONNXProgram

from marwright.export.onnx_session import named_node
from marwright.parity.locate.differences import (
    first_difference,
    fresh_graph,
    opset_difference,
)
from marwright.parity.locate.fused import locate_fused
from marwright.parity.locate.layers import Compared, Trial, compare_values
from marwright.parity.locate.onnx_graph import OnnxGraph, label, read_by
from marwright.parity.locate.program import walk
from marwright.parity.types import Divergence

OnnxBackend = Literal["onnx", "onnx optimised", "int8"]


def locate_onnx(
    program: ONNXProgram,
    onnx: Path,
    inputs: NDArray[Any],
    *,
    backend: OnnxBackend,
    k: float,
    floor: float,
    threads: int,
) -> Divergence | None:
    """Return the first node whose error is above `k` times float32's plus `floor`.

    `program` is the checkpoint (`export_program`), `inputs` are a few rows `(n, *shape)` on which
    the file failed. All its values that the checkpoint has too are compared; where that hides
    the failure of an optimised graph, because a value that is an output cannot be fused away,
    they are exposed one at a time. A file that does not run is located by what onnxruntime says.
    None where all is within. Raises `ParityError` when the file cannot be read.
    """
    trial = Trial(
        program=program, graph=OnnxGraph.load(onnx), inputs=inputs,
        optimised=backend != "onnx", threads=threads,
    )  # fmt: skip
    within: dict[str, Compared] = {}
    try:
        for each in compare_values(trial):
            if not each.within(k, floor):
                return _differs(trial, backend, within, each)
            within[each.value] = each
        fused = locate_fused(trial, k, floor) if trial.optimised else None
    except RuntimeError as error:
        return _stops(trial, backend, k, floor, str(error))
    if fused is None:
        return None
    return _differs(trial, backend, {**within, **fused.within}, fused.found, fused.how)


def _differs(
    trial: Trial,
    backend: OnnxBackend,
    within: Mapping[str, Compared],
    found: Compared,
    how: str = "",
) -> Divergence:
    """Describe the node that is wrong, of those that make a value that is."""
    graph, fresh = trial.graph, fresh_graph(trial.program)
    nodes, sources = graph.between(found.value, within)
    different = first_difference(graph, fresh, nodes)
    node, cause = different or (graph.makers[found.value], _as_exported(nodes))
    strange = ""
    if found.shape != found.expected:
        strange = f"the shape is {list(found.shape)}, the checkpoint's {list(found.expected)}"
    elif found.error.reported() < 0:
        strange = "NaN or infinity stand at other places than the checkpoint's"
    shapes = _known_shapes(trial) | _run_shapes(trial, node)
    return Divergence(
        backend=backend,
        node=label(node),
        op=node.op_type,
        inputs=[shapes.get(name, []) for name in node.input if name],
        output=shapes.get(node.output[0], []),
        before=max((within[each].error.rms for each in sources if each in within), default=0.0),
        after=found.error.reported(),
        how=_sentence(
            _in_module(found.module), cause, opset_difference(graph, fresh), strange, how
        ),
    )


def _stops(trial: Trial, backend: OnnxBackend, k: float, floor: float, error: str) -> Divergence:
    """Describe the node at which the file stops, or one before it that is wrong already."""
    graph, fresh, says = trial.graph, fresh_graph(trial.program), f"onnxruntime stops: {error}"
    name = named_node(error)
    node = next((each for each in graph.nodes if name and label(each) == name), None)
    different = first_difference(graph, fresh, [node] if node else graph.nodes)
    node = node or (different[0] if different else None)
    if node is None:
        return Divergence(
            backend=backend, node=name, op="", inputs=[], output=[], before=-1.0, after=-1.0,
            how=_sentence(opset_difference(graph, fresh), says),
        )  # fmt: skip
    start = replace(trial, graph=graph.until(node), optimised=False)
    within: dict[str, Compared] = {}
    before, shapes = 0.0, _known_shapes(trial)
    try:
        for each in compare_values(start):
            if not each.within(k, floor):
                return _differs(start, backend, within, each, says)
            within[each.value] = each
        shapes |= _run_shapes(start, node)
        _, sources = graph.between(node.output[0], within)
        before = max((within[each].error.rms for each in sources if each in within), default=0.0)
    except RuntimeError:
        before = -1.0
    names = trial.shared()
    steps = (step for step in walk(trial.program, trial.inputs) if step.name in names)
    made = next((step for step in steps if names[step.name] == node.output[0]), None)
    return Divergence(
        backend=backend,
        node=label(node),
        op=node.op_type,
        inputs=[shapes.get(name, []) for name in node.input if name],
        output=list(made.reference.shape) if made else [],
        before=before,
        after=-1.0,
        how=_sentence(
            _in_module(made.module if made else ""),
            different[1] if different else "",
            opset_difference(graph, fresh),
            says,
        ),
    )


def _known_shapes(trial: Trial) -> dict[str, list[int]]:
    weights = {name: list(each.dims) for name, each in trial.graph.weights.items()}
    return weights | {name: list(each.shape) for name, each in trial.feed.items()}


def _run_shapes(trial: Trial, node: NodeProto) -> dict[str, list[int]]:
    names = [name for name in (*read_by(node), *node.output) if name in trial.graph.makers]
    return {name: list(each.shape) for name, each in trial.run(names).items()}


def _as_exported(nodes: Sequence[NodeProto]) -> str:
    others = ", ".join(f"{each.op_type} {label(each)}" for each in nodes[:-1])
    return (
        "the checkpoint's own export has the same node, so the exporter or onnxruntime computes "
        "something else" + (f", here or in {others}" if others else "")
    )


def _in_module(path: str) -> str:
    return f"in the module {path}" if path else ""


def _sentence(*parts: str) -> str:
    return "; ".join(filter(None, parts))
