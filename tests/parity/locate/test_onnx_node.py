"""Each seeded fault of an ONNX file is found at its node, and told in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from marwright.parity.locate.onnx_node import OnnxBackend, locate_onnx
from marwright.parity.types import Divergence
from marwright.recipe.errors import ParityError
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

Fault = Callable[[ModelProto], None]


def locate(path: Path, backend: OnnxBackend = "onnx", count: int = 3) -> Divergence | None:
    return locate_onnx(program(), path, rows(count), backend=backend, k=K, floor=FLOOR, threads=1)


@pytest.mark.parametrize("backend", ["onnx", "onnx optimised"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_healthy_file_has_none(tmp_path: Path, backend: OnnxBackend, count: int) -> None:
    assert locate(written(tmp_path), backend, count) is None


def nudge(model: ModelProto) -> None:
    reweigh(model, "first.conv.weight", nudged)


def rounded(model: ModelProto) -> None:
    reweigh(model, "head.weight", lambda each: each.astype(np.float16).astype(np.float32))


def nudge_product(model: ModelProto) -> None:
    """Of a product whose value, before the bias, torch does not have."""
    reweigh(model, "val_33", nudged)


def no_bias(model: ModelProto) -> None:
    del node_of(model, "Conv").input[2:]


def zero_bias(model: ModelProto) -> None:
    reweigh(model, "mlp.bias", np.zeros_like)


def epsilon(model: ModelProto) -> None:
    [found] = [
        each for each in node_of(model, "LayerNormalization").attribute if each.name == "epsilon"
    ]
    found.f = 1e-3


def shifted(model: ModelProto) -> None:
    [pads] = [each for each in node_of(model, "Conv", 2).attribute if each.name == "pads"]
    pads.ints[:] = [2, 2, 0, 0]


def unpadded(model: ModelProto) -> None:
    [pads] = [each for each in node_of(model, "Conv", 1).attribute if each.name == "pads"]
    pads.ints[:] = [0, 0, 0, 0]


def softmax_at_the_end(model: ModelProto) -> None:
    last = node_of(model, "Add", -1)
    last.output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["output"], name="extra"))


def softmax_inside(model: ModelProto) -> None:
    insert_before(model, node_of(model, "Gelu"), "Softmax")


def root(model: ModelProto) -> None:
    insert_before(model, node_of(model, "Gelu"), "Sqrt")


def cut_off(model: ModelProto) -> None:
    """What is above 2 is cut off."""
    insert_before(model, node_of(model, "Relu"), "Clip")
    model.graph.initializer.append(numpy_helper.from_array(np.float32(2), "most"))
    node_of(model, "Clip").input.extend(["", "most"])


def no_cast(model: ModelProto) -> None:
    cast = node_of(model, "Cast")
    for node in model.graph.node:
        node.input[:] = [cast.input[0] if each == cast.output[0] else each for each in node.input]
    model.graph.node.remove(cast)


def batch_of_one(model: ModelProto) -> None:
    reweigh(model, "val_50", lambda _: np.array([1, 4, 64]))


def old_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 7


@pytest.mark.parametrize("backend", ["onnx", "onnx optimised"])
@pytest.mark.parametrize(
    ("fault", "op", "shapes", "words"),
    [
        (
            nudge, "Conv", [[3, 4, 8, 8], [4, 4, 3, 3], [4]],
            "in the module first.norm; initialiser first.conv.weight is not the checkpoint's: "
            "differs in 1 of 144 values, by up to",
        ),
        (
            rounded, "Gemm", [[3, 8], [3, 8], [3]],
            "in the module head; initialiser head.weight is not the checkpoint's: differs in 2",
        ),
        (
            nudge_product, "MatMul", [[3, 64, 4], [4, 8]],
            "in the module mlp; initialiser val_33 is not the checkpoint's: differs in 1 of 32",
        ),
        (
            no_bias, "Conv", [[3, 1, 8, 8], [4, 1, 3, 3]],
            "in the module stem; it lacks the input stem.bias",
        ),
        (
            zero_bias, "Add", [[3, 64, 8], [8]],
            "in the module mlp; initialiser mlp.bias is not the checkpoint's: differs in 8 of 8",
        ),
        (
            epsilon, "LayerNormalization", [[3, 64, 4], [4], [4]],
            "in the module norm; attribute epsilon is 0.001",
        ),
        (
            shifted, "Conv", [[3, 4, 8, 8], [4, 4, 3, 3], [4]],
            "in the module second.norm; attribute pads is [2, 2, 0, 0], not [1, 1, 1, 1]",
        ),
        (softmax_at_the_end, "Softmax", [[3, 3]], "the checkpoint's own export has Add here"),
        (
            softmax_inside, "Softmax", [[3, 64, 8]],
            "the checkpoint's own export has no such node",
        ),
        (cut_off, "Clip", [[3, 4, 8, 8], []], "the checkpoint's own export has no such node"),
    ],
)  # fmt: skip
def test_fault_is_found_at_its_node(
    tmp_path: Path, backend: OnnxBackend, fault: Fault, op: str, shapes: list[int], words: str
) -> None:
    found = locate(written(tmp_path, fault), backend)
    assert found is not None
    assert (found.backend, found.op, found.inputs) == (backend, op, shapes)
    assert words in found.how
    assert 0 <= found.before < 1e-6
    assert found.after > 1e-5


def test_node_and_its_output_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, nudge)
    found = locate(path)
    assert found is not None
    [node] = [each for each in onnx.load(path).graph.node if each.name == found.node]
    assert node.input[1] == "first.conv.weight"
    assert found.output == [3, 4, 8, 8]


def test_node_without_a_name_goes_by_its_value(tmp_path: Path) -> None:
    def nameless(model: ModelProto) -> None:
        nudge(model)
        for node in model.graph.node:
            node.name = ""

    path = written(tmp_path, nameless)
    found = locate(path)
    assert found is not None
    assert found.node == node_of(onnx.load(path), "Conv", 1).output[0]


def test_nan_where_the_checkpoint_has_none(tmp_path: Path) -> None:
    found = locate(written(tmp_path, root))
    assert found is not None
    assert (found.op, found.after) == ("Sqrt", -1)
    assert found.how.endswith("NaN or infinity stand at other places than the checkpoint's")


@pytest.mark.parametrize("backend", ["onnx", "onnx optimised"])
@pytest.mark.parametrize(
    ("fault", "op", "output", "words"),
    [
        (
            batch_of_one, "Reshape", [3, 4, 64],
            "initialiser val_50 is [1, 4, 64], not [-1, 4, 64]; onnxruntime stops: ",
        ),
        (
            no_cast, "Unsqueeze", [3, 1],
            "it reads argmax, and the checkpoint's own export _to_copy (made by Cast)",
        ),
        (
            old_opset, "Reshape", [3, 4, 64],
            "the file declares opset 7, the checkpoint's own export 20",
        ),
        # It stops at the sum behind it, and is wrong before that.
        (
            unpadded, "Conv", [3, 4, 6, 6],
            "attribute pads is [0, 0, 0, 0], not [1, 1, 1, 1]; the shape is [3, 4, 6, 6], the "
            "checkpoint's [3, 4, 8, 8]",
        ),
    ],
)  # fmt: skip
def test_file_that_does_not_run_is_found_where_it_stops(
    tmp_path: Path, backend: OnnxBackend, fault: Fault, op: str, output: list[int], words: str
) -> None:
    found = locate(written(tmp_path, fault), backend)
    assert found is not None
    assert (found.op, found.output, found.after) == (op, output, -1)
    assert words in found.how
    assert "onnxruntime stops: [ONNXRuntimeError]" in found.how


def test_file_that_stops_nowhere_in_particular_says_why(tmp_path: Path) -> None:
    def unknown_opset(model: ModelProto) -> None:
        model.opset_import[0].version = 99

    found = locate(written(tmp_path, unknown_opset))
    assert found is not None
    assert (found.node, found.op, found.inputs, found.before, found.after) == ("", "", [], -1, -1)
    assert found.how.startswith("the file declares opset 99, the checkpoint's own export 20; onnx")


def test_batch_of_one_is_found_only_in_larger_batches(tmp_path: Path) -> None:
    assert locate(written(tmp_path, batch_of_one), count=1) is None


def test_file_with_weights_missing_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="side", size_threshold=0)
    (tmp_path / "side").unlink()
    with pytest.raises(ParityError, match=r"^the weight \S+ cannot be read: .*side"):
        locate(path)


def test_values_of_other_names_are_followed_from_the_input(tmp_path: Path) -> None:
    def renamed(model: ModelProto) -> None:
        nudge(model)
        made = {value for node in model.graph.node for value in node.output} - {"output"}
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [f"/{each}" if each in made else each for each in names]
        del model.graph.value_info[:]

    found = locate(written(tmp_path, renamed))
    assert found is not None
    # Only the output could be compared, but nothing before this node is any different.
    assert (found.op, found.output) == ("Conv", [3, 4, 8, 8])
    assert "first.conv.weight is not the checkpoint's" in found.how


def test_fault_of_the_exporter_itself_names_the_nodes_in_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a fresh export had the same fault."""
    from marwright.parity.locate import onnx_node as module
    from marwright.parity.locate.onnx_graph import OnnxGraph

    path = written(tmp_path, nudge_product)
    monkeypatch.setattr(module, "fresh_graph", lambda _: OnnxGraph.load(path))
    found = locate(path)
    assert found is not None
    assert found.op == "Add"
    assert found.how.startswith(
        "in the module mlp; the checkpoint's own export has the same node, so the exporter or "
        "onnxruntime computes something else, here or in MatMul node_MatMul"
    )
