"""Exports in int8, which have no tolerance, so that the metric must tell, and in bfloat16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from onnx import ModelProto

from bench.mutants.healthy import Healthy
from bench.mutants.mutant import Verdict, by_gate, register
from bench.mutants.onnx_values import Fault, reweigh
from bench.mutants.traced import TRACE, write_trace
from marwright.export.quantise.int8 import INT8, Samples, quantise
from marwright.export.to_onnx import ORIGIN
from marwright.export.trace import TRACED, trace
from marwright.parity.compare import Candidate
from marwright.recipe.types import Parity
from marwright.training.precision import in_precision

# Points of accuracy: of 150 held-out digits, two.
DECLARED = Parity(max_metric_drop=1.4)


def quantised(healthy: Healthy) -> Candidate:
    """Return a healthy model with its int8 file, which is written beside the other exports."""
    path = healthy.onnx.with_name(INT8)
    if not path.exists():
        spec = healthy.checkpoint.meta.spec
        samples = Samples(splits=healthy.splits, spec=spec, task=healthy.recipe.task)
        quantise(healthy.onnx, samples, path.parent, limit=DECLARED.max_metric_drop)
    return replace(healthy.candidate(), int8=path, precision="int8")


def in_bfloat16(healthy: Healthy, folder: Path) -> Candidate:
    """Return a healthy model with a trace that computes in bfloat16, written to the folder."""
    candidate = healthy.candidate()
    traced = folder / TRACED
    if not traced.exists():
        trace(
            healthy.eager, healthy.shape, folder,
            dtype=healthy.dtype, precision="bf16", origin=candidate.origin,
        )  # fmt: skip
    yardstick = in_precision(healthy.eager, "bf16")
    return replace(candidate, yardstick=yardstick, traced=traced, precision="bf16")


def in_int8(*, check: str = "metric", says: str) -> Callable[[Fault], Fault]:
    """Register a fault in the int8 file of the residual network."""

    def registered(fault: Fault) -> Fault:
        def judge(healthy: Healthy, folder: Path) -> Verdict:
            candidate = quantised(healthy)
            assert candidate.int8 is not None
            model = onnx.load(candidate.int8)
            fault(model)
            path = folder / INT8
            onnx.save(model, path)
            return by_gate(replace(candidate, int8=path), healthy.subject(), DECLARED)

        register(judge, fault, "residual", check=check, backends=("int8",), says=says)
        return fault

    return registered


@in_int8(says=r"points less, and 1\.4 are allowed")
def calibrated_on_darker_images(model: ModelProto) -> None:
    """Activations of a layer are cut off at a thirtieth of their true range."""
    reweigh(model, "relu_1_scale", lambda scale: scale / 30)


@in_int8(says=r"points less, and 1\.4 are allowed")
def scales_of_channels_permuted(model: ModelProto) -> None:
    """Each layer's channels have their scales in reverse order."""
    names = [each.name for each in model.graph.initializer if each.name.endswith("weight_scale")]
    for name in names:
        reweigh(model, name, lambda values: values[::-1])


@in_int8(check="origin", says="from weights 000000000000…, not")
def int8_of_another_checkpoint(model: ModelProto) -> None:
    """The int8 file was made from an ONNX file of other weights."""
    for entry in model.metadata_props:
        if entry.key == ORIGIN:
            entry.value = "0" * 64


@in_int8(check="runs", says="onnxruntime cannot load it|Got invalid dimensions")
def int8_for_one_batch(model: ModelProto) -> None:
    """The batch axis of the int8 file is fixed at that of calibration."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 16


def bias_dropped_in_bfloat16(healthy: Healthy, folder: Path) -> Verdict:
    """A layer of a trace in bfloat16 has no bias."""
    candidate = in_bfloat16(healthy, folder)
    network = copy.deepcopy(healthy.eager)
    torch.nn.init.zeros_(network.get_parameter("head.bias"))
    rounded = in_precision(network, "bf16")
    path = write_trace(rounded, healthy.shape, folder, origin=candidate.origin)
    return by_gate(replace(candidate, traced=path), healthy.subject(), DECLARED)


def batch_norm_left_in_training_in_bfloat16(healthy: Healthy, folder: Path) -> Verdict:
    """A batch norm was in training mode when the model was traced in bfloat16."""
    candidate = in_bfloat16(healthy, folder)
    rounded = in_precision(healthy.eager, "bf16")
    rounded.get_submodule("model.block.first_norm").train()
    path = write_trace(rounded, healthy.shape, folder, origin=candidate.origin)
    return by_gate(replace(candidate, traced=path), healthy.subject(), DECLARED)


register(
    bias_dropped_in_bfloat16, bias_dropped_in_bfloat16, "residual",
    check="tolerance", backends=TRACE, node="Linear model.head$", says="head.bias is not",
)  # fmt: skip
register(
    batch_norm_left_in_training_in_bfloat16, batch_norm_left_in_training_in_bfloat16, "residual",
    check="invariance", backends=TRACE, node="BatchNorm2d model.block.first_norm$",
    says="has batch_norm in training mode",
)  # fmt: skip
