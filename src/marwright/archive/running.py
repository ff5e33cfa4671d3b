"""Run an unpacked archive as TorchServe would: its payload, its handler, and requests."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marwright.archive.contents import Contents
from marwright.archive.golden_check import Golden, answers_of, check_golden, read_golden
from marwright.archive.names import printable
from marwright.archive.probing import MOST_S, Probe, ProbeError, Reply, running
from marwright.archive.types import Tried
from marwright.recipe.extras import need

# A stage's name, "read", "unpack", "scan", "start", "open", "load" or "golden", and its seconds.
Timed = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to try: what it is called here, its body, and its content type."""

    name: str
    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a handler answered to a request."""

    request: Request
    status: int
    body: bytes


@dataclass(slots=True, kw_only=True)
class Aside:
    """Requests to try beside the golden samples; what came of them, and what the code ran in.

    No part of the report, which is the same wherever an archive is verified.
    """

    samples: Sequence[Request] = ()
    answers: list[Answer] = field(default_factory=list)
    sandbox: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Found:
    """What was found so far."""

    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    golden: int = 0
    handler: Tried = "not tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """Where an archive is unpacked, where its code may write besides, and its size in bytes."""

    folder: Path
    temporary: Path
    size: int


@contextmanager
def timing(timed: Timed, name: str) -> Iterator[None]:
    """Tell how long a stage takes."""
    started = time.monotonic()
    yield
    timed(name, time.monotonic() - started)


def run_archive(
    unpacked: Unpacked, contents: Contents, found: Found, aside: Aside, timed: Timed
) -> None:
    """Add to `found` what opening the payload, loading and asking the handler show.

    Of a workflow, each function of its handler is loaded.
    """
    if contents.manifest is not None and contents.manifest.runtime == "LSP":
        found.unchecked.append("handler: only TorchServe's C++ backend can run it")
    if not _models(contents):
        found.handler = "none"
        if not _payload(contents):
            return
    try:
        # Before any of its code runs, and could change them.
        golden = None if contents.workflow is not None else read_golden(unpacked.folder)
    except ValueError as error:
        found.problems.append(str(error))
        return
    with running(unpacked.folder, unpacked.temporary, unpacked.size) as probe:
        asking = Asking(probe, contents, found, timed)
        try:
            asking.ask_all(golden, aside)
        except ProbeError as error:
            found.problems.append(str(error))
        aside.sandbox = [*probe.had, *(f"{line}: not on this system" for line in probe.lacks)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What a loader is told, and the folder in which the worker stands."""

    name: str
    handler: str
    below: str = ""
    aside: str = ""


def _models(contents: Contents) -> list[_Model]:
    if contents.workflow is not None:
        handler = contents.workflow.manifest.workflow.handler
        told = "({} is called once with None for data when it is loaded)"
        return [
            _Model(name=name, handler=f"{handler}:{name}", below=handler.rpartition("/")[0],
                   aside=f" {told.format(name)}")
            for name in contents.workflow.spec.functions
        ]  # fmt: skip
    if contents.manifest is None or contents.manifest.runtime == "LSP":
        return []
    model = contents.manifest.model
    return [_Model(name=model.model_name, handler=model.handler)]


