"""Models that nothing is wrong with: trained for a moment on real data, traced and exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file
from torch import nn

from bench.mutants.networks import Colour, Masks, Residual, Standardised, Tokens
from bench.mutants.samples import crops, few_digits, words
from marwright.export.to_onnx import ONNX, export_onnx
from marwright.export.trace import TRACED, trace
from marwright.files import sha256_file
from marwright.parity.compare import Candidate
from marwright.parity.gate import Subject
from marwright.parity.subject import subject_of
from marwright.recipe.types import Recipe
from marwright.runtime.spec import Dtype
from marwright.training.datasets import diabetes
from marwright.training.leakage import duplicates
from marwright.training.models import mlp, text_cnn, text_gru
from marwright.training.preprocess import fit_preprocess
from marwright.training.run import Ready, learn
from marwright.training.samples import Samples
from marwright.training.splits import split
from marwright.training.types import NOTHING, Checkpoint, Opened, Splits


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a healthy model comes to be: its samples, its untrained network, and its recipe."""

    samples: Callable[[], Samples]
    network: Callable[[], nn.Module]
    recipe: Mapping[str, Any]


_IMAGES = {
    "task": "classification",
    "data": {"dataset": "digits"},
    "preprocess": {"kind": "image", "channels": 1, "height": 8, "width": 8, "fit": "stretch"},
    "fit": {"epochs": 10, "learning_rate": 2e-2, "schedule": "one_cycle"},
    "postprocess": {"top_k": 3},
    "serve": {"handler": "classify_image"},
}
_COLOUR = {
    **_IMAGES,
    "preprocess": {"kind": "image", "channels": 3, "height": 16, "width": 16, "fit": "stretch"},
    "export": {"dynamic": {"height": [12, 24], "width": [12, 24]}},
}
_TABLE = {
    "task": "regression",
    "data": {"dataset": "diabetes"},
    "preprocess": {"kind": "table"},
    "fit": {"epochs": 20, "learning_rate": 1e-2},
    "postprocess": {"decimals": 2},
    "serve": {"handler": "predict_table"},
}
_TEXT = {
    "task": "classification",
    "data": {"dataset": "words"},
    "preprocess": {"kind": "text", "max_bytes": 48},
    "fit": {"epochs": 4, "learning_rate": 2e-2, "schedule": "one_cycle"},
    "postprocess": {"top_k": 2},
    "serve": {"handler": "classify_text"},
}
PLANS: dict[str, Plan] = {
    "residual": Plan(samples=few_digits, network=Residual, recipe=_IMAGES),
    "colour": Plan(samples=crops, network=Colour, recipe=_COLOUR),
    "tokens": Plan(samples=few_digits, network=Tokens, recipe=_IMAGES),
    "masks": Plan(samples=few_digits, network=Masks, recipe=_IMAGES),
    "standardised": Plan(samples=few_digits, network=Standardised, recipe=_IMAGES),
    "table": Plan(samples=diabetes.load, network=lambda: mlp.build((10,), 1), recipe=_TABLE),
    "text": Plan(samples=words, network=lambda: text_cnn.build((48,), 3, width=8), recipe=_TEXT),
    "recurrent": Plan(
        samples=words, network=lambda: text_gru.build((48,), 3, width=8, hidden=16), recipe=_TEXT
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """A trained model with its exports. `eager` is the checkpoint, in eval mode."""

    recipe: Recipe
    splits: Splits
    checkpoint: Checkpoint
    eager: nn.Module = field(repr=False)
    network: Callable[[], nn.Module]
    traced: Path
    onnx: Path

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one preprocessed sample."""
        return self.checkpoint.meta.spec.shape

    @property
    def dtype(self) -> Dtype:
        """What the numbers of a preprocessed sample are."""
        return self.checkpoint.meta.spec.dtype

    def candidate(self) -> Candidate:
        """Return what the gate compares."""
        return Candidate(
            eager=self.eager,
            yardstick=self.eager,
            traced=self.traced,
            onnx=self.onnx,
            origin=sha256_file(self.checkpoint.weights),
            dynamic=self.recipe.dynamic_axes,
        )

    def subject(self) -> Subject:
        """Return what is known of the model beside its files."""
        return subject_of(self.recipe, self.checkpoint, self.splits)


def make(name: str, folder: Path, *, seed: int = 0) -> Healthy:
    """Train, trace and export a model of `PLANS` into a folder."""
    plan = PLANS[name]
    values = {"name": name, "version": "1.0", "model": {"factory": name}, **plan.recipe}
    # Gates are tried on it, and it need not be good.
    fit = {**values["fit"], "seed": seed, "minimum_metric": "any"}
    recipe = msgspec.convert({**values, "fit": fit}, Recipe)
    samples = plan.samples()
    splits = split(samples, validation=0.15, test=0.2, salt="")
    spec = fit_preprocess(recipe, splits)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        opened = Opened(splits=splits, faults=(), duplicates=duplicates(splits), learned=NOTHING)
        ready = Ready(network=plan.network(), opened=opened, spec=spec, start=None)
        checkpoint = learn(ready, recipe, Path(), folder)
    # What was written is what is exported.
    eager = plan.network()
    eager.load_state_dict(load_file(checkpoint.weights))
    origin = sha256_file(checkpoint.weights)
    trace(eager.eval(), spec.shape, folder, dtype=spec.dtype, origin=origin)
    export_onnx(
        eager, spec.shape, recipe.export.opset, folder,
        dtype=spec.dtype, dynamic=recipe.dynamic_axes, origin=origin,
    )  # fmt: skip
    return Healthy(
        recipe=recipe,
        splits=splits,
        checkpoint=checkpoint,
        eager=eager,
        network=plan.network,
        traced=folder / TRACED,
        onnx=folder / ONNX,
    )
