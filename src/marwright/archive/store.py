"""The model store: the folder that TorchServe serves from, closed to what is not proven."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import string
from dataclasses import dataclass
from pathlib import Path

from marwright.archive.container.open import open_archive
from marwright.archive.container.stream import fan_out
from marwright.archive.contents import Contents, read_contents
from marwright.archive.manifest import ManifestModel
from marwright.archive.names import lines_of, one_line
from marwright.archive.types import VerifyReport
from marwright.files import is_being_written, replacing
from marwright.recipe.errors import StoreError, VerifyError
from marwright.recipe.regular import open_regular

_UNNAMEABLE = re.compile(r"[,=\s]")
# Characters that mean themselves between $' and ' in a shell.
_SAFE = frozenset(string.ascii_letters + string.digits + " ./-_+,=@:")
_RENAME = "TorchServe cannot be told of a file name with a comma, = or space in it: rename it"


def publish(mar: Path, verified: VerifyReport, target: Path) -> Path:
    """Copy a verified archive into the store as `target`, atomically.

    Raises `StoreError` when the report is not ok, the archive carries no proof, or the bytes are
    not the ones that were verified.
    """
    if not verified.ok:
        raise StoreError(f"{mar.name}: not published: {verified.problems[0]}")
    if verified.untried:
        raise StoreError(f"{mar.name}: not published: {verified.untried}")
    if not verified.proven:
        raise StoreError(f"{mar.name}: not published: it carries no proof; build it from a recipe")
    digest = hashlib.sha256()
    with io.FileIO(open_regular(mar)) as source, replacing(target) as copy:
        fan_out(source, digest.update, here=copy.write)
        # Inside the block: an error here leaves the store's old archive in its place.
        if digest.hexdigest() != verified.sha256:
            raise StoreError(f"{mar.name}: not published: it changed since it was verified")
    return target


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredModel:
    """One archive of the model store, under the name and version of its manifest."""

    name: str
    version: str
    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """Something in a store that a server is not given. `unread`: `verify` says why of it, too."""

    path: Path
    why: str
    unread: bool = False

    def __str__(self) -> str:
        path = one_line(str(self.path))
        lines = "\n".join(f"{path}: {line}" for line in self.why.splitlines())
        return f"{lines}: `{removal(self.path)}` removes it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What lies in a store: all that it can serve, archives that it cannot, and all the rest.

    Of several versions of a model, the one in the file that `publish` would write comes first:
    TorchServe answers with the first that it is given when no version is asked for.
    """

    models: tuple[StoredModel, ...]
    refused: tuple[Refused, ...]
    strangers: tuple[Refused, ...]

    @property
    def archives(self) -> list[Path]:
        """All archives, those that cannot be served as well."""
        return sorted([m.path for m in self.models] + [one.path for one in self.refused])


def list_store(store: Path) -> Listing:
    """Look through a store, for whoever checks it and whoever serves it alike.

    An archive is a regular `.mar` file that is not hidden; nothing else is served. Two archives
    of one name and version would stop the whole server at its start: only the one that is called
    after its model is kept, so that nothing takes the place of what was published.
    """
    found: list[StoredModel] = []
    refused: list[Refused] = []
    strangers: list[Refused] = []
    for path in sorted(store.iterdir()) if store.is_dir() else []:
        if is_being_written(path):
            continue
        if stranger := _stranger(path):
            strangers.append(Refused(path=path, why=stranger))
            continue
        try:
            found.append(_read(path))
        except VerifyError as error:
            refused.append(Refused(path=path, why=str(error), unread=True))
    found.sort(key=lambda one: (one.name, one.path.stem != one.name, one.path.name))
    models, twins = _without_twins(found)
    unnameable = [one for one in models if _UNNAMEABLE.search(one.path.name)]
    twins += [Refused(path=one.path, why=_RENAME) for one in unnameable]
    return Listing(
        models=tuple(one for one in models if one not in unnameable),
        refused=tuple(sorted([*refused, *twins], key=lambda one: one.path)),
        strangers=tuple(strangers),
    )


def _stranger(path: Path) -> str:
    """Say why something in a store is no archive; nothing where it is one."""
    if path.is_symlink() or not path.is_file():
        return "a store holds files only"
    if path.suffix == ".mar" and not path.name.startswith("."):
        return ""
    half = path.name.endswith(".tmp")
    if path.suffix == ".model" and not path.name.startswith("."):
        return "is no archive, and `torchserve --models all` may load it as one"
    return "what a killed writer left" if half else "is no archive"


def _read(path: Path) -> StoredModel:
    model = read_model(path)
    return StoredModel(name=model.model_name, version=model.model_version, path=path)


def _without_twins(found: list[StoredModel]) -> tuple[list[StoredModel], list[Refused]]:
    """Keep one archive of each name and version: the one called after its model, or none."""
    alike: dict[tuple[str, str], list[StoredModel]] = {}
    for one in found:
        alike.setdefault((one.name, one.version), []).append(one)
    kept, refused = [], []
    for group in alike.values():
        first, others = group[0], group[1:]
        # Sorted: the one that is called after its model is the first, if there is one.
        if not others or first.path.stem == first.name:
            kept.append(first)
        else:
            others = group
        for one in others:
            other = next(twin for twin in group if twin is not one)
            refused.append(
                Refused(
                    path=one.path,
                    why=f"{one.name} {one.version} is {other.path.name} already: two of one name "
                    "and version stop the whole server",
                )
            )
    return kept, refused


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


def removal(path: Path) -> str:
    """Return the command that removes something from a store, to be pasted into a shell."""
    name = f"./{path}" if str(path).startswith("-") else str(path)
    command = "rm -r" if path.is_dir() and not path.is_symlink() else "rm"
    if name.isprintable():
        return f"{command} {shlex.quote(name)}"
    # What a terminal would obey, or cannot show, byte by byte, as bash and zsh read it.
    shown = "".join(
        chr(byte) if chr(byte) in _SAFE else f"\\x{byte:02x}" for byte in os.fsencode(name)
    )
    return f"{command} $'{shown}'"
