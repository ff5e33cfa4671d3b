"""What onnxruntime says can stand in a report of another machine."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from marwright.export.onnx_session import open_session, told

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def reshaping() -> bytes:
    """A graph that only takes one row."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["rows", "shape"], ["row"], name="baked")],
        "one row",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([1, 4]), "shape")],
    )
    opsets = [helper.make_opsetid("", 20)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return model.SerializeToString()


@pytest.mark.parametrize("optimised", [True, False])
def test_message_names_the_node_and_not_where_onnxruntime_was_built(optimised: bool) -> None:
    session = open_session(reshaping(), optimised=optimised, threads=1)
    with pytest.raises(Exception, match="baked") as failure:
        session.run(None, {"rows": np.zeros((2, 4), dtype=np.float32)})
    assert "/onnxruntime" in str(failure.value)
    said = told(failure.value)
    assert "baked" in said
    assert "/onnxruntime" not in said
    assert "\n" not in said


def test_error_without_words_is_named() -> None:
    assert told(ValueError()) == "ValueError"
    assert told(ValueError("a/b.h is no folder\nof a build")) == "a/b.h is no folder of a build"