def _payload(contents: Contents) -> str | None:
    return None if contents.manifest is None else contents.manifest.model.serialized_file


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of a probe in its turn. Raises `ProbeError` when it can be asked no more."""

    probe: Probe
    contents: Contents
    found: Found
    timed: Timed

    def ask_all(self, golden: Golden | None, aside: Aside) -> None:
        """Ask for one thing after another, until a problem makes the next one useless."""
        models, payload = _models(self.contents), _payload(self.contents)
        with timing(self.timed, "start"):
            ready = self.probe.ask(
                "ready", "starting Python and TorchServe's modules", seconds=MOST_S
            )
            lacks = ready.texts("lacks")
        if payload:
            with timing(self.timed, "open"):
                self.open(payload)
        if models and lacks:
            # A worker's own modules, so that nothing of what follows could run.
            self.found.unchecked.append(f"handler: not tried: {need(lacks[0])}")
            return
        if models and not self.found.problems:
            with timing(self.timed, "load"):
                self.found.handler = "tried"
                self.load(models)
        if golden is not None and models and not self.found.problems:
            with timing(self.timed, "golden"):
                seconds = self.seconds("responseTimeout")
                self.found.problems += check_golden(self.probe, golden, seconds)
            self.found.golden = len(golden.index.samples)
        if models and not self.found.problems:
            self.send(aside)
            self.look_outside(models)

    def seconds(self, key: str) -> float:
        """Return a timeout of the archive's, as far as it is no longer than this looks at it."""
        config: Mapping[str, Any] = self.contents.config.values if self.contents.config else {}
        value = config.get(key, MOST_S)
        return min(value, MOST_S) if type(value) is int and value > 0 else MOST_S

    def open(self, payload: str) -> None:
        """Open the payload."""
        doing = f"{payload}: opening it"
        seconds = self.seconds("startupTimeout")
        reply = self.probe.ask("open", doing, seconds=seconds, name=payload)
        self._take(reply, payload)
        self.found.unchecked += [f"{payload}: not opened: {need(n)}" for n in reply.texts("lacks")]

    def load(self, models: Sequence[_Model]) -> None:
        """Load the handler, or each function of a workflow's."""
        for one in models:
            told = {"modelName": one.name, "handler": one.handler}
            reply = self.probe.ask(
                "load", f"{one.handler}: loading it", seconds=self.seconds("startupTimeout"),
                model=told, below=one.below,
            )  # fmt: skip
            self._take(reply, one.handler, one.aside)

    def _take(self, reply: Reply, what: str, aside: str = "") -> None:
        errors = [f"{what}: it fails: {error}" for error in reply.texts("error")]
        problems = [*reply.texts("problems"), *errors]
        self.found.problems += [f"{line}{self.probe.hint(line)}{aside}" for line in problems]
        self.found.unchecked += reply.texts("unchecked")

    def send(self, aside: Aside) -> None:
        """Send requests of whoever verifies; an answer that is none is a problem."""
        for request in aside.samples:
            name = f"{request.name}, sent as {request.content_type}"
            reply = self.probe.ask(
                "ask", f"{name}: answering it", [request.body],
                seconds=self.seconds("responseTimeout"), types=[request.content_type],
            )  # fmt: skip
            if failed := [*reply.texts("error"), *reply.texts("refused")]:
                problem = f"{name}: the handler fails: {failed[0]}{self.probe.hint(failed[0])}"
                self.found.problems.append(problem)
                continue
            [(status, body)] = answers_of(reply, 1)
            aside.answers.append(Answer(request=request, status=status, body=body))
            if status != 200:
                shown = printable(body.decode(errors="replace"))
                problem = f"{name}: answered with status {status}: {shown}"
                self.found.problems.append(problem)
        if not self.found.golden and not aside.samples and self.contents.workflow is None:
            self.found.unchecked.append("requests: none was tried; `--sample FILE` sends one")

    def look_outside(self, models: Sequence[_Model]) -> None:
        """Name modules that came from elsewhere although the archive has one of the name."""
        reply = self.probe.ask("outside", "looking at its modules", seconds=MOST_S,
                               below=models[0].below)  # fmt: skip
        root = self.probe.folder / models[0].below
        for name in reply.texts("names"):
            if (root / name).exists() or [*root.glob(f"{glob.escape(name)}.*")]:
                why = (
                    "the archive has it at its root, and Python loaded another one: rename it, or "
                    "give its folder an __init__.py"
                )
            else:
                why = "the handler imports it, and no server has it: pack what it needs of it"
            self.found.problems.append(f"{printable(name)}: {why}")
