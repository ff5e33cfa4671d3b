"""Ranges are those of the values that layers read and give, over all batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from marwright.export.quantise.graph import read_graph
from marwright.export.quantise.run import outputs_of, ranges_of
from marwright.recipe.errors import ExportError
from tests.export.quantise.graphs import KEEP, SUM, chain, model_of, written

pytestmark = pytest.mark.onnx

ROWS = np.array([[1, -2], [3, 0.5], [0, 0], [-4, 1], [0.25, 7]], dtype=np.float32)


def test_ranges_are_those_of_all_batches_and_of_no_weight(tmp_path: Path) -> None:
    model = read_graph(written(chain(KEEP, SUM), tmp_path))
    found = ranges_of(model, [ROWS[:2], ROWS[2:4], ROWS[4:]], threads=1)
    sums = ROWS.sum(axis=1)
    assert found == {"input": (-4, 7), "value_0": (-4, 7), "output": (sums.min(), sums.max())}


def test_the_model_is_not_changed_by_it(tmp_path: Path) -> None:
    model = read_graph(written(chain(KEEP, SUM), tmp_path))
    before = model.SerializeToString()
    ranges_of(model, [ROWS], threads=1)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_no_int8_can_hold_is_named(tmp_path: Path, value: float) -> None:
    nodes = [
        helper.make_node("Add", ["input", "shift"], ["shifted"], "add"),
        helper.make_node("MatMul", ["shifted", "sum"], ["output"], "matmul"),
    ]
    weights = {"shift": np.array([value, value], dtype=np.float32)}
    model = model_of(nodes, weights | {"sum": np.array(SUM, dtype=np.float32)})
    with pytest.raises(ExportError, match=r"^model\.onnx: shifted is from .* on training samples"):
        ranges_of(read_graph(written(model, tmp_path)), [ROWS], threads=1)


def test_outputs_are_those_of_all_batches_in_order(tmp_path: Path) -> None:
    model = read_graph(written(chain(SUM), tmp_path))
    found = outputs_of(model, [ROWS[:1], ROWS[1:]], threads=1)
    assert found[:, 0] == pytest.approx(ROWS.sum(axis=1))
