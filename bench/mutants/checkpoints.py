"""Checkpoints that are wrong themselves, or are no longer what training measured."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from bench.mutants.healthy import Healthy
from bench.mutants.mutant import ONNX, Verdict, by_gate, register
from bench.mutants.networks import Residual
from bench.mutants.onnx_values import reweigh
from bench.mutants.traced import TRACE, MeanOfPadding, write_trace
from marwright.export.to_onnx import export_onnx
from marwright.parity.compare import Candidate
from marwright.runtime.spec import spec_to_dict
from marwright.training.samples import ImageSamples

CHECKPOINT = ("checkpoint",)


def _respecified(healthy: Healthy, **values: Any) -> Verdict:
    """Judge the model with other preprocessing than it was trained with, everywhere alike."""
    preprocess = {**spec_to_dict(healthy.checkpoint.meta.spec), **values}
    meta = msgspec.structs.replace(healthy.checkpoint.meta, preprocess=preprocess)
    changed = replace(healthy, checkpoint=replace(healthy.checkpoint, meta=meta))
    return by_gate(healthy.candidate(), changed.subject())


def wrong_mean_in_the_meta(healthy: Healthy, folder: Path) -> Verdict:
    """`meta.json` has the mean 0.5 that many models have, and not that of training."""
    return _respecified(healthy, mean=[0.5], std=[0.5])


def mean_in_the_meta_off_by_a_tenth(healthy: Healthy, folder: Path) -> Verdict:
    """The means of `meta.json` are a tenth larger than those of training."""
    mean = [1.1 * value for value in healthy.checkpoint.meta.preprocess["mean"]]
    return _respecified(healthy, mean=mean)


def colours_of_the_meta_reversed(healthy: Healthy, folder: Path) -> Verdict:
    """Means and deviations of `meta.json` are in the order BGR."""
    meta = healthy.checkpoint.meta.preprocess
    return _respecified(healthy, mean=meta["mean"][::-1], std=meta["std"][::-1])


def labels_of_the_data_shifted(healthy: Healthy, folder: Path) -> Verdict:
    """The data set counts its labels from 1 since the model was trained."""
    samples = healthy.splits.samples
    assert isinstance(samples, ImageSamples)
    targets = (samples.targets + 1) % len(samples.labels)
    splits = replace(healthy.splits, samples=replace(samples, targets=targets))
    return by_gate(healthy.candidate(), replace(healthy, splits=splits).subject())


def _exports(
    healthy: Healthy, folder: Path, eager: nn.Module, weights: dict[str, NDArray[np.float32]]
) -> Candidate:
    """Return a candidate whose exports agree with a checkpoint that has these weights."""
    candidate = healthy.candidate()
    model = onnx.load(healthy.onnx)
    for name, values in weights.items():
        reweigh(model, name, partial(_given, values))
    path = folder / healthy.onnx.name
    onnx.save(model, path)
    traced = write_trace(eager, healthy.shape, folder, origin=candidate.origin)
    return replace(candidate, eager=eager, yardstick=eager, traced=traced, onnx=path)


def _given(values: NDArray[np.float32], _: NDArray[Any]) -> NDArray[np.float32]:
    return values


def _with_head(
    healthy: Healthy, folder: Path, change: Callable[[torch.Tensor], torch.Tensor], *names: str
) -> Verdict:
    """Judge the model with another last layer in the checkpoint and in all exports."""
    eager = copy.deepcopy(healthy.eager)
    weights = {}
    for name in names:
        parameter = eager.get_parameter(name)
        parameter.data = change(parameter.data)
        weights[name] = parameter.data.numpy()
    return by_gate(_exports(healthy, folder, eager, weights), healthy.subject())


def weights_damaged_after_training(healthy: Healthy, folder: Path) -> Verdict:
    """Two classes have changed places in the checkpoint itself, and all exports follow it."""
    order = [1, 0, *range(2, 10)]
    return _with_head(healthy, folder, lambda v: v[order], "head.weight", "head.bias")


def output_is_constant(healthy: Healthy, folder: Path) -> Verdict:
    """The last layer is zero: whatever an export does before it, it agrees."""
    return _with_head(healthy, folder, torch.zeros_like, "head.weight")


def signal_drowned(healthy: Healthy, folder: Path) -> Verdict:
    """A bias is so large that float32 rounds away what the input says."""
    return _with_head(healthy, folder, lambda bias: bias + 4e6, "head.bias")


class _Standardised(Residual):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images - 0.1 * images.mean(0))


def rows_depend_on_neighbours(healthy: Healthy, folder: Path) -> Verdict:
    """The checkpoint subtracts a part of the mean over the batch."""
    return _exported(healthy, folder, _Standardised)


class _Restless(Residual):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # Unlike `nn.Dropout`, it is on unless it is told otherwise.
        return super().forward(functional.dropout(images, 0.01))


def checkpoint_draws_at_random(healthy: Healthy, folder: Path) -> Verdict:
    """The checkpoint calls `functional.dropout`, which does not know of eval mode."""
    eager = copy.deepcopy(healthy.eager)
    eager.__class__ = _Restless
    return by_gate(replace(healthy.candidate(), eager=eager, yardstick=eager), healthy.subject())


class _AlmostGelu(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features * (torch.erf(features / 1.4142) + 1.0) * 0.5


def fused_to_another_gelu(healthy: Healthy, folder: Path) -> Verdict:
    """The checkpoint's GELU has the constant 1.4142; onnxruntime fuses it to one with √2."""
    eager = copy.deepcopy(healthy.eager)
    eager.set_submodule("1", _AlmostGelu())
    # So that errors of a millionth add up, where GELU with the other constant is off the most.
    eager.get_parameter("0.weight").data *= 0.5
    eager.get_parameter("3.weight").data.abs_()
    return by_gate(_all_exports(healthy, folder, eager), healthy.subject())


