"""What the gate is given of a recipe's model: its files, its held-out samples, its worst inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from marwright.files import sha256_file
from marwright.parity.backends import Array
from marwright.parity.compare import Candidate
from marwright.parity.gate import Subject
from marwright.parity.inputs import Domain, Group, domain_of
from marwright.parity.texts import side_by_side
from marwright.recipe.errors import ParityError
from marwright.recipe.types import MAIN_METRIC
from marwright.runtime.spec import MAX_ROWS, TableSpec
from marwright.training.accepted import ANY
from marwright.training.checkpoint import WEIGHTS, load_checkpoint, load_losses
from marwright.training.precision import in_precision
from marwright.training.tensors import inputs_of, targets_of

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe
    from marwright.training.types import Checkpoint, Splits


def candidate_of(
    recipe: Recipe, root: Path, checkpoint: Checkpoint, files: Mapping[str, Path]
) -> Candidate:
    """Return the checkpoint and its exports, all from disk. `files` are the step's, by name."""
    eager = load_checkpoint(recipe, root, checkpoint)
    precision = recipe.export.precision
    return Candidate(
        eager=eager,
        yardstick=in_precision(eager, precision),
        traced=files["model.pt"],
        onnx=files["model.onnx"],
        int8=files.get("model.int8.onnx"),
        precision=precision,
        origin=sha256_file(files[WEIGHTS]),
        opset=recipe.export.opset,
        dynamic=recipe.dynamic_axes,
    )


def subject_of(
    recipe: Recipe, checkpoint: Checkpoint, splits: Splits, kept: Iterable[Array] = ()
) -> Subject:
    """Return what is known of the model. Raises `ParityError` for kept inputs of other shapes."""
    meta, samples = checkpoint.meta, splits.samples
    spec = meta.spec
    rows = inputs_of(samples, splits.test, spec).numpy()
    # How far a table's columns go is learned from what training saw, too.
    seen = rows
    if isinstance(spec, TableSpec):
        seen = np.concatenate([rows, inputs_of(samples, splits.train, spec).numpy()])
    domain = domain_of(spec, seen, recipe.dynamic_axes)
    batch, metric = recipe.serve.batch_size, MAIN_METRIC[recipe.task]
    return Subject(
        task=recipe.task,
        domain=domain,
        real=Group(
            kind="held-out",
            rows=rows,
            names=tuple(f"sample {index} of the data set" for index in splits.test),
        ),
        kept=tuple(_groups(kept, recipe.name, domain)),
        targets=targets_of(samples, splits.test, spec).numpy(),
        recorded=meta.metrics.get(metric),
        baseline=None if recipe.training.minimum_metric == ANY else meta.baseline.get(metric),
        losses=load_losses(checkpoint),
        spec=spec,
        labels=tuple(meta.labels),
        serving=batch,
        # A request may hold as many rows as the handler lets through.
        largest=batch * MAX_ROWS if isinstance(spec, TableSpec) else batch,
    )


def _groups(kept: Iterable[Array], model: str, domain: Domain) -> Iterable[Group]:
    by_shape: dict[tuple[int, ...], list[tuple[int, Array]]] = {}
    for number, row in enumerate(kept):
        if not domain.holds(row):
            raise ParityError(
                f"archive/{model}/worst.safetensors: input {number} is {row.dtype} "
                f"{row.shape}, and the model takes {_taken(domain)}: remove the file, and "
                "keep the worst inputs of this model anew"
            )
        shape = row.shape if domain.dtype == "float32" else ()
        by_shape.setdefault(shape, []).append((number, row))
    for rows in by_shape.values():
        samples = [row for _, row in rows]
        yield Group(
            kind="regression",
            # Texts of any length go through together, as they do at a server.
            rows=side_by_side(samples) if domain.dtype == "int64" else np.stack(samples),
            names=tuple(f"committed input {number}" for number, _ in rows),
        )


def _taken(domain: Domain) -> str:
    if domain.dtype == "float32":
        return f"float32 {domain.shape}"
    return f"int64 of up to {domain.shape[0]} numbers from {domain.low} to {domain.high}"
