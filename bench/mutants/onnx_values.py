"""ONNX files with other numbers in them than the checkpoint's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from bench.mutants.healthy import Healthy
from bench.mutants.mutant import ONNX, Verdict, by_gate, register
from marwright.export.to_onnx import ORIGIN

Fault = Callable[[ModelProto], None]
Array = NDArray[Any]


def in_onnx(
    base: str,
    *,
    check: str = "tolerance",
    backends: tuple[str, ...] = ONNX,
    node: str = "",
    says: str = "",
) -> Callable[[Fault], Fault]:
    """Register a fault in the ONNX file of a healthy model."""

    def registered(fault: Fault) -> Fault:
        def judge(healthy: Healthy, folder: Path) -> Verdict:
            model = onnx.load(healthy.onnx)
            fault(model)
            path = folder / healthy.onnx.name
            onnx.save(model, path)
            return by_gate(replace(healthy.candidate(), onnx=path), healthy.subject())

        register(judge, fault, base, check=check, backends=backends, node=node, says=says)
        return fault

    return registered


def reweigh(model: ModelProto, name: str, change: Callable[[Array], Array]) -> None:
    """Change the values of an initialiser."""
    [weight] = [each for each in model.graph.initializer if each.name == name]
    values = change(numpy_helper.to_array(weight).copy())
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))


def _largest_nudged(values: Array) -> Array:
    values.flat[np.abs(values).argmax()] *= 1.01
    return values


@in_onnx("residual", node="Gemm node_linear_1", says=r"head\.weight is .* differs in 1 of 320")
def weight_nudged(model: ModelProto) -> None:
    """One weight of the last layer is 1 % larger."""
    reweigh(model, "head.weight", _largest_nudged)


@in_onnx("residual", node="Conv node_Conv_55", says=r"block\.second\.weight is .* in 1 of 576")
def inner_weight_nudged(model: ModelProto) -> None:
    """One weight of a convolution is 1 % larger."""
    reweigh(model, "block.second.weight", _largest_nudged)


@in_onnx("table", node="Gemm node_linear", says=r"0\.weight is .* differs in 1 of 320")
def regression_weight_nudged(model: ModelProto) -> None:
    """One weight of a regression is 1 % larger."""
    reweigh(model, "0.weight", _largest_nudged)


@in_onnx("residual", check="labels", node="Gemm node_linear_1", says="get another label")
def classes_swapped(model: ModelProto) -> None:
    """Two output classes have changed places."""
    order = [1, 0, *range(2, 10)]
    for name in ("head.weight", "head.bias"):
        reweigh(model, name, lambda values: values[order])


@in_onnx("residual", node="Gemm node_linear_1", says=r"it lacks the input head\.bias")
def bias_dropped(model: ModelProto) -> None:
    """The last layer has no bias any more."""
    model.graph.node[-1].input.pop()


@in_onnx("residual", node="Conv node_Conv_51", says=r"stem\.weight_bias is")
def batch_norm_shift_lost(model: ModelProto) -> None:
    """Batch norm was folded into a convolution without what it adds."""
    reweigh(model, "stem.weight_bias", np.zeros_like)


@in_onnx("residual", node="Gemm node_linear$", says=r"hidden\.weight is .* of 4096")
def layer_in_float16(model: ModelProto) -> None:
    """The weights of one layer were rounded to float16."""
    reweigh(model, "hidden.weight", lambda v: v.astype(np.float16).astype(np.float32))


@in_onnx("residual", node="Conv node_Conv_53", says=r"block\.first\.weight is .* of 576")
def channels_permuted(model: ModelProto) -> None:
    """Two channels of a convolution have changed places, and what reads them has not."""
    order = [0, 2, 1, *range(3, 8)]
    for name in ("block.first.weight", "block.first.weight_bias"):
        reweigh(model, name, lambda values: values[order])


@in_onnx("colour", node="Conv node_conv2d$", says=r"stem\.weight is .* of 216")
def colours_reversed(model: ModelProto) -> None:
    """The first convolution reads BGR."""
    reweigh(model, "stem.weight", lambda values: values[:, ::-1])


@in_onnx("tokens", node="Gather node_embedding", says=r"levels\.weight is .* in 4 of 64")
def one_embedding_wrong(model: ModelProto) -> None:
    """The embedding of the brightest grey level is 1 % larger."""

    def change(values: Array) -> Array:
        values[11] *= np.float32(1.01)
        return values

    reweigh(model, "levels.weight", change)


@in_onnx("text", node="Gather node_embedding", says=r"embedding\.weight is .* of 2056")
def bytes_off_by_one(model: ModelProto) -> None:
    """Each byte has the embedding of the one before it."""
    reweigh(model, "embedding.weight", lambda values: np.roll(values, 1, axis=0))


@in_onnx("tokens", node="MatMul node_MatMul_44", says=r"differs in .* of 256")
def square_matrix_transposed(model: ModelProto) -> None:
    """A square weight is the wrong way round."""
    reweigh(model, "val_45", np.transpose)


@in_onnx("tokens", node="Mul node_mul_13", says="val_39")
def attention_scale_lost(model: ModelProto) -> None:
    """Attention weights are not divided by the root of the width."""
    reweigh(model, "val_39", np.ones_like)


@in_onnx("residual", node="Gemm node_linear_1", says=r"head\.weight is not")
def logits_scaled(model: ModelProto) -> None:
    """Logits are a thousandth larger: every label is as before."""
    for name in ("head.weight", "head.bias"):
        reweigh(model, name, lambda values: values * np.float32(1.001))


@in_onnx("table", check="metric", node="Gemm node_linear_1", says="r2 is -")
def regression_in_other_units(model: ModelProto) -> None:
    """The output is in the units of the target, and the handler scales it once more."""
    for name in ("3.weight", "3.bias"):
        reweigh(model, name, lambda values: values * np.float32(77))


@in_onnx("residual", check="finite", node="Gemm node_linear_1", says="NaN or infinity")
def weight_is_nan(model: ModelProto) -> None:
    """One bias is NaN."""

    def change(values: Array) -> Array:
        values[3] = np.nan
        return values

    reweigh(model, "head.bias", change)


@in_onnx("residual", check="origin", backends=("onnx",), says="from weights 000000000000…, not")
def export_of_another_checkpoint(model: ModelProto) -> None:
    """The file was made from other weights, which differ in one last bit: no output tells."""
    reweigh(model, "head.bias", lambda values: np.nextafter(values, np.float32(9)))
    for entry in model.metadata_props:
        if entry.key == ORIGIN:
            entry.value = "0" * 64


@in_onnx("residual", check="origin", backends=("onnx",), says="weights that it does not name")
def export_of_unknown_origin(model: ModelProto) -> None:
    """The file does not say which weights it was made from."""
    del model.metadata_props[:]
