"""The error of an ONNX file by layer: each value that has a counterpart in the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch.onnx import ONNXProgram

from marwright.parity.locate.deviation import Deviation, deviation
from marwright.parity.locate.onnx_graph import OnnxGraph, label
from marwright.parity.locate.program import Step, value_names, walk
from marwright.parity.types import Layer

# Elements of intermediate values that onnxruntime gives at once (512 MiB of float32); a graph
# with more of them runs several times.
_AT_ONCE = 2**27


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A file, its checkpoint (`export_program`), and a few rows `(n, *shape)` for both."""

    program: ONNXProgram
    graph: OnnxGraph
    inputs: NDArray[Any]
    optimised: bool
    threads: int

    @property
    def feed(self) -> dict[str, NDArray[Any]]:
        """What the graph's one input is fed with."""
        return {self.graph.inputs[0]: self.inputs}

    def run(self, values: list[str]) -> dict[str, NDArray[Any]]:
        """Return values of the file by name. Raises `RuntimeError` when onnxruntime fails."""
        return self.graph.run(values, self.feed, optimised=self.optimised, threads=self.threads)

    def shared(self) -> dict[str, str]:
        """Map nodes of the program, in its order, to the values that should equal theirs."""
        names = value_names(self.program, self.graph.outputs)
        return {node: value for node, value in names.items() if value in self.graph.makers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One value of the file: its error, and that of float32 at the same place.

    `shape` is the file's and `expected` the checkpoint's. `module` is the path of the
    checkpoint's module that it belongs to.
    """

    value: str
    module: str
    shape: tuple[int, ...]
    expected: tuple[int, ...]
    error: Deviation
    noise: Deviation

    def within(self, k: float, floor: float) -> bool:
        """Return whether the error is at most `k` times that of float32, and `floor`."""
        return self.error.within(self.noise.limit(k, floor))


def layer_errors(
    program: ONNXProgram, onnx: Path, inputs: NDArray[Any], *, threads: int
) -> list[Layer]:
    """Compare every value of a file that the checkpoint has too, in the graph's order.

    `program` is the checkpoint (`export_program`), `inputs` are a few rows `(n, *shape)`. The
    file runs with onnxruntime's optimisations off. An error that is no number, because NaN or
    infinity stand at other places, is -1. Raises `ParityError` when the file cannot be read,
    and `RuntimeError` when it does not run.
    """
    graph = OnnxGraph.load(onnx)
    trial = Trial(program=program, graph=graph, inputs=inputs, optimised=False, threads=threads)
    return [
        Layer(
            node=label(graph.makers[each.value]),
            op=graph.makers[each.value].op_type,
            shape=list(each.shape),
            error=each.error.reported(),
            float32=each.noise.reported(),
        )
        for each in compare_values(trial)
        if each.shape == each.expected
    ]


def compare_values(trial: Trial) -> Iterator[Compared]:
    """Yield each value that both have, in the checkpoint's order, while all are exposed.

    Raises `RuntimeError` when onnxruntime fails.
    """
    names = trial.shared()
    groups = _groups(list(names.values()), trial.graph, len(trial.inputs))
    held: dict[str, NDArray[Any]] = {}
    for step in walk(trial.program, trial.inputs):
        if step.name in names:
            value = names[step.name]
            held = held or trial.run(next(groups))
            yield compare(value, held.pop(value), step)


def compare(value: str, found: NDArray[Any], step: Step) -> Compared:
    """Hold one value of the file against the checkpoint's."""
    return Compared(
        value=value,
        module=step.module,
        shape=found.shape,
        expected=step.reference.shape,
        error=deviation(found, step.reference),
        noise=step.noise(),
    )


def _groups(values: list[str], graph: OnnxGraph, batch: int) -> Iterator[list[str]]:
    group: list[str] = []
    room = _AT_ONCE
    for value in values:
        size = graph.size(value, batch)
        if group and size > room:
            yield group
            group, room = [], _AT_ONCE
        group.append(value)
        room -= size
    yield group
