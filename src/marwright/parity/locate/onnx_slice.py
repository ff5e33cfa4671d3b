"""The smallest part of an ONNX graph that is wrong by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from marwright.parity.locate.deviation import Deviation, deviation
from marwright.parity.locate.layers import Trial
from marwright.parity.locate.onnx_graph import OnnxGraph, label
from marwright.parity.locate.program import walk

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of a graph, with one output: what it is fed, and what it should give (float64).

    `feeds` are the reference's values, in the precision of the graph. `reproduces` says whether
    the part is as wrong as the whole.
    """

    graph: OnnxGraph
    feeds: dict[str, Array]
    expected: Array
    limit: Deviation
    reproduces: bool


def smallest_slice(trial: Trial, node: str, k: float, floor: float) -> Slice:
    """Return the part that ends with a node and errs by more than float32 explains.

    It starts with the node alone, and takes in 2, 4, 8, … values before it while it is right
    by itself; then it is tried up to the graph's output, as fusing needs what comes after. At
    last it is the whole graph, which may not reproduce: then nothing did.
    """
    stops = _stops(trial)
    for end, known in _cuts(trial, node):
        found = _slice(trial, end, known, k, floor, stops=stops)
        if found.reproduces:
            break
    return found


def _cuts(trial: Trial, node: str) -> Iterator[tuple[str, set[str]]]:
    """Yield a value to end with and the values to start from, which are fewer each time."""
    shared, output = list(trial.shared().values()), trial.graph.outputs[0]
    target = next((each for each in shared if _is_made_by(trial, each, node, shared)), output)
    place = shared.index(target)
    for end in dict.fromkeys((target, output)):
        width = 1
        while width <= place:
            yield end, set(shared[: place - width + 1])
            width *= 2
        yield end, set()


def _is_made_by(trial: Trial, value: str, node: str, shared: list[str]) -> bool:
    nodes, _ = trial.graph.between(value, shared)
    return any(label(each) == node for each in nodes)


def _slice(
    trial: Trial, end: str, known: set[str], k: float, floor: float, *, stops: bool
) -> Slice:
    names, values = trial.shared(), dict(trial.feed)
    _, sources = trial.graph.between(end, known)
    for step in walk(trial.program, trial.inputs):
        value = names.get(step.name)
        if value in sources:
            values[value] = step.reference.astype(step.float32.dtype)
        if value == end:
            expected, limit = step.reference.copy(), step.noise().limit(k, floor)
            break
    graph = trial.graph.cut(end, known, values)
    feeds = {name: values[name] for name in graph.inputs}
    try:
        arrays = graph.run([end], feeds, optimised=trial.optimised, threads=trial.threads)
        reproduces = not deviation(arrays[end], expected).within(limit)
    except RuntimeError:
        reproduces = stops
    return Slice(graph=graph, feeds=feeds, expected=expected, limit=limit, reproduces=reproduces)


def _stops(trial: Trial) -> bool:
    try:
        trial.run(trial.graph.outputs)
    except RuntimeError:
        return True
    return False