class _Exposure(nn.Module):
    """Darkens a batch that is overexposed, as its own `overexposed` has it."""

    def __init__(self, overexposed: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.overexposed = overexposed

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.overexposed(images):
            images = 0.5 * images
        return images


class _Exposed(Residual):
    exposure: nn.Module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(self.exposure(images))


def branch_on_the_brightest(healthy: Healthy, folder: Path) -> Verdict:
    """The checkpoint darkens a batch with an overexposed image; exports know one branch only."""
    return _branched(healthy, folder, lambda images: images.mean((1, 2, 3)).max() > 1.5)


def branch_on_the_mean(healthy: Healthy, folder: Path) -> Verdict:
    """The checkpoint darkens a batch that is overexposed as a whole: seldom more than one image."""
    return _branched(healthy, folder, lambda images: images.mean() > 1.5)


def _branched(
    healthy: Healthy, folder: Path, overexposed: Callable[[torch.Tensor], torch.Tensor]
) -> Verdict:
    eager = copy.deepcopy(healthy.eager)
    eager.__class__ = _Exposed
    eager.exposure = _Exposure(overexposed)
    return by_gate(_exports(healthy, folder, eager, {}), healthy.subject())


def _exported(healthy: Healthy, folder: Path, kind: type[nn.Module]) -> Verdict:
    eager = copy.deepcopy(healthy.eager)
    eager.__class__ = kind
    return by_gate(_all_exports(healthy, folder, eager), healthy.subject())


def _all_exports(healthy: Healthy, folder: Path, eager: nn.Module) -> Candidate:
    candidate = healthy.candidate()
    path = export_onnx(
        eager, healthy.shape, 20, folder,
        dtype=healthy.dtype, dynamic=candidate.dynamic, origin=candidate.origin,
    )  # fmt: skip
    traced = write_trace(eager, healthy.shape, folder, origin=candidate.origin, dtype=healthy.dtype)
    return replace(candidate, eager=eager, yardstick=eager, traced=traced, onnx=path)


def padding_in_the_mean(healthy: Healthy, folder: Path) -> Verdict:
    """The checkpoint's mean over a text counts the padding behind it, and all exports follow."""
    return _exported(healthy, folder, MeanOfPadding)


_RECORDED = "here, and training recorded"
for _judge in (wrong_mean_in_the_meta, labels_of_the_data_shifted, weights_damaged_after_training):
    register(_judge, _judge, "residual", check="metric", backends=CHECKPOINT, says=_RECORDED)
for _judge in (mean_in_the_meta_off_by_a_tenth, colours_of_the_meta_reversed):
    register(_judge, _judge, "colour", check="metric", backends=CHECKPOINT, says=_RECORDED)
for _judge in (output_is_constant, signal_drowned):
    register(
        _judge, _judge, "residual",
        check="power", backends=CHECKPOINT, says="the output hardly depends on the input",
    )  # fmt: skip
register(
    rows_depend_on_neighbours, rows_depend_on_neighbours, "residual",
    check="invariance", backends=CHECKPOINT, too=(*ONNX, *TRACE),
    says="look for statistics over the batch axis",
)  # fmt: skip
register(
    checkpoint_draws_at_random, checkpoint_draws_at_random, "residual",
    check="invariance", backends=CHECKPOINT, too=(*ONNX, *TRACE),
    says="at random",
)  # fmt: skip
register(
    padding_in_the_mean, padding_in_the_mean, "text",
    check="invariance", backends=CHECKPOINT, too=(*ONNX, *TRACE),
    says="depends on the padding behind it",
)  # fmt: skip
register(
    fused_to_another_gelu, fused_to_another_gelu, "table",
    check="tolerance", backends=("onnx optimised",), too=CHECKPOINT, node="Div node_div",
    says="onnxruntime's optimisations go wrong where they fuse this node away",
)  # fmt: skip
register(
    branch_on_the_brightest, branch_on_the_brightest, "residual",
    check="tolerance", backends=(*ONNX, *TRACE), too=CHECKPOINT, node="_Expos",
    says="boundary inputs|random inputs",
)  # fmt: skip
# What a batch decides together is the checkpoint's own fault, whichever branch an export knows.
register(
    branch_on_the_mean, branch_on_the_mean, "residual",
    check="invariance", backends=CHECKPOINT, too=(*ONNX, *TRACE),
    says="depends on its neighbours",
)  # fmt: skip
