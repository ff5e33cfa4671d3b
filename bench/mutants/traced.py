"""Traced modules that are not the checkpoint's: traced from it in a wrong state, or another one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from bench.mutants.healthy import Healthy
from bench.mutants.mutant import Verdict, by_gate, register
from bench.mutants.networks import Colour, Residual, Tokens
from marwright.export.trace import ORIGIN, TRACED
from marwright.runtime.spec import PADDING, Dtype
from marwright.training.examples import drawn
from marwright.training.models.text_cnn import TextCnn

Fault = Callable[[nn.Module], None]
TRACE = ("torchscript",)


def write_trace(
    network: nn.Module,
    shape: tuple[int, ...],
    folder: Path,
    *,
    origin: str,
    batch: int = 2,
    dtype: Dtype = "float32",
) -> Path:
    """Trace a network as it is, without the checks of `marwright.export.trace`."""
    path = folder / TRACED
    with warnings.catch_warnings(), torch.random.fork_rng(), torch.no_grad():
        warnings.simplefilter("ignore")
        example = drawn(batch, shape, dtype, torch.manual_seed(0))
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            network, example, check_trace=False
        )
        traced.save(str(path), _extra_files={ORIGIN: origin} if origin else {})
    return path


def in_trace(
    base: str,
    *,
    check: str = "tolerance",
    node: str = "",
    says: str = "",
    batch: int = 2,
    other: str = "",
) -> Callable[[Fault], Fault]:
    """Register a fault in the network that is traced, a copy of a healthy one in eval mode."""

    def registered(fault: Fault) -> Fault:
        def judge(healthy: Healthy, folder: Path) -> Verdict:
            network = copy.deepcopy(healthy.eager)
            fault(network)
            candidate = healthy.candidate()
            origin = candidate.origin if check != "origin" else other
            path = write_trace(
                network, healthy.shape, folder, origin=origin, batch=batch, dtype=healthy.dtype
            )
            return by_gate(replace(candidate, traced=path), healthy.subject())

        register(judge, fault, base, check=check, backends=TRACE, node=node, says=says)
        return fault

    return registered


@in_trace("residual", node="Dropout drop$", says="has dropout in training mode")
def dropout_left_on(network: nn.Module) -> None:
    """Dropout was in training mode when the model was traced."""
    cast(Residual, network).drop.train()


@in_trace("residual", node="BatchNorm2d block.first_norm$", says="has batch_norm in training mode")
def batch_norm_left_in_training(network: nn.Module) -> None:
    """A batch norm was in training mode when the model was traced."""
    cast(Residual, network).block.first_norm.train()


@in_trace("residual", check="invariance", node="BatchNorm2d norm$", says="batch_norm in training")
def traced_in_training(network: nn.Module) -> None:
    """The whole model was in training mode when it was traced."""
    network.train()


@in_trace("residual", node="BatchNorm2d block.second_norm$", says="it alone, on")
def epsilon_of_batch_norm(network: nn.Module) -> None:
    """A batch norm has the epsilon of another library, 1e-3 in place of 1e-5."""
    cast(Residual, network).block.second_norm.eps = 1e-3


@in_trace("residual", node="Linear hidden$", says=r"hidden\.weight is not the checkpoint's")
def traced_layer_in_float16(network: nn.Module) -> None:
    """The weights of one layer were rounded to float16 before the model was traced."""
    weight = cast(Residual, network).hidden.weight
    weight.data = weight.data.half().float()


@in_trace("residual", node="Linear head$", says=r"head\.weight is not the checkpoint's: .* in 1 of")
def traced_weight_nudged(network: nn.Module) -> None:
    """One weight of the traced module is 1 % larger."""
    weight = cast(Residual, network).head.weight.data.view(-1)
    weight[weight.abs().argmax()] *= 1.01


@in_trace("residual", node="Linear hidden$", says=r"hidden\.bias")
def traced_bias_dropped(network: nn.Module) -> None:
    """A layer of the traced module has no bias."""
    nn.init.zeros_(cast(Residual, network).hidden.bias)


@in_trace("colour", node="ReLU6 act$", says="it alone, on")
def traced_without_the_cap(network: nn.Module) -> None:
    """ReLU6 was a ReLU when the model was traced."""
    network.act = nn.ReLU()


@in_trace("colour", node="Conv2d stem$", says="it alone, on")
def traced_with_zero_padding(network: nn.Module) -> None:
    """A convolution padded with zeros when the model was traced, and not by reflection."""
    stem = cast(Colour, network).stem
    plain = nn.Conv2d(3, 8, 3, padding=1)
    plain.load_state_dict(stem.state_dict())
    network.stem = plain.eval()


@in_trace("tokens", node="GELU act$", says="it alone, on")
def traced_with_approximate_gelu(network: nn.Module) -> None:
    """GELU was that by tanh when the model was traced."""
    network.act = nn.GELU(approximate="tanh")


@in_trace("tokens", node="LayerNorm last$", says="it alone, on")
def traced_with_another_epsilon(network: nn.Module) -> None:
    """A layer norm had an epsilon of 1e-3 when the model was traced, in place of 1e-5."""
    cast(Tokens, network).last.eps = 1e-3


class _OneRow(Tokens):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        levels = (images.flatten(1) * 4).long().clamp(-4, 11) + 4
        tokens = self.levels(levels).reshape(len(images), 16, 16) + self.places
        tokens = tokens + self.attention(self.before(tokens))
        tokens = tokens + self.narrow(self.act(self.wide(self.between(tokens))))
        logits: torch.Tensor = self.head(self.last(tokens).mean(1))
        return logits


@in_trace(
    "tokens", check="runs", batch=1, says="at batch 2: fails to run: .*shape '\\[1, 16, 16\\]'"
)
def traced_for_a_batch_of_one(network: nn.Module) -> None:
    """`len(images)` became a constant when the model was traced on one row."""
    network.__class__ = _OneRow


class _FirstRow(Residual):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return logits[:1].expand(logits.shape[0], -1)


@in_trace("residual", check="invariance", node=r"Residual \(root\)", says="in its own forward")
def traced_with_the_first_row_for_all(network: nn.Module) -> None:
    """Every row of a batch gets the answer of its first."""
    network.__class__ = _FirstRow


class _Aligned(Colour):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        fine = self.act(4 * self.stem(images))
        coarse = self.across(self.act(self.down(fine)))
        size = fine.shape[-2:]
        up = functional.interpolate(coarse, size=size, mode="bilinear", align_corners=True)
        logits: torch.Tensor = self.head(functional.silu(fine + up).mean((2, 3)))
        return logits


@in_trace("colour", node=r"Colour \(root\)", says="in its own forward, for the modules inside")
def traced_with_corners_aligned(network: nn.Module) -> None:
    """Maps were enlarged with their corners aligned when the model was traced."""
    network.__class__ = _Aligned


class _Fixed(Colour):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        fine = self.act(4 * self.stem(images))
        coarse = self.across(self.act(self.down(fine)))
        size = [int(side) for side in fine.shape[-2:]]
        up = functional.interpolate(coarse, size=size, mode="bilinear")
        logits: torch.Tensor = self.head(functional.silu(fine + up).mean((2, 3)))
        return logits


@in_trace("colour", check="runs", node=r"Colour \(root\)", says="shapes inputs of")
def traced_for_one_size(network: nn.Module) -> None:
    """`int(side)` became a constant when the model was traced."""
    network.__class__ = _Fixed


class MeanOfPadding(TextCnn):
    """Divides by the length of the batch, where the sum is that of a text."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits `(N, outputs)` of the numbers of bytes `(N, L)`."""
        there = (ids != PADDING).unsqueeze(1).to(self.embedding.weight.dtype)
        features = torch.relu(self.first(self.embedding(ids).transpose(1, 2))) * there
        features = torch.relu(self.second(features)) * there
        both = torch.cat([features.amax(dim=2), features.mean(dim=2)], dim=1)
        logits: torch.Tensor = self.head(self.dropout(both))
        return logits


