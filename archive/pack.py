"""Pack a proven model: payload, handler as a tree, configuration, and the proof."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from archive.files import sha256_file
from archive.manifest import manifest, model_config
from archive.mar import Content, write_mar
from archive.sources import SourceReader
from archive.types import (
    FORMAT,
    MANIFEST,
    MODEL_CONFIG,
    PROOF,
    Artifact,
    ParityReport,
    Proof,
    to_json,
)
from handlers.spec import spec_to_dict
from recipes.errors import PackError
from recipes.types import canonical

if TYPE_CHECKING:
    from recipes.types import Recipe
    from train.types import Meta


def pack_proven(
    recipe: Recipe,
    traced: Path,
    report: ParityReport,
    meta: Meta,
    golden: Mapping[str, bytes],
    *,
    root: Path,
    target: Path,
) -> Artifact:
    """Write the archive of a recipe's model. Raises `PackError` unless `report.ok`."""
    if not report.ok:
        raise PackError(f"{recipe.name}: not packed: the parity gate did not pass")
    members: dict[str, Content] = {
        MANIFEST: manifest(recipe, traced.name),
        MODEL_CONFIG: model_config(recipe),
        traced.name: traced,
        "preprocess.json": to_json(spec_to_dict(meta.spec)),
        **golden,
    }
    if meta.labels:
        members["labels.json"] = to_json(meta.labels)
    for path in SourceReader(root).closure([f"handlers/{recipe.serve.handler}.py"]).files:
        members[path] = (root / path).read_bytes()
    proof = Proof(
        format=FORMAT,
        members={name: _sha256(content) for name, content in sorted(members.items())},
        recipe=canonical(recipe),
        metrics=meta.metrics,
        splits=meta.splits,
        parity=report.summary(),
        versions=meta.versions,
    )
    return write_mar(target, {**members, PROOF: to_json(proof)})


def _sha256(content: Content) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return sha256_file(content)
