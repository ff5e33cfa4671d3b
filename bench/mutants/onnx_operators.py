"""ONNX files with other operators than the checkpoint's, or the same that mean something else."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from bench.mutants.onnx_values import in_onnx


def node_of(model: ModelProto, name: str) -> NodeProto:
    """Find a node by its name."""
    node: NodeProto
    [node] = [each for each in model.graph.node if each.name == name]
    return node


def insert_before(model: ModelProto, name: str, op: str, **attributes: Any) -> None:
    """Put a node of one input in front of another's first."""
    node = node_of(model, name)
    extra = helper.make_node(op, [node.input[0]], ["extra_value"], name="extra", **attributes)
    place = [*model.graph.node].index(node)
    node.input[0] = "extra_value"
    model.graph.node.insert(place, extra)


def append(model: ModelProto, op: str, *inputs: str, **attributes: Any) -> None:
    """Put a node behind the last one; it makes the output from what was the output."""
    last = model.graph.node[-1]
    output, last.output[0] = last.output[0], "before_extra"
    model.graph.node.append(
        helper.make_node(op, ["before_extra", *inputs], [output], name="extra", **attributes)
    )


def constant(model: ModelProto, name: str, values: Any) -> str:
    """Add an initialiser; returns its name."""
    model.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    return name


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Give an attribute of a node another value, or its first."""
    for place, attribute in enumerate(node.attribute):
        if attribute.name == name:
            del node.attribute[place]
            break
    node.attribute.append(helper.make_attribute(name, value))


def replace_by(node: NodeProto, op: str, *inputs: str, **attributes: Any) -> None:
    """Make another operation of a node, with the same first input and output."""
    node.CopyFrom(
        helper.make_node(op, [node.input[0], *inputs], [*node.output], name=node.name, **attributes)
    )


@in_onnx("residual", node="Softmax extra", says="own export has Gemm here")
def softmax_applied_twice(model: ModelProto) -> None:
    """The file ends in a softmax, and the handler applies one too."""
    append(model, "Softmax", axis=1)


@in_onnx("tokens", node="Softmax extra", says="no such node")
def attention_normalised_twice(model: ModelProto) -> None:
    """Attention weights go through a second softmax."""
    insert_before(model, "node_matmul_1", "Softmax", axis=-1)


@in_onnx("masks", node="Softmax node_softmax", says="declares opset 12, .* own export 20")
def softmax_of_opset_12(model: ModelProto) -> None:
    """The same nodes under opset 12, whose softmax flattens all axes from its own on."""
    _declare_opset(model, 12)


@in_onnx("tokens", check="runs", node="Squeeze node_unbind", says="declares opset 12")
def operators_unknown_to_the_opset(model: ModelProto) -> None:
    """Opset 12 does not know some of the operators."""
    _declare_opset(model, 12)


def _declare_opset(model: ModelProto, version: int) -> None:
    model.opset_import[0].version = version
    for node in model.graph.node:
        if node.op_type == "Reshape":
            # Newer than opset 12, and its default there.
            del node.attribute[:]


@in_onnx("tokens", node="Round extra", says="no such node")
def rounded_instead_of_truncated(model: ModelProto) -> None:
    """Values become the nearest integers, where the cast cuts off what is behind the point."""
    insert_before(model, "node__to_copy", "Round")


@in_onnx("tokens", check="runs", node="Clip node_clamp", says=r"\(Clip\) bound to different types")
def integer_cast_lost(model: ModelProto) -> None:
    """Grey levels stay floating-point numbers, and index an embedding."""
    cast = node_of(model, "node__to_copy")
    node_of(model, "node_clamp").input[0] = cast.input[0]
    model.graph.node.remove(cast)


@in_onnx("colour", node="Clip n4$", says="it lacks the input max_val_cast")
def cap_of_relu6_lost(model: ModelProto) -> None:
    """ReLU6 is a ReLU."""
    node_of(model, "n4").input.pop()


@in_onnx("colour", node="Pad node_pad", says="attribute mode is edge, not reflect")
def padding_by_the_edge(model: ModelProto) -> None:
    """Images are continued by their last pixels, and not reflected."""
    set_attribute(node_of(model, "node_pad"), "mode", "edge")


@in_onnx("colour", node="Conv node_conv2d_1", says=r"attribute pads is \[0, 0, 2, 2\], not")
def padding_at_one_side(model: ModelProto) -> None:
    """A convolution is padded right and below only, as TensorFlow does it."""
    set_attribute(node_of(model, "node_conv2d_1"), "pads", [0, 0, 2, 2])


@in_onnx("colour", node="Resize node_upsample", says="transformation_mode is align_corners, not")
def corners_aligned(model: ModelProto) -> None:
    """Maps are enlarged with their corners aligned."""
    resize = node_of(model, "node_upsample_bilinear2d")
    set_attribute(resize, "coordinate_transformation_mode", "align_corners")


@in_onnx("tokens", node="LayerNormalization node_layer_norm_2", says="attribute epsilon is 0.001")
def epsilon_of_layer_norm(model: ModelProto) -> None:
    """A layer norm has the epsilon of another library, 1e-3 in place of 1e-5."""
    set_attribute(node_of(model, "node_layer_norm_2"), "epsilon", 1e-3)


@in_onnx("tokens", node="Gelu node_gelu", says="attribute approximate is tanh, not none")
def gelu_approximated(model: ModelProto) -> None:
    """GELU by tanh, which is off by a thousandth at most."""
    set_attribute(node_of(model, "node_gelu"), "approximate", "tanh")


@in_onnx("residual", node="Identity node_add", says="own export has Add here")
def residual_lost(model: ModelProto) -> None:
    """A block does not add what came in."""
    add = node_of(model, "node_add")
    add.input[0] = add.input[1]
    replace_by(add, "Identity")


@in_onnx("residual", node="AveragePool node_max_pool2d", says="own export has MaxPool here")
def average_instead_of_maximum(model: ModelProto) -> None:
    """A pooling takes the mean."""
    replace_by(
        node_of(model, "node_max_pool2d"), "AveragePool", kernel_shape=[2, 2], strides=[2, 2]
    )


@in_onnx("text", node="ReduceMax n0", says=r"it reads relu_1, and the checkpoint's own .* mul_2")
def padding_in_the_maximum(model: ModelProto) -> None:
    """The maximum over a text is taken before padding is masked."""
    maximum = node_of(model, "n0")
    masked = next(each for each in model.graph.node if maximum.input[0] in each.output)
    maximum.input[0] = masked.input[0]


@in_onnx("residual", node="Transpose extra", says="no such node")
def flattened_channels_last(model: ModelProto) -> None:
    """Maps are flattened with their channels last."""
    insert_before(model, "node_Reshape_58", "Transpose", perm=[0, 2, 3, 1])


@in_onnx("masks", check="finite", node="Max extra", says="NaN or infinity")
def nan_swallowed(model: ModelProto) -> None:
    """An image of one colour is 0/0 in the checkpoint, and 0 in the file."""
    least = constant(model, "least", np.float32(1e-6))
    divide = node_of(model, "node_div")
    place = [*model.graph.node].index(divide)
    model.graph.node.insert(
        place, helper.make_node("Max", [divide.input[1], least], ["extra_value"], name="extra")
    )
    model.graph.node[place + 1].input[1] = "extra_value"
