"""A recipe's handler in a worker of its own: over what ships, and asked by a pipe.

For handlers that are entered as any of TorchServe's, by `handle`: what they read and answer cannot
be called from here. A folder is made as TorchServe unpacks the archive, and `probe.py` loads it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marwright.archive.golden_check import answers_of, array_of
from marwright.archive.probing import MOST_S, Probe, ProbeError, Reply, running
from marwright.archive.proven import handler_of, worker_members
from marwright.archive.scratch import scratch_folder
from marwright.archive.write import write_members
from marwright.recipe.errors import PackError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from marwright.recipe.types import Recipe
    from marwright.training.types import Meta

# A body and its content type, as a client sends them; a status, and the answer's body.
Request = tuple[bytes, str]
Answer = tuple[int, bytes]
# What went into `inference` and what came out; of what is no array, what it is.
Seen = tuple["NDArray[Any] | str", "NDArray[Any] | str"]


class WorkerError(Exception):
    """The handler fails over all that it was sent; its message is a finding."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A handler that is loaded. `seconds` are what an answer may take."""

    probe: Probe
    seconds: float

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Send requests as one batch. Raises `WorkerError`."""
        reply = self._told(
            "ask", "answering", [body for body, _ in requests], types=[t for _, t in requests]
        )
        if refused := reply.texts("refused"):
            raise WorkerError(refused[0])
        return answers_of(reply, len(requests))

    def watch(self) -> bool:
        """Keep from now on what its `inference` takes and gives; whether it has one."""
        return bool(self._told("watch", "looking for `inference`").header.get("watches"))

    def seen(self) -> list[Seen]:
        """Return what `inference` took and gave since this was last asked, call by call."""
        values: list[NDArray[Any] | str] = []
        while "nothing" not in (reply := self._told("seen", "looking at `inference`")).header:
            array = array_of(reply)
            values.append(str(reply.header.get("kind", "tensor")) if array is None else array)
        return [*zip(values[::2], values[1::2], strict=True)]

    def _told(self, do: str, doing: str, blobs: Sequence[bytes] = (), **arguments: Any) -> Reply:
        try:
            reply = self.probe.ask(do, doing, blobs, seconds=self.seconds, **arguments)
        except ProbeError as error:
            raise WorkerError(str(error)) from None
        if errors := reply.texts("error"):
            raise WorkerError(f"{errors[0]}{self.probe.hint(errors[0])}")
        return reply


@contextmanager
def handler_worker(
    recipe: Recipe, traced: Path, meta: Meta, root: Path, *, batches: int
) -> Iterator[Worker]:
    """Load the recipe's handler over the payload that ships, for so many batches of requests.

    Raises `PackError` for a handler that TorchServe would not load, and where TorchServe's loader
    is not installed.
    """
    file, serve = recipe.serve.file, recipe.serve
    if importlib.util.find_spec("ts") is None:
        raise PackError(
            f"{file}: only TorchServe's own loader can run it, and torchserve is not installed: "
            'pip install "marwright[serve]", or write the handler with a `Service`'
        )
    with scratch_folder("answers") as place:
        temporary = place / "tmp"
        temporary.mkdir()
        members = worker_members(recipe, traced, meta, root)
        folder = write_members(place / "archive", members, "no-archive")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        most = MOST_S + serve.startup_timeout_s + batches * serve.response_timeout_s
        with running(folder, temporary, size, most=most) as probe:
            worker = Worker(probe, float(serve.response_timeout_s))
            _load(probe, recipe, root)
            yield worker


def _load(probe: Probe, recipe: Recipe, root: Path) -> None:
    file, handler = recipe.serve.file, handler_of(recipe, root)
    try:
        probe.ask("ready", "starting Python and TorchServe's modules", seconds=MOST_S)
        reply = probe.ask(
            "load", "loading it", seconds=recipe.serve.startup_timeout_s,
            model={"modelName": recipe.name, "handler": handler},
        )  # fmt: skip
    except ProbeError as error:
        raise PackError(f"{file}: {error}") from None
    problems = [line.removeprefix(f"{handler}: ") for line in reply.texts("problems")]
    errors = [f"it fails: {error}" for error in reply.texts("error")]
    if told := [*problems, *errors]:
        raise PackError(f"{file}: {told[0]}{probe.hint(told[0])}")
