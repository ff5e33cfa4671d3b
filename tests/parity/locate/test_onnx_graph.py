"""A graph run with any of its values as outputs, and cut into parts that run by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from marwright.parity.locate.onnx_graph import OnnxGraph, label, read_by
from marwright.recipe.errors import ParityError

pytestmark = pytest.mark.onnx

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
HOW = {"optimised": False, "threads": 1}


def diamond() -> onnx.ModelProto:
    """Two branches of the input, a product with a weight, and their sum."""
    graph = helper.make_graph(
        [
            helper.make_node("Neg", ["rows"], ["negative"], name="neg"),
            helper.make_node("Mul", ["rows", "weight"], ["scaled"], name="mul"),
            helper.make_node("Abs", ["scaled"], ["size"]),
            helper.make_node("Add", ["negative", "size"], ["sum"], name="add"),
        ],
        "diamond",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.full(4, -3, np.float32), "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def names(nodes: list[onnx.NodeProto]) -> list[str]:
    return [label(node) for node in nodes]


@pytest.fixture
def graph() -> OnnxGraph:
    return OnnxGraph(diamond(), Path())


def test_graph_is_read_in_order(graph: OnnxGraph) -> None:
    assert (graph.inputs, graph.outputs, graph.opset) == (["rows"], ["sum"], 20)
    # A node without a name goes by what it makes.
    assert names(graph.nodes) == ["neg", "mul", "size", "add"]


def test_any_value_can_be_run_and_nothing_changes(graph: OnnxGraph) -> None:
    before = graph.proto.SerializeToString()
    values = graph.run(["size", "sum", "negative"], {"rows": ROWS}, **HOW)
    assert list(values) == ["size", "sum", "negative"]
    assert np.array_equal(values["size"], 3 * ROWS)
    assert np.array_equal(values["sum"], 2 * ROWS)
    assert np.array_equal(values["negative"], -ROWS)
    assert graph.proto.SerializeToString() == before
    assert graph.run([], {"rows": ROWS}, **HOW) == {}


def test_failure_is_one_line_and_changes_nothing(graph: OnnxGraph) -> None:
    before = graph.proto.SerializeToString()
    with pytest.raises(RuntimeError, match=r"^\[ONNXRuntimeError\].*rows.*$") as error:
        graph.run(["size"], {"rows": ROWS[:, :3]}, **HOW)
    assert "\n" not in str(error.value)
    assert graph.proto.SerializeToString() == before


def test_nodes_between_known_values(graph: OnnxGraph) -> None:
    nodes, sources = graph.between("sum", {"scaled", "unheard of"})
    assert names(nodes) == ["neg", "size", "add"]
    assert set(sources) == {"scaled", "rows"}
    nodes, sources = graph.between("sum", {"negative", "size", "sum"})
    assert (names(nodes), set(sources)) == (["add"], {"negative", "size"})
    assert names(graph.between("sum", set())[0]) == names(graph.nodes)


def test_cut_part_runs_by_itself(graph: OnnxGraph) -> None:
    part = graph.cut("size", {"rows"}, {"rows": ROWS})
    assert (part.inputs, part.outputs, list(part.weights)) == (["rows"], ["size"], ["weight"])
    assert names(part.nodes) == ["mul", "size"]
    assert np.array_equal(part.run(["size"], {"rows": ROWS}, **HOW)["size"], 3 * ROWS)
    last = graph.cut("sum", {"negative", "size"}, {"negative": ROWS, "size": ROWS})
    assert list(last.weights) == []
    feeds = {"negative": ROWS, "size": ROWS}
    assert np.array_equal(last.run(["sum"], feeds, **HOW)["sum"], 2 * ROWS)


def test_graph_until_a_node(graph: OnnxGraph) -> None:
    start = graph.until(graph.nodes[2])
    assert names(start.nodes) == ["neg", "mul"]
    assert np.array_equal(start.run(["scaled"], {"rows": ROWS}, **HOW)["scaled"], -3 * ROWS)
    assert len(graph.nodes) == len(graph.proto.graph.node) == 4


def test_size_is_that_of_the_declared_shape() -> None:
    model = diamond()
    shape = ["batch", "3*batch", 4]
    model.graph.value_info.append(helper.make_tensor_value_info("size", 1, shape))
    model.graph.value_info.append(helper.make_tensor_value_info("scaled", 1, None))
    graph = OnnxGraph(model, Path())
    assert graph.size("size", 5) == 5 * 15 * 4
    assert graph.size("sum", 5) == 20
    assert graph.size("scaled", 5) == graph.size("negative", 5) == 0


def branching() -> onnx.ModelProto:
    """A branch that reads a value and a weight from outside."""
    yes = helper.make_graph(
        [helper.make_node("Mul", ["negative", "weight"], ["product"])],
        "yes", [], [onnx.ValueInfoProto(name="product")],
    )  # fmt: skip
    no = helper.make_graph(
        [helper.make_node("Identity", ["rows"], ["same"])],
        "no", [], [onnx.ValueInfoProto(name="same")],
    )  # fmt: skip
    model = diamond()
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    model.graph.node.append(
        helper.make_node("If", ["condition"], ["chosen"], then_branch=yes, else_branch=no)
    )
    return model


def test_what_branches_read_counts() -> None:
    graph = OnnxGraph(branching(), Path())
    assert sorted(read_by(graph.nodes[-1])) == ["condition", "negative", "rows", "weight"]
    part = graph.cut("chosen", {"negative"}, {"negative": ROWS})
    assert (set(part.inputs), set(part.weights)) == ({"negative", "rows"}, {"condition", "weight"})
    feeds = {"negative": ROWS, "rows": ROWS}
    assert np.array_equal(part.run(["chosen"], feeds, **HOW)["chosen"], -3 * ROWS)


def test_weights_beside_the_file_are_found(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(diamond(), path, save_as_external_data=True, location="side", size_threshold=0)
    assert (tmp_path / "side").stat().st_size >= 16
    graph = OnnxGraph.load(path)
    assert np.array_equal(graph.weight("weight"), np.full(4, -3))
    assert np.array_equal(graph.run(["size"], {"rows": ROWS}, **HOW)["size"], 3 * ROWS)
    part = graph.cut("size", set(), {"rows": ROWS})
    (tmp_path / "side").unlink()
    assert np.array_equal(part.run(["size"], {"rows": ROWS}, **HOW)["size"], 3 * ROWS)
    with pytest.raises(RuntimeError):
        graph.run(["size"], {"rows": ROWS}, **HOW)


def test_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ParityError, match=r"^broken\.onnx: onnx cannot read it: "):
        OnnxGraph.load(tmp_path / "broken.onnx")
