"""A node that is not what a fresh export has, and how, in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from marwright.parity.locate.differences import (
    first_difference,
    opset_difference,
    weights_difference,
)
from marwright.parity.locate.onnx_graph import OnnxGraph, label
from tests.parity.locate.exported import insert_before, node_of, reweigh
from tests.parity.locate.test_onnx_graph import diamond

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def difference(fault: Callable[[ModelProto], None]) -> tuple[str, str] | None:
    model = diamond()
    fault(model)
    graph = OnnxGraph(model, Path())
    found = first_difference(graph, OnnxGraph(diamond(), Path()), graph.nodes)
    return (label(found[0]), found[1]) if found else None


def test_same_graph_has_none() -> None:
    assert difference(lambda _: None) is None


def heavier(model: ModelProto) -> None:
    reweigh(model, "weight", lambda values: values * np.float32(1.5))


def narrower(model: ModelProto) -> None:
    reweigh(model, "weight", lambda values: values.astype(np.float16))


def shorter(model: ModelProto) -> None:
    reweigh(model, "weight", lambda values: values[:1])


def other_op(model: ModelProto) -> None:
    node_of(model, "Abs").op_type = "Neg"


def attribute(model: ModelProto) -> None:
    node_of(model, "Add").attribute.append(helper.make_attribute("axis", 1))


def skipped(model: ModelProto) -> None:
    node_of(model, "Add").input[1] = "scaled"


def dropped(model: ModelProto) -> None:
    del node_of(model, "Mul").input[1]


def inserted(model: ModelProto) -> None:
    insert_before(model, node_of(model, "Abs"), "Relu")


@pytest.mark.parametrize(
    ("fault", "node", "text"),
    [
        (
            heavier, "mul",
            "initialiser weight is not the checkpoint's: differs in 4 of 4 values, by up to 1.5",
        ),
        (narrower, "mul", "initialiser weight is float16, not float32"),
        (shorter, "mul", "initialiser weight has the shape [1], not [4]"),
        (other_op, "size", "the checkpoint's own export has Abs here"),
        (attribute, "add", "attribute axis is 1, not missing"),
        (
            skipped, "add",
            "it reads scaled, and the checkpoint's own export size (made by Abs)",
        ),
        (dropped, "mul", "it lacks the input weight"),
        (inserted, "extra", "the checkpoint's own export has no such node"),
    ],
)  # fmt: skip
def test_difference_is_named(fault: Callable[[ModelProto], None], node: str, text: str) -> None:
    assert difference(fault) == (node, text)


def test_weights_that_differ_in_their_last_bits_are_the_same() -> None:
    values = np.array([1.0, 2.0], np.float32)
    assert weights_difference("w", np.nextafter(values, np.float32(3)), values) == ""
    assert weights_difference("w", values * np.float32(1.001), values) == (
        "w is not the checkpoint's: differs in 2 of 2 values, by up to 0.002"
    )
    assert weights_difference("w", np.arange(9), np.zeros(9, np.int64)) == (
        "w is not the checkpoint's: differs in 8 of 9 values"
    )
    assert weights_difference("w", np.zeros(0), np.zeros(0)) == ""


def test_short_integers_are_shown() -> None:
    assert (
        weights_difference("w", np.array([1, 4]), np.array([-1, 4])) == "w is [1, 4], not [-1, 4]"
    )
    assert (
        weights_difference("w", np.array([True]), np.array([False])) == "w is [True], not [False]"
    )
    assert weights_difference("w", np.array(3), np.array(2)) == "w is 3, not 2"
    assert weights_difference("w", np.array([1, 4]), np.array([1, 4])) == ""


def test_weights_that_are_not_finite_are_compared() -> None:
    masked = np.array([1.0, -np.inf, np.nan], np.float32)
    assert weights_difference("w", masked.copy(), masked) == ""
    text = "w is not the checkpoint's: differs in 1 of 3 values"
    assert weights_difference("w", np.array([1, -np.inf, 0], np.float32), masked) == text
    assert weights_difference("w", np.array([1, np.inf, np.nan], np.float32), masked) == text
    more = weights_difference("w", np.array([2, -np.inf, np.nan], np.float32), masked)
    assert more == f"{text}, by up to 1"


def test_weight_of_another_name_and_the_same_values_is_the_same() -> None:
    def renamed(model: ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.full(4, -3, np.float32), "copy"))
        node_of(model, "Mul").input[1] = "copy"

    assert difference(renamed) is None


def test_other_opset_is_told() -> None:
    model = diamond()
    model.opset_import[0].version = 12
    graph, fresh = OnnxGraph(model, Path()), OnnxGraph(diamond(), Path())
    text = "the file declares opset 12, the checkpoint's own export 20"
    assert opset_difference(graph, fresh) == text
    assert opset_difference(fresh, fresh) == ""
