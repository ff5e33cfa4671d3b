"""Error by layer: a healthy file has none beyond float32's, and a fault shows from its node on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marwright.parity.locate import layers
from marwright.parity.locate.layers import layer_errors
from marwright.parity.types import Layer
from tests.parity.locate.exported import (
    FLOOR,
    K,
    insert_before,
    node_of,
    nudged,
    program,
    reweigh,
    rows,
    written,
)

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def errors(path: Path) -> list[Layer]:
    return layer_errors(program(), path, rows(), threads=1)


def beyond(found: list[Layer]) -> list[str]:
    return [each.node for each in found if not 0 <= each.error <= K * each.float32 + FLOOR]


def test_healthy_file_errs_like_float32_everywhere(tmp_path: Path) -> None:
    found = errors(written(tmp_path))
    assert beyond(found) == []
    assert [each.op for each in found[:4]] == ["Conv", "Conv", "Add", "Relu"]
    assert found[0] == Layer(
        node="node_conv2d", op="Conv", shape=[3, 4, 8, 8],
        error=found[0].error, float32=found[0].float32,
    )  # fmt: skip
    assert 1e-9 < found[0].error < 1e-6
    assert 1e-9 < found[0].float32 < 1e-6
    assert found[-1].shape == [3, 3]
    # Values that torch has no counterpart of are left out: a product before its bias.
    assert "MatMul" not in {each.op for each in found}


def test_fault_shows_from_its_node_on(tmp_path: Path) -> None:
    path = written(tmp_path, lambda model: reweigh(model, "first.conv.weight", nudged))
    found = errors(path)
    wrong = beyond(found)
    nodes = [each.node for each in found]
    assert nodes[1] == wrong[0]
    assert found[1].error > 1e-4
    assert len(wrong) > 10


def test_nan_is_reported_as_no_number(tmp_path: Path) -> None:
    path = written(tmp_path, lambda model: insert_before(model, node_of(model, "Gelu"), "Sqrt"))
    [gelu] = [each for each in errors(path) if each.op == "Gelu"]
    assert gelu.error == -1
    assert gelu.float32 > 0


def test_many_values_are_run_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    at_once = errors(path)
    runs = []
    run = layers.OnnxGraph.run
    monkeypatch.setattr(
        layers.OnnxGraph, "run", lambda *a, **k: runs.append(len(a[1])) or run(*a, **k)
    )
    # As many elements as one value of a convolution has.
    monkeypatch.setattr(layers, "_AT_ONCE", 3 * 4 * 8 * 8)
    assert errors(path) == at_once
    assert len(runs) > 5
    assert sum(runs) == len(at_once)


def test_file_that_stops_says_so(tmp_path: Path) -> None:
    def baked(model: object) -> None:
        reweigh(model, "val_50", lambda _: np.array([1, 4, 64]))

    with pytest.raises(RuntimeError, match="running Reshape node"):
        errors(written(tmp_path, baked))
