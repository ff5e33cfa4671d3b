"""A float32 ONNX file to an int8 one that does its task as well, by the validation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from marwright.export.quantise.graph import Ranges, layers_of, quantised, read_graph, size_of
from marwright.export.quantise.run import Array, outputs_of, ranges_of
from marwright.export.quantise.sensitivity import costs_of, exclude
from marwright.export.quantise.types import Attempt, LayerCost, QuantiseReport
from marwright.recipe.errors import ExportError, ParityError
from marwright.recipe.types import MAIN_METRIC
from marwright.training.metrics import metric_of
from marwright.training.tensors import inputs_of, targets_of

if TYPE_CHECKING:
    from onnx import ModelProto

    from marwright.recipe.types import Task
    from marwright.runtime.spec import PreprocessSpec
    from marwright.training.types import Splits

INT8 = "model.int8.onnx"
# Training samples that ranges are taken from.
CALIBRATION = 256
# Validation samples that layers are measured on, one by one.
_MEASURED = 32
# Large enough to be fast, small enough for any memory.
_BATCH = 16

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What may be seen of a data set, preprocessed batch by batch: never its test split."""

    splits: Splits
    spec: PreprocessSpec
    task: Task

    def training(self) -> NDArray[np.int64]:
        """Return which training samples ranges are taken from."""
        return _spread(self.splits.train, CALIBRATION)

    def measured(self) -> NDArray[np.int64]:
        """Return which validation samples layers are measured on."""
        return _spread(self.splits.validation, _MEASURED)

    def batches(self, indices: NDArray[np.int64]) -> Iterator[Array]:
        """Yield the evaluation transform of samples `(n, *shape)`."""
        for start in range(0, len(indices), _BATCH):
            part = indices[start : start + _BATCH]
            yield inputs_of(self.splits.samples, part, self.spec).numpy()

    def metric(self, outputs: Array) -> tuple[str, float]:
        """Return the name and the value of the main metric, of outputs for the validation split."""
        targets = targets_of(self.splits.samples, self.splits.validation, self.spec)
        return MAIN_METRIC[self.task], metric_of(torch.from_numpy(outputs), targets, self.task)


def quantise(
    path: Path,
    samples: Samples,
    folder: Path,
    *,
    limit: float,
    threads: int = 1,
    progress: Progress = lambda *_: None,
) -> QuantiseReport:
    """Write `model.int8.onnx`, with as few layers in float32 as the limit allows, byte-stable.

    `limit` is the largest drop of the metric, in points. Where it cannot be met with at most half
    of the layers excluded, all of them are int8 and the report is not ok. Raises `ExportError` for
    a model that cannot be int8, and `ParityError` for one that float32 itself does not do.
    """
    model = read_graph(path)
    layers = layers_of(model)
    progress(0, 3, "calibrating")
    ranges = ranges_of(model, samples.batches(samples.training()), threads)
    validation = samples.splits.validation
    metric, reached = samples.metric(outputs_of(model, samples.batches(validation), threads))
    if not math.isfinite(reached):
        raise ParityError(f"{path.name}: {metric} on the validation split is {reached} in float32")

    def drop_without(excluded: Sequence[str]) -> float:
        made = quantised(model, ranges, excluded)
        _, kept = samples.metric(outputs_of(made, samples.batches(validation), threads))
        # Outputs that are not finite have no metric; no limit allows as much.
        return _json(round(100 * (reached - kept), 6))

    progress(1, 3, "measuring layers")
    errors = _layer_errors(model, ranges, [*layers], samples, threads)
    costs = [
        LayerCost(layer=name, op=layers[name], error=_json(round(error, 6)), together=together)
        for name, (error, together) in errors.items()
    ]
    attempts = [Attempt(excluded=0, drop=drop_without(()))]
    excluded: list[str] = []
    if attempts[0].drop > limit:
        progress(2, 3, "excluding layers")
        # With more than half of them in float32 it would be int8 by name.
        candidates = [cost.layer for cost in costs][: len(layers) // 2]
        excluded, tried = exclude(candidates, drop_without, limit)
        attempts += tried
    made = quantised(model, ranges, excluded)
    target = folder / INT8
    onnx.save(made, target)
    try:
        onnx.checker.check_model(target, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{INT8}: the ONNX checker refuses it: {error}") from error
    drop = next(a.drop for a in attempts if a.excluded == len(excluded))
    return QuantiseReport(
        ok=drop <= limit,
        calibration_samples=len(samples.training()),
        validation_samples=len(validation),
        metric=metric,
        float32=round(reached, 6),
        limit=limit,
        drop=drop,
        layers=len(layers),
        excluded=excluded,
        sensitivity=costs,
        attempts=attempts,
        float32_bytes=size_of(path),
        int8_bytes=size_of(target),
    )


def refusal(report: QuantiseReport) -> str:
    """Say what int8 costs, which layers cost the most, what was tried and what is left to do."""
    tried = ", ".join(
        f"{attempt.drop:.2f} without the costliest {attempt.excluded}"
        for attempt in report.attempts[1:]
    )
    return (
        f"int8 costs {report.drop_before:.2f} points of {report.metric} on the "
        f"{report.validation_samples} validation samples (float32: {report.float32:.4f}), and "
        f"[parity] max_metric_drop = {report.limit:g} is allowed. Leaving layers in float32, at "
        f"most half of {report.layers}, does not mend it: {tried or 'there is only one'}. The "
        f"costliest, with their error alone: {report.costliest()}. Raise max_metric_drop, or set "
        '[export] precision = "fp32"'
    )


def _layer_errors(
    model: ModelProto,
    ranges: Ranges,
    layers: list[str],
    samples: Samples,
    threads: int,
) -> dict[str, tuple[float, int]]:
    rows = [*samples.batches(samples.measured())]
    expected = outputs_of(model, rows, threads).astype(np.float64)
    # Over the samples: outputs may differ from each other by a constant that says nothing.
    spread = float(np.sqrt(expected.var(axis=0).mean())) or 1.0

    def error_with(chosen: Sequence[str]) -> float:
        made = quantised(model, ranges, {*layers} - {*chosen})
        differences = outputs_of(made, rows, threads) - expected
        error = float(np.sqrt((differences**2).mean())) / spread
        return error if math.isfinite(error) else math.inf

    return costs_of(layers, error_with)


def _json(value: float) -> float:
    """Return a number that JSON has, which infinity and NaN are not."""
    return value if math.isfinite(value) else float(2**64)


def _spread(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most so many of the indices, spread over all of them."""
    places = np.linspace(0, len(indices) - 1, min(len(indices), most)).astype(np.int64)
    return indices[places]
