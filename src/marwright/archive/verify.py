"""Prove an archive: read it strictly, then run it as TorchServe would, in a clean process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from marwright.archive.container.budget import Exhausted
from marwright.archive.container.open import open_archive
from marwright.archive.container.types import Container
from marwright.archive.contents import Contents, Workflow, read_contents
from marwright.archive.gather import File
from marwright.archive.manifest import Manifest
from marwright.archive.names import lines_of
from marwright.archive.needed import import_notes
from marwright.archive.rules.config_notes import server_notes, server_problems
from marwright.archive.running import Aside, Found, Timed, Unpacked, run_archive, timing
from marwright.archive.scan import scan
from marwright.archive.scratch import scratch_folder, sweep
from marwright.archive.types import GOLDEN_INDEX, VerifyReport


def verify(
    mar: File,
    scratch: Path | None = None,
    timed: Timed | None = None,
    aside: Aside | None = None,
) -> VerifyReport:
    """Check an archive and return what is wrong with it, member by member.

    The structure comes first, then every byte's checksum and digest, then what the archive says
    of itself; only if all of that holds is it unpacked, its payload opened, its handler loaded by
    TorchServe's model loader in a process that cannot import the project, and sent its golden
    samples, and the requests of `aside`. Of a workflow, the functions of its handler are loaded so;
    its models are elsewhere. Without TorchServe no handler is tried, and the report says so. It is
    unpacked below `scratch`, else where temporary files go. Raises `VerifyError` when there is no
    such file.
    """
    mar = Path(mar)
    timed = timed or (lambda name, seconds: None)
    aside = aside or Aside()
    # Also where this archive is never unpacked.
    sweep("verify", scratch)
    with open_archive(mar) as archive:
        with timing(timed, "read"):
            found, contents, sha256 = _read(archive)
        found.problems += _misnamed(mar, contents)
        if not found.problems:
            with scratch_folder("verify", scratch) as place:
                folder, temporary = place / "archive", place / "tmp"
                folder.mkdir()
                temporary.mkdir()
                with timing(timed, "unpack"):
                    _unpack(archive, folder, found)
                if not found.problems:
                    with timing(timed, "scan"):
                        _scan(folder, archive, contents.manifest, found)
                if not found.problems:
                    found.notes += _imports(folder, contents.manifest)
                    unpacked = Unpacked(folder=folder, temporary=temporary, size=archive.size)
                    run_archive(unpacked, contents, found, aside, timed)
    claims = contents.inventory is not None and contents.inventory.proven
    untried = found.handler == "not tried"
    if claims and not found.problems and not found.golden and not untried:
        found.problems.append(f"{GOLDEN_INDEX}: a proven archive has golden samples")
    if contents.workflow is not None:
        found.unchecked += _elsewhere(contents.workflow)
    elif not claims and not found.golden:
        found.unchecked.append("golden samples: it carries none")
    return VerifyReport(
        sha256=sha256,
        size=archive.size,
        members=len(archive.members),
        golden_samples=found.golden,
        handler=found.handler,
        proven=claims and not found.problems and not untried,
        problems=lines_of(found.problems),
        unchecked=lines_of(found.unchecked),
        notes=lines_of(found.notes),
    )


def _read(archive: Container) -> tuple[Found, Contents, str]:
    found = Found(problems=archive.problems)
    if found.problems:
        # What the bytes are is then anybody's guess.
        return found, Contents(), ""
    sha256 = ""
    try:
        digests = archive.digests()
        sha256, found.problems = digests.sha256, digests.problems
        if found.problems:
            return found, Contents(), sha256
        contents = read_contents(archive, digests)
    except Exhausted as ended:
        return Found(problems=[str(ended)]), Contents(), sha256
    found.problems, found.notes = contents.problems, contents.notes
    if contents.config is not None and contents.manifest is not None:
        file, values = contents.manifest.model.config_file, contents.config.values
        found.problems += [f"{file}: {problem}" for problem in server_problems(values)]
        found.notes += [f"{file}: {note}" for note in server_notes(values)]
    if contents.inventory is None:
        found.unchecked.append("digests: it carries no record of them")
    return found, contents, sha256


def _misnamed(path: Path, contents: Contents) -> Iterator[str]:
    """Say when TorchServe would not look for what this is in a file of this name."""
    if contents.workflow is not None and path.is_dir():
        yield "a workflow in a folder, which TorchServe does not take: pack it"
    elif contents.workflow is not None and path.suffix == ".mar":
        yield "a workflow, which TorchServe unzips from .war files only: call it .war"
    elif contents.manifest is not None and path.suffix == ".war":
        yield "a model archive, which TorchServe unzips from .mar files only: call it .mar"


def _elsewhere(workflow: Workflow) -> Iterator[str]:
    for name, model in workflow.spec.models.items():
        yield f"model {name}: {model.url} is not in here, and was not looked for"


def _unpack(archive: Container, folder: Path, found: Found) -> None:
    try:
        archive.unpack(folder)
    except Exhausted as ended:
        found.problems.append(str(ended))


def _scan(folder: Path, archive: Container, manifest: Manifest | None, found: Found) -> None:
    """Look for code in the payload, and in what the handler may load besides."""
    payload = None if manifest is None else manifest.model.serialized_file
    scanned = scan({name: folder / name for name in archive.members}, payload, archive.budget)
    found.problems += [f"{payload}: {problem}" for problem in scanned.problems]
    found.notes += scanned.notes
    found.unchecked += scanned.unchecked


def _imports(folder: Path, manifest: Manifest | None) -> list[str]:
    if manifest is None or manifest.runtime == "LSP":
        return []
    return import_notes(folder, manifest.model)
