"""The model store: the folder that TorchServe serves from, closed to what is not proven."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from archive.container.open import open_archive
from archive.container.stream import fan_out
from archive.contents import Contents, read_contents
from archive.files import replacing
from archive.manifest import ManifestModel
from archive.names import lines_of
from archive.types import VerifyReport
from recipes.errors import StoreError, VerifyError
from recipes.regular import open_regular


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
    with io.FileIO(open_regular(mar)) as source, replacing(target) as copy:
        fan_out(source, digest.update, here=copy.write)
        # Inside the block: an error here leaves the store's old archive in its place.
        if digest.hexdigest() != verified.sha256:
            raise StoreError(f"{mar.name}: not published: it changed since it was verified")
    return target


def check_store(store: Path) -> tuple[list[Path], list[str]]:
    """Look through a store; returns the archives in it, and what should not be there.

    Names and versions must be unique: two archives of one would stop the server at its start.
    """
    archives, problems = [], []
    taken: dict[tuple[str, str], Path] = {}
    for path in sorted(store.iterdir()):
        if path.is_symlink() or not path.is_file():
            problems.append(f"{path}: a store holds files only: remove it")
        elif path.suffix != ".mar" or path.name.startswith("."):
            half = path.name.endswith(".tmp")
            what = "what a killed writer left" if half else "is no archive"
            problems.append(f"{path}: {what}: remove it")
        else:
            archives.append(path)
    for path in archives:
        try:
            model = read_model(path)
        except VerifyError:
            # `verify` says more of what is wrong with it.
            continue
        first = taken.setdefault((model.model_name, model.model_version), path)
        if first != path:
            problems.append(
                f"{path}: {model.model_name} {model.model_version} is {first.name} already: two "
                "of one name and version stop the whole server"
            )
    return archives, problems


def read_model(mar: Path) -> ManifestModel:
    """Return what an archive's manifest says of its model; neither digests nor code are looked at.

    Raises `VerifyError` for what `verify` would find without them, one line a problem.
    """
    with open_archive(mar) as archive:
        contents = Contents() if archive.problems else read_contents(archive, None)
        problems = archive.problems or contents.problems
    if problems or contents.manifest is None:
        raise VerifyError("\n".join(lines_of(problems)) or "a workflow, and no model archive")
    return contents.manifest.model
