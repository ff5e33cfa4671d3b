"""Where a failed export goes wrong: the first diverging node, and a folder that shows it alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from torch.onnx import ONNXProgram

from marwright.export.onnx_session import told
from marwright.export.to_onnx import export_program
from marwright.export.trace import BATCHES
from marwright.parity.backends import Array
from marwright.parity.compare import Comparison
from marwright.parity.locate.layers import layer_errors
from marwright.parity.locate.onnx_node import locate_onnx
from marwright.parity.locate.repro import write_onnx_repro, write_torchscript_repro
from marwright.parity.locate.torchscript import locate_torchscript
from marwright.parity.texts import is_text, trimmed
from marwright.parity.types import BackendName, Divergence, ParityReport
from marwright.runtime.spec import Dtype

# Rows that go through every node of the graph.
_ROWS = 2
_TRIED = 3
_BACKENDS: tuple[BackendName, ...] = ("onnx", "onnx optimised", "torchscript")


def explain(report: ParityReport, gate: Comparison, *, repro: Path | None = None) -> ParityReport:
    """Return a report with the errors by layer, and of a failed one the first diverging node.

    That node is written to the folder `repro`, if there is one, so that it can be looked at
    alone. What cannot be said stands in the notes: nothing here changes a verdict, however
    broken the files are.
    """
    candidate, notes = gate.candidate, list(report.notes)
    failed = {problem.backend for problem in report.problems}
    layers, divergence = report.layers, None
    program: ONNXProgram | None = None
    try:
        program = export_program(
            candidate.eager, _shape(gate), candidate.opset, candidate.dynamic, _dtype(gate)
        )
        rows = trimmed(gate.real.rows[:_ROWS])
        layers = layer_errors(program, candidate.onnx, rows, threads=gate.settings.threads)
    except Exception as error:  # noqa: BLE001
        notes.append(f"no error by layer: {told(error)}")
    for backend in _BACKENDS:
        if divergence is None and backend in failed:
            try:
                divergence = _first_diverging(gate, backend, program, repro, notes)
            except Exception as error:  # noqa: BLE001
                notes.append(f"{backend}: the node that diverges was not found: {told(error)}")
    return msgspec.structs.replace(report, layers=layers, divergence=divergence, notes=notes)


def _shape(gate: Comparison) -> tuple[int, ...]:
    """Return the shape of a sample to export with: of texts the longest there can be, because one
    byte would be taken for a fixed size.
    """
    shape: tuple[int, ...] = gate.real.rows.shape[1:]
    if not is_text(gate.real.rows) or 0 not in gate.candidate.dynamic:
        return shape
    return (gate.candidate.dynamic[0][2],)


def _dtype(gate: Comparison) -> Dtype:
    return "int64" if is_text(gate.real.rows) else "float32"


def _first_diverging(
    gate: Comparison,
    backend: BackendName,
    program: ONNXProgram | None,
    repro: Path | None,
    notes: list[str],
) -> Divergence | None:
    for rows in _failing_rows(gate, backend):
        found = _located(gate, backend, program, rows)
        if found is None:
            continue
        if repro is not None:
            try:
                _write_repro(repro, found, gate, program, rows)
            except Exception as error:  # noqa: BLE001
                notes.append(f"{found.node} cannot be shown alone: {told(error)}")
        return found
    return None


def _located(
    gate: Comparison, backend: BackendName, program: ONNXProgram | None, rows: Array
) -> Divergence | None:
    candidate, tolerance = gate.candidate, gate.judge.yardsticks[backend].tolerance
    k, floor = tolerance.k, tolerance.floor
    if backend == "torchscript":
        return locate_torchscript(candidate.yardstick, candidate.traced, rows, k=k, floor=floor)
    if program is None or backend == "int8":
        return None
    threads = gate.settings.threads
    return locate_onnx(
        program, candidate.onnx, rows, backend=backend, k=k, floor=floor, threads=threads
    )


def _write_repro(
    folder: Path, found: Divergence, gate: Comparison, program: ONNXProgram | None, rows: Array
) -> None:
    candidate, tolerance = gate.candidate, gate.judge.yardsticks[found.backend].tolerance
    k, floor, threads = tolerance.k, tolerance.floor, gate.settings.threads
    if found.backend == "torchscript":
        model, traced = candidate.yardstick, candidate.traced
        write_torchscript_repro(folder, found, model, traced, rows, k=k, floor=floor)
    elif program is not None:
        onnx = candidate.onnx
        write_onnx_repro(folder, found, program, onnx, rows, k=k, floor=floor, threads=threads)


def _failing_rows(gate: Comparison, backend: BackendName) -> Iterator[Array]:
    """Yield rows on which a backend failed: the smallest batches first, and then some that may.

    A file that cannot be loaded fails on any.
    """
    failed = sorted(gate.failing.get(backend, []), key=len)
    yield from failed[:_TRIED]
    # What failed at one batch size need not fail at another.
    for batch in BATCHES:
        yield trimmed(np.resize(gate.real.rows, (batch, *gate.real.rows.shape[1:])))
