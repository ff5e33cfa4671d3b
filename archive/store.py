"""The model store: the folder that TorchServe serves from, closed to what is not proven."""

from __future__ import annotations

import hashlib
from pathlib import Path

from archive.files import replacing
from archive.types import VerifyReport
from recipes.errors import StoreError


def publish(mar: Path, verified: VerifyReport, target: Path) -> Path:
    """Copy a verified archive into the store as `target`, atomically.

    Raises `StoreError` when the report is not ok, the archive carries no proof, or the bytes are
    not the ones that were verified.
    """
    if not verified.ok:
        raise StoreError(f"{mar.name}: not published: {verified.problems[0]}")
    if not verified.proven:
        raise StoreError(f"{mar.name}: not published: it carries no proof; build it from a recipe")
    digest = hashlib.sha256()
    with mar.open("rb") as source, replacing(target) as copy:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            copy.write(chunk)
        # Inside the block: an error here leaves the store's old archive in its place.
        if digest.hexdigest() != verified.sha256:
            raise StoreError(f"{mar.name}: not published: it changed since it was verified")
    return target
