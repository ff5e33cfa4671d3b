"""Prove an archive: read it strictly, then run it as TorchServe would, in a clean process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from msgspec import Struct

from archive.container.budget import Exhausted
from archive.container.open import open_archive
from archive.container.types import Container
from archive.contents import Contents, Workflow, read_contents
from archive.manifest import Manifest
from archive.names import lines_of
from archive.needed import import_notes
from archive.rules.pickles import pickle_problems
from archive.scratch import scratch_folder, sweep
from archive.types import GOLDEN_INDEX, VerifyReport, from_json

PROBE = Path(__file__).with_name("probe.py")
# Importing torch on a busy machine takes most of it.
_TIMEOUT_S = 600
# In bytes, of what the probe and the handler in it print.
_TAIL = 1 << 20

# A stage's name ("read", "unpack", "scan", "open", "load", "golden") and how many seconds it took.
Timed = Callable[[str, float], None]


class _Result(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the probe prints: the fields of its `Result`."""

    problems: list[str]
    unchecked: list[str]
    golden_samples: int
    seconds: dict[str, float]


@dataclass(slots=True, kw_only=True)
class _Found:
    """What the stages found so far."""

    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    golden: int = 0


def verify(mar: Path, scratch: Path | None = None, timed: Timed | None = None) -> VerifyReport:
    """Check an archive and return what is wrong with it, member by member.

    The structure comes first, then every byte's checksum and digest, then what the archive says
    of itself; only if all of that holds is it unpacked, its payload opened, its handler loaded by
    TorchServe's model loader in a process that cannot import the project, and sent its golden
    samples. Of a workflow, the functions of its handler are loaded so; its models are elsewhere.
    It is unpacked below `scratch`, else where temporary files go. Raises `VerifyError` when there
    is no such file.
    """
    timed = timed or (lambda name, seconds: None)
    # Also where this archive is never unpacked.
    sweep("verify", scratch)
    with open_archive(mar) as archive:
        with _timing(timed, "read"):
            found, contents, sha256 = _read(archive)
        found.problems += _misnamed(mar, contents)
        if not found.problems:
            with scratch_folder("verify", scratch) as folder:
                with _timing(timed, "unpack"):
                    _unpack(archive, folder, found)
                if not found.problems:
                    with _timing(timed, "scan"):
                        _scan(folder, archive, contents.manifest, found)
                if not found.problems:
                    found.notes += _imports(folder, contents.manifest)
                    _run(folder, contents.workflow, found, timed)
    claims = contents.inventory is not None and contents.inventory.proven
    if claims and not found.problems and not found.golden:
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
        proven=claims and not found.problems,
        problems=lines_of(found.problems),
        unchecked=lines_of(found.unchecked),
        notes=lines_of(found.notes),
    )


@contextmanager
def _timing(timed: Timed, name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    timed(name, time.monotonic() - started)


def _read(archive: Container) -> tuple[_Found, Contents, str]:
    found = _Found(problems=archive.problems)
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
        return _Found(problems=[str(ended)]), Contents(), sha256
    found.problems, found.notes = contents.problems, contents.notes
    if contents.inventory is None:
        found.unchecked.append("digests: it carries no record of them")
    return found, contents, digests.sha256


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


def _unpack(archive: Container, folder: Path, found: _Found) -> None:
    try:
        archive.unpack(folder)
    except Exhausted as ended:
        found.problems.append(str(ended))


def _scan(folder: Path, archive: Container, manifest: Manifest | None, found: _Found) -> None:
    """Look for pickles that run code: in the payload, and in what the handler may load besides."""
    payload = None if manifest is None else manifest.model.serialized_file
    # The payload first: what others cost is not to keep it from being looked at.
    names = sorted(archive.members, key=lambda name: (name != payload, name))
    for number, name in enumerate(names):
        if name != payload and archive.budget.is_spent():
            found.unchecked.append(
                f"pickles: {len(names) - number} members were not looked through, {name} and on: "
                f"the others took {archive.budget.seconds:.0f} s of processor time"
            )
            return
        lines = [f"{name}: {line}" for line in pickle_problems(folder / name, archive.budget)]
        if name == payload:
            found.problems += lines
        else:
            found.notes += [f"{line} (if the handler loads it so)" for line in lines]


def _imports(folder: Path, manifest: Manifest | None) -> list[str]:
    if manifest is None or manifest.runtime == "LSP":
        return []
    return import_notes(folder, manifest.model)


def _run(folder: Path, workflow: Workflow | None, found: _Found, timed: Timed) -> None:
    """Open the payload, then load and ask the handler; load the functions of a workflow."""
    functions = []
    if workflow is not None:
        handler = workflow.manifest.workflow.handler
        functions = [f"{handler}:{name}" for name in workflow.spec.functions]
        if not functions:
            return
    result = _probe(folder, *functions)
    found.problems += result.problems
    found.unchecked += result.unchecked
    found.golden = result.golden_samples
    for name, seconds in result.seconds.items():
        timed(name, seconds)


def _probe(folder: Path, *functions: str) -> _Result:
    # Nothing of our environment that could change what is imported or how many threads run.
    kept = ("PATH", "HOME", "TMPDIR", "TEMP", "LANG", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    # Isolated mode: neither the working folder nor PYTHONPATH is on the path.
    command = [sys.executable, "-I", str(PROBE), str(folder), *functions]
    # Files rather than pipes for what it says, so that nobody has to read while it runs. Its
    # stdin is a pipe: that it stays open tells the probe that we live.
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as wrong:
        with subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=said, stderr=wrong
        ) as process:
            try:
                process.wait(_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                return _failed(f"loading it took more than {_TIMEOUT_S} s")
            except BaseException:
                process.kill()
                raise
        output, errors = _tail(said), _tail(wrong)
    if process.returncode == 0:
        with suppress(ValueError):
            return from_json(output, _Result)
    # Whatever the handler printed last, if it was not an exception that ended it.
    tail = (errors.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
    return _failed(f"the process that loads it ended with {process.returncode}: {tail}")


def _failed(problem: str) -> _Result:
    return _Result(problems=[problem], unchecked=[], golden_samples=0, seconds={})


def _tail(file: IO[bytes]) -> bytes:
    """Return the end of what was written, which may be without end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    return file.read()
