"""Layers are int8 where they can be and where they are asked to be, and nothing else changes."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from marwright.export.quantise.graph import (
    LARGEST,
    Ranges,
    layers_of,
    quantised,
    read_graph,
    size_of,
)
from marwright.recipe.errors import ExportError
from tests.export.quantise.graphs import KEEP, SUM, chain, harmless, model_of, written

pytestmark = pytest.mark.onnx


def ranges(*names: str) -> Ranges:
    return {name: (np.float32(-1), np.float32(3)) for name in names}


def int8_of(model: ModelProto, folder: Path, excluded: Collection[str] = ()) -> ModelProto:
    graph = read_graph(written(model, folder))
    values = {name for node in graph.graph.node for name in (*node.input, *node.output)}
    made = quantised(graph, ranges(*values), excluded)
    onnx.checker.check_model(made, full_check=True)
    return made


def weights(model: ModelProto) -> dict[str, NDArray[np.generic]]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def images() -> ModelProto:
    """A convolution of two channels of very different sizes, a product, and what is between."""
    kernel = np.ones((2, 1, 3, 3), dtype=np.float32) * np.array([1, 1000]).reshape(2, 1, 1, 1)
    kernel = kernel.astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["convolved"], "conv"),
        helper.make_node("Relu", ["convolved"], ["positive"], "relu"),
        helper.make_node("Sigmoid", ["positive"], ["bounded"], "sigmoid"),
        helper.make_node("Flatten", ["bounded"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "matrix"], ["output"], "matmul"),
    ]
    matrix = np.ones((2 * 6 * 6, 3), dtype=np.float32)
    return model_of(nodes, {"kernel": kernel, "matrix": matrix}, inputs=(1, 8, 8), outputs=(3,))


def test_layers_are_named_in_order_with_their_operators(tmp_path: Path) -> None:
    graph = read_graph(written(images(), tmp_path))
    assert layers_of(graph) == {"conv": "Conv", "matmul": "MatMul"}
    assert [*layers_of(graph)] == ["conv", "matmul"]


def test_weights_have_seven_bits_and_a_scale_for_each_channel(tmp_path: Path) -> None:
    """Eight bits overflow on processors without VNNI, where the same file gives other labels."""
    found = weights(int8_of(images(), tmp_path))
    kernel, scales = found["kernel_quantized"], found["kernel_scale"]
    assert kernel.dtype == np.int8
    assert np.abs(kernel.astype(int)).max() == 64
    # One scale for both would leave nothing of the first channel.
    assert (kernel == 64).all()
    assert scales[1] == pytest.approx(1000 * scales[0], rel=1e-5)


def test_activations_are_unsigned(tmp_path: Path) -> None:
    made = int8_of(images(), tmp_path)
    found = weights(made)
    points = {n.input[2] for n in made.graph.node if n.op_type == "QuantizeLinear"}
    assert points
    assert {found[name].dtype for name in points} == {np.dtype(np.uint8)}


def test_logits_and_what_no_int8_kernel_computes_stay_float32(tmp_path: Path) -> None:
    made = int8_of(images(), tmp_path)
    makers = {name: node.op_type for node in made.graph.node for name in node.output}
    assert makers["output"] == "MatMul"
    assert makers["bounded"] == "Sigmoid"
    readers = [n.op_type for n in made.graph.node if "bounded" in n.input]
    assert readers == ["Flatten"]


def test_an_excluded_layer_keeps_its_weights(tmp_path: Path) -> None:
    whole, most = int8_of(harmless(), tmp_path), int8_of(harmless(), tmp_path, {"layer_1"})
    assert "weight_1" not in weights(whole)
    assert (weights(most)["weight_1"] == np.array(KEEP, dtype=np.float32)).all()
    assert "weight_0" not in weights(most)
    node = next(n for n in most.graph.node if n.name == "layer_1")
    assert [*node.input] == ["value_0", "weight_1", "bias_1"]


def test_the_model_that_was_given_and_its_ranges_stay_as_they_are(tmp_path: Path) -> None:
    graph = read_graph(written(images(), tmp_path))
    before, given = graph.SerializeToString(), ranges("input", "convolved", "positive", "flat")
    first = quantised(graph, given, ()).SerializeToString()
    assert graph.SerializeToString() == before
    assert quantised(graph, given, ()).SerializeToString() == first
    assert dict(given) == dict(ranges("input", "convolved", "positive", "flat"))


def test_what_the_file_says_of_itself_is_kept_and_nothing_added(tmp_path: Path) -> None:
    model = harmless()
    helper.set_model_props(model, {"origin": "abc"})
    made = int8_of(model, tmp_path)
    assert {entry.key: entry.value for entry in made.metadata_props} == {"origin": "abc"}
    for value in (made.graph.input[0], made.graph.output[0]):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT


def test_onnxruntime_says_nothing_and_others_may_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    # A product whose bias is computed is one of the things that it warns of.
    nodes = [
        helper.make_node("Gemm", ["input", "weight"], ["value"], "first"),
        helper.make_node("Gemm", ["input", "weight", "value"], ["output"], "second"),
    ]
    int8_of(model_of(nodes, {"weight": np.array(SUM, dtype=np.float32)}), tmp_path)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    logging.getLogger().warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]


def test_a_model_without_layers_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sigmoid", ["input"], ["output"], "sigmoid")]
    graph = read_graph(written(model_of(nodes, {}, outputs=(2,)), tmp_path))
    with pytest.raises(ExportError, match="no Conv and no Gemm and no MatMul of float32: set"):
        layers_of(graph)


def test_layers_of_other_types_are_none(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["input"], ["double"], "cast", to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["double", "matrix"], ["product"], "matmul"),
        helper.make_node("Cast", ["product"], ["single"], "back", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["single", "square"], ["output"], "kept"),
    ]
    matrix, square = np.ones((2, 1)), np.ones((1, 1), dtype=np.float32)
    model = model_of(nodes, {"matrix": matrix, "square": square})
    assert layers_of(read_graph(written(model, tmp_path))) == {"kept": "MatMul"}


def test_sizes_count_external_weights_and_too_many_are_refused(tmp_path: Path) -> None:
    path = written(chain(KEEP, SUM), tmp_path)
    alone = size_of(path)
    # A hole, of which the disk holds nothing.
    with (tmp_path / "model.onnx.data").open("wb") as file:
        file.truncate(LARGEST)
    assert size_of(path) == alone + LARGEST
    with pytest.raises(ExportError, match=r"^model\.onnx: 1\.9 GiB of weights are too many"):
        read_graph(path)