@in_trace("text", check="invariance", node=r"TextCnn \(root\)", says="alone, without padding, by")
def traced_with_padding_in_the_mean(network: nn.Module) -> None:
    """The mean over a text counted the padding behind it when the model was traced."""
    network.__class__ = MeanOfPadding


class _OneLength(TextCnn):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        there = (ids != PADDING).unsqueeze(1).to(self.embedding.weight.dtype)
        features = torch.relu(self.first(self.embedding(ids).transpose(1, 2))) * there
        features = torch.relu(self.second(features)) * there
        mean = features.sum(dim=2) / there.sum(dim=2).clamp(min=1)
        most = features.reshape(ids.shape[0], -1, int(ids.shape[1])).amax(dim=2)
        logits: torch.Tensor = self.head(self.dropout(torch.cat([most, mean], dim=1)))
        return logits


@in_trace("text", check="runs", node=r"TextCnn \(root\)", says="fails to run: .*invalid for input")
def traced_for_one_length(network: nn.Module) -> None:
    """`int(ids.shape[1])` became a constant when the model was traced."""
    network.__class__ = _OneLength


@in_trace("residual", check="origin", other="0" * 64, says="from weights 000000000000…, not")
def trace_of_another_checkpoint(network: nn.Module) -> None:
    """The trace was made from other weights, which differ in one last bit: no output tells."""
    bias = cast(Residual, network).head.bias
    bias.data = torch.nextafter(bias.data, torch.tensor(9.0))


@in_trace("residual", check="origin", says="weights that it does not name")
def trace_of_unknown_origin(network: nn.Module) -> None:
    """The traced module does not say which weights it was made from."""
