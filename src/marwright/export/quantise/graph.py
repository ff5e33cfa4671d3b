"""An ONNX graph with layers in int8: which of them can be, and the graph in which they are."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto
from onnxruntime.quantization import (
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    TensorData,
    TensorsData,
)
from onnxruntime.quantization.quant_utils import add_infer_metadata

from marwright.recipe.errors import ExportError

# What has an int8 kernel and takes the time. Adds, softmaxes, concatenations and layer norms stay
# in float32: in int8 they made none of ResNet-18, MobileNetV2, MobileNetV3, DenseNet-121 and a
# small ViT faster, and four times the error of the ViT, whose residual stream is a row of adds.
LAYERS = ("Conv", "Gemm", "MatMul")
# Pass int8 on as it is, where it comes from a layer; ranges are fitted to what they leave.
PASSING = ("Relu", "Clip", "MaxPool")
# An int8 convolution must give int8: from float32 it is slower than float32 itself. A matrix
# product need not, and logits that keep their bits halve the error of a ResNet-18.
_FLOAT_OUTPUTS = ("Gemm", "MatMul")
# A protobuf message cannot exceed 2 GiB, and sessions are opened from one.
LARGEST = 2**31 - 64 * 2**20

# The least and the greatest value of each tensor.
Ranges = Mapping[str, tuple[np.float32, np.float32]]


def read_graph(path: Path) -> ModelProto:
    """Read a float32 model with the types of all values. Raises `ExportError` above 2 GiB."""
    if (size := size_of(path)) > LARGEST:
        raise ExportError(
            f"{path.name}: {size / 2**30:.1f} GiB of weights are too many to make int8 of, which "
            'takes 2 GiB at most: set [export] precision = "fp32"'
        )
    return onnx.shape_inference.infer_shapes(onnx.load(path))


def size_of(path: Path) -> int:
    """Return the bytes of an ONNX file, with those of the weights beside it."""
    beside = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def layers_of(model: ModelProto) -> dict[str, str]:
    """Return the operators of the layers that can be int8, by the names of their nodes, in order.

    Raises `ExportError` when there is none.
    """
    floats = {*float_values(model)}
    floats |= {w.name for w in model.graph.initializer if w.data_type == TensorProto.FLOAT}
    layers = {
        node.name: node.op_type
        for node in model.graph.node
        if node.op_type in LAYERS and floats >= {name for name in node.input if name}
    }
    if not layers:
        raise ExportError(
            f"the model has nothing to make int8 of, no {' and no '.join(LAYERS)} of float32: set "
            '[export] precision = "fp32"'
        )
    return layers


def float_values(model: ModelProto) -> Iterator[str]:
    """Yield the names of the float32 values that are computed, the model's inputs included."""
    graph = model.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            yield value.name


def quantised(model: ModelProto, ranges: Ranges, excluded: Collection[str]) -> ModelProto:
    """Return the graph with all layers in int8 but those excluded; the given one is left as it is.

    Weights are signed, one scale for each output channel; activations are unsigned, one scale for
    each tensor.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    # Or it would write the model to a folder and infer the types again, each time.
    add_infer_metadata(copy)
    with _quiet():
        # What quantize_static runs after calibrating, which is needed once and not each time.
        quantiser = QDQQuantizer(
            copy,
            per_channel=True,
            # Seven bits. Without VNNI an x86 processor adds pairs of products in 16 bits, which
            # eight-bit weights overflow: on a Haswell, a ResNet-18's outputs were off by 14 % of
            # what they vary by, and 2 of 48 labels were other ones than here. With seven bits they
            # were the same to the last bit. The gate would vouch for this machine alone.
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=_as_calibrated(ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=[*excluded],
            op_types_to_quantize=[*LAYERS, *PASSING],
            extra_options={"OpTypesToExcludeOutputQuantization": [*_FLOAT_OUTPUTS]},
        )
        quantiser.quantize_model()
        # It appends nodes; the standard wants each behind those that it reads.
        quantiser.model.topological_sort()
    made: ModelProto = quantiser.model.model
    del made.metadata_props[:]
    made.metadata_props.extend(model.metadata_props)
    return made


def _as_calibrated(ranges: Ranges) -> TensorsData:
    # Anew each time: the quantiser changes them.
    data = {
        name: TensorData(lowest=np.array(least), highest=np.array(most))
        for name, (least, most) in ranges.items()
    }
    return TensorsData(CalibrationMethod.MinMax, data)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings of onnxruntime's Python code, on the root logger, out of a step's log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
