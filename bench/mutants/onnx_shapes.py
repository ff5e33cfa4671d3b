"""ONNX files that are right at one size only, and ones whose weights lie elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx import ModelProto, helper

from bench.mutants.healthy import Healthy
from bench.mutants.mutant import ONNX, Verdict, by_gate, register
from bench.mutants.onnx_operators import constant, node_of, replace_by
from bench.mutants.onnx_values import in_onnx, reweigh


@in_onnx("residual", check="runs", says="Got invalid dimensions for input")
def batch_declared_as_one(model: ModelProto) -> None:
    """The batch axis is fixed at 1."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


@in_onnx("tokens", check="runs", node="Reshape node_view_1", says="at batch 2: fails to run")
def batch_baked_to_one(model: ModelProto) -> None:
    """A reshape has the batch of 1 in it that the model was exported with."""
    reweigh(model, "val_14", lambda shape: np.array([1, *shape[1:]], dtype=np.int64))


@in_onnx("residual", check="invariance", node="Slice extra", says="a row among others is not")
def every_row_is_the_first(model: ModelProto) -> None:
    """Every row of a batch gets the answer of its first."""
    ends = [constant(model, f"end {end}", [end]) for end in (0, 1)]
    last = model.graph.node[-1]
    output, last.output[0] = last.output[0], "rows"
    model.graph.node.extend(
        [
            helper.make_node("Slice", ["rows", *ends], ["first"], name="extra"),
            helper.make_node("Sub", ["rows", "rows"], ["nothing"], name="extra_zeros"),
            helper.make_node("Add", ["nothing", "first"], [output], name="extra_rows"),
        ]
    )


@in_onnx("colour", check="runs", says="shapes inputs of .* Got invalid dimensions")
def size_declared_as_fixed(model: ModelProto) -> None:
    """Height and width are fixed at what the example had."""
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 16


@in_onnx("colour", check="runs", node="Resize node_upsample|Concat", says="shapes inputs of")
def size_baked_into_a_resize(model: ModelProto) -> None:
    """Maps are enlarged to the example's size, whatever the image's is."""
    constant(model, "height", np.array([16]))
    concat = node_of(model, "node_Concat_9")
    concat.input[0] = concat.input[1] = "height"


@in_onnx("colour", node="ReduceSum node_mean", says="shapes inputs of")
def size_baked_into_a_mean(model: ModelProto) -> None:
    """A mean over all places is the sum over as many as the example had."""
    mean = node_of(model, "node_mean")
    replace_by(mean, "ReduceSum", mean.input[1], keepdims=0)
    reweigh(model, "head.weight", lambda values: values / np.float32(256))


@in_onnx("residual", check="runs", says="gives 9 outputs a row, not 10")
def a_class_is_missing(model: ModelProto) -> None:
    """The file has an output less."""
    for name in ("head.weight", "head.bias"):
        reweigh(model, name, lambda values: values[:9])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9
    del model.graph.value_info[:]


def _beside(healthy: Healthy, folder: Path) -> tuple[Path, Path]:
    """Write the file with its weights beside it, as exports of large models have them."""
    path, weights = folder / healthy.onnx.name, f"{healthy.onnx.name}.data"
    ir.save(ir.load(healthy.onnx), path, external_data=weights)
    return path, folder / weights


def external_weights_missing(healthy: Healthy, folder: Path) -> Verdict:
    """The weights lie in a file of their own, and it is not there."""
    path, weights = _beside(healthy, folder)
    weights.unlink()
    return by_gate(replace(healthy.candidate(), onnx=path), healthy.subject())


def external_weights_of_an_older_export(healthy: Healthy, folder: Path) -> Verdict:
    """The weights lie in a file of their own, which is that of an earlier export."""
    path, weights = _beside(healthy, folder)
    older = np.frombuffer(weights.read_bytes(), dtype=np.float32) * np.float32(0.99)
    weights.write_bytes(older.tobytes())
    return by_gate(replace(healthy.candidate(), onnx=path), healthy.subject())


register(
    external_weights_missing, external_weights_missing, "residual",
    check="runs", backends=ONNX, says=r"model\.onnx\.data",
)  # fmt: skip
register(
    external_weights_of_an_older_export, external_weights_of_an_older_export, "residual",
    check="tolerance", backends=ONNX, node="Conv node_Conv_51", says="is not the checkpoint's",
)  # fmt: skip
