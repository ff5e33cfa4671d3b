"""Looking for where a fault is may fail in any way; the verdict stays, and the report says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from marwright.parity import explain as module
from marwright.parity.compare import Candidate, Comparison
from marwright.parity.explain import explain
from marwright.parity.report import report_of
from marwright.parity.types import ParityReport
from tests.archive.proven import one_thread
from tests.parity.files import candidate, comparison, onnx_file

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def nudged(arrays: dict[str, object]) -> None:
    arrays["second.weight"] *= 1.01  # type: ignore[operator]


def judged(held: Candidate) -> tuple[Comparison, ParityReport]:
    gate = comparison(held)
    gate.compare([gate.real])
    return gate, report_of(gate, flops=1)


def truncated(proto: onnx.ModelProto) -> None:
    """A weight of fewer bytes than its shape says."""
    weight = proto.graph.initializer[0]
    weight.raw_data = weight.raw_data[:-4]


def without_outputs(proto: onnx.ModelProto) -> None:
    del proto.graph.output[:]


def of_an_unknown_type(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_type = 77


@pytest.mark.parametrize(
    ("damage", "noted"), [(truncated, True), (of_an_unknown_type, True), (without_outputs, False)]
)
def test_a_damaged_file_keeps_its_verdict(
    tmp_path: Path, damage: Callable[[onnx.ModelProto], None], noted: bool
) -> None:
    proto = onnx.load(onnx_file(tmp_path))
    damage(proto)
    onnx.save(proto, tmp_path / "model.onnx")
    gate, report = judged(candidate(tmp_path, onnx=tmp_path / "model.onnx"))
    assert {(p.check, p.backend) for p in report.problems} >= {("runs", "onnx")}
    explained = explain(report, gate, repro=tmp_path / "repro")
    assert (explained.ok, explained.problems) == (False, report.problems)
    unsaid = ("no error by layer: ", "onnx: the node that diverges was not found: ")
    assert any(note.startswith(unsaid) for note in explained.notes) is noted


def test_a_node_that_cannot_be_shown_alone_is_named_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_onnx_repro", fails)
    held = candidate(tmp_path)
    gate, report = judged(replace(held, onnx=onnx_file(tmp_path, nudged)))
    explained = explain(report, gate, repro=tmp_path / "repro")
    assert explained.divergence is not None
    assert explained.divergence.backend == "onnx"
    [note] = [note for note in explained.notes if "cannot be shown alone" in note]
    assert note.startswith(explained.divergence.node)
    assert note.endswith("No space left on device")
