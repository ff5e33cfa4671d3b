"""Run an archive's handler in this process, without Java, as a worker of TorchServe does.

A breakpoint in the handler stops here; an error of the handler is raised as it is.
"""

from __future__ import annotations

import linecache
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from marwright.archive import probe
from marwright.archive.container.open import open_archive
from marwright.archive.contents import read_contents
from marwright.archive.names import lines_of
from marwright.archive.scan import scan
from marwright.archive.scratch import scratch_folder
from marwright.recipe.errors import VerifyError
from marwright.recipe.extras import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a handler answered to one request: the HTTP status and the bytes of the body."""

    status: int
    body: bytes


def run(mar: Path, requests: Sequence[tuple[bytes, str]]) -> list[Answer]:
    """Send requests, each a body and its content type, to an archive's handler as one batch.

    The archive is read as strictly as `verify` does, then unpacked and loaded by TorchServe's
    model loader, with the working folder and the path of a worker; why a handler does not load
    is printed. Only one may run in a process at a time. Raises `VerifyError` for an archive that
    cannot be read or loaded, or whose handler does not answer each request, `MissingError` where
    TorchServe is not installed, and whatever the handler raises.
    """
    require("ts")
    with scratch_folder("run") as folder:
        model = _unpack(mar, folder)
        with _as_worker(folder), warnings.catch_warnings():
            # TorchServe serves TorchScript, each of whose calls says that it is deprecated.
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", FutureWarning)
            result = probe.Result()
            probe.enter(folder)
            try:
                loaded = probe.load_handler(folder, model, result)
                if loaded is None:
                    raise VerifyError(f"{mar}: {result.problems[0]}")
                answers = probe.ask(loaded[0], requests)
            except SystemExit as ended:
                raise VerifyError(f"{mar}: the handler ends the process: {ended!r}") from ended
            except Exception as error:
                _keep_lines(error, folder)
                raise
        if isinstance(answers, str):
            raise VerifyError(f"{mar}: {answers}")
    return [Answer(status=status, body=body) for status, body in answers]


def _keep_lines(error: Exception, folder: Path) -> None:
    """Let a traceback show the lines of files that are gone by the time it is printed."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if Path(file).is_relative_to(folder):
            lines = linecache.getlines(file)
            # An entry without a time is not held against the file again.
            linecache.cache[file] = (sum(map(len, lines)), None, lines, file)


def _unpack(mar: Path, folder: Path) -> dict[str, str]:
    """Unpack a sound archive; returns `model` of its manifest as the loader reads it."""
    with open_archive(mar) as archive:
        problems, budget = archive.problems, archive.budget
        if not problems:
            digests = archive.digests()
            contents = read_contents(archive, digests)
            problems = [*digests.problems, *contents.problems]
        _raise_for(mar, problems)
        if contents.workflow is not None:
            raise VerifyError(f"{mar}: a workflow, whose models are elsewhere: run those")
        assert contents.manifest is not None
        if contents.manifest.runtime == "LSP":
            raise VerifyError(f"{mar}: only TorchServe's C++ backend can run it")
        archive.unpack(folder)
    model = contents.manifest.model
    if payload := model.serialized_file:
        problems = scan({payload: folder / payload}, payload, budget).problems
        _raise_for(mar, [f"{payload}: {problem}" for problem in problems])
    return {
        "modelName": model.model_name,
        "handler": model.handler,
        **dict(model.files()),
    }


def _raise_for(mar: Path, problems: list[str]) -> None:
    if problems:
        raise VerifyError("\n".join(f"{mar}: {problem}" for problem in lines_of(problems)))


@contextmanager
def _as_worker(folder: Path) -> Iterator[None]:
    """Let imports find what they would find in a worker: the archive, and nothing of this project.

    What was imported before comes back afterwards, for whoever goes on.
    """
    ours = {n: m for n, m in sys.modules.items() if f"{n}.".startswith("marwright.")}
    path, here = sys.path[:], Path.cwd()
    for name in ours:
        del sys.modules[name]
    sys.path[:] = [p for p in path if p and Path(p).resolve() != here]
    if not (folder / probe.PACKER).exists():
        # It is installed here, and on no server.
        sys.modules[probe.PACKER] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(probe.PACKER, None)
        for name, module in [*sys.modules.items()]:
            file = getattr(module, "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]
        sys.modules.update(ours)
        sys.path[:] = path
        os.chdir(here)
