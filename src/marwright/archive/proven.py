"""Pack a proven model: payload, handler as a tree, configuration, and the proof."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from marwright.archive.container.writer import Content
from marwright.archive.imports import require_runtime_only
from marwright.archive.manifest import ManifestModel, write_manifest
from marwright.archive.model_config import model_config
from marwright.archive.rules.labels import LABELS
from marwright.archive.sources import SourceReader
from marwright.archive.types import (
    MANIFEST,
    MODEL_CONFIG,
    PROOF,
    AnswersReport,
    Artifact,
    Proof,
    to_json,
)
from marwright.archive.write import archive_date, write_archive
from marwright.parity.types import ParityReport
from marwright.project import ENGINE, module_name, place
from marwright.recipe.entry import entry_in
from marwright.recipe.errors import PackError
from marwright.recipe.types import PROVEN_SECTIONS, canonical
from marwright.runtime.spec import spec_to_dict
from marwright.training.accepted import refusal

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe
    from marwright.training.types import Meta


def pack_proven(
    recipe: Recipe,
    traced: Path,
    report: ParityReport,
    answers: AnswersReport,
    meta: Meta,
    golden: Mapping[str, bytes],
    *,
    root: Path,
    target: Path,
) -> Artifact:
    """Write the archive of a recipe's model.

    Raises `PackError` unless both reports are ok and the metric is worth shipping.
    """
    if not (report.ok and answers.ok):
        raise PackError(f"{recipe.name}: not packed: the parity gate did not pass")
    if problem := refusal(recipe, meta, meta.split_sizes.get("test", 0)):
        raise PackError(f"{recipe.name}: not packed: {problem}")
    declared = canonical(recipe)
    proof = Proof(
        recipe={section: declared[section] for section in PROVEN_SECTIONS},
        metrics=meta.metrics,
        baseline=meta.baseline,
        gain=meta.gain,
        splits=meta.splits,
        parity=report.summary(),
        answers=answers,
        versions=meta.versions,
    )
    members = {**worker_members(recipe, traced, meta, root), PROOF: to_json(proof), **golden}
    return write_archive(target, members, proven=True)


def handler_of(recipe: Recipe, root: Path) -> str:
    """Return the manifest's `handler`: a module, and its function where it is entered by one."""
    module = module_name(recipe.serve.file)
    entry = entry_in(place(recipe.serve.file, root))
    return f"{module}:handle" if entry.is_function else module


def worker_members(recipe: Recipe, traced: Path, meta: Meta, root: Path) -> dict[str, Content]:
    """Return what a worker loads of the archive: all of it but the proof and golden samples.

    Raises `PackError` for a handler that takes more of the engine along than what ships.
    """
    reader = SourceReader(root, engine=ENGINE)
    closure = reader.closure([recipe.serve.file])
    require_runtime_only(closure)
    model = ManifestModel(
        model_name=recipe.name,
        model_version=recipe.version,
        handler=handler_of(recipe, root),
        serialized_file=traced.name,
        config_file=MODEL_CONFIG,
    )
    members: dict[str, Content] = {
        MANIFEST: write_manifest(model, archive_date()),
        MODEL_CONFIG: model_config(recipe),
        traced.name: traced,
        "preprocess.json": to_json(spec_to_dict(meta.spec)),
    }
    if meta.labels:
        members["labels.json"] = to_json(meta.labels)
        if not entry_in(place(recipe.serve.file, root)).is_service:
            # Where handlers that derive from TorchServe's look for them.
            members[LABELS] = to_json({str(n): label for n, label in enumerate(meta.labels)})
    for path in closure.files:
        members[path] = reader.place(path).read_bytes()
    return members
