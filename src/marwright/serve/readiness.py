"""Waits until every model is READY with all its workers, or can be seen not to get there.

`/ping` says Healthy while no worker is up, so each model is asked for by name.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marwright.serve.stored import StoredModel
from marwright.serve.tokens import Tokens

if TYPE_CHECKING:
    import httpx

# Seconds between two looks at a model.
TICK = 0.2
# Failed recoveries after which a death without a traceback is believed to have none. TorchServe
# stops reading a worker's output when it dies, so on a busy machine a traceback can be lost, and
# was, twice in a row; each attempt prints it anew.
SILENT = 3
# Lines of a cause that are worth showing; the rest is in the log.
SHOWN = 12
TRACEBACK = "Traceback (most recent call last)"
# What a worker prints when its handler raises while it loads.
LOADING = r"^Failed to load model .*?\n(Traceback.*?)\nBackend worker process died\."


@dataclass(kw_only=True, slots=True)
class Progress:
    """Where one model stands. `seconds` counts from the start of the wait; `cause` ends it."""

    model: StoredModel
    wanted: int = 0
    ready: int = 0
    seconds: float = 0.0
    cause: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether all its workers are READY."""
        return self.cause is None and 0 < self.wanted == self.ready

    @property
    def is_settled(self) -> bool:
        """Whether waiting any longer changes nothing."""
        return self.is_ready or self.cause is not None


@dataclass(kw_only=True, slots=True)
class Watch:
    """Follows the models of one starting server, through its management API and its logs.

    `running` says whether the server's process still lives.
    """

    url: str
    logs: Path
    models: Sequence[StoredModel]
    running: Callable[[], bool]
    progress: list[Progress] = field(init=False)

    def __post_init__(self) -> None:
        self.progress = [Progress(model=model) for model in self.models]

    def settle(
        self,
        tokens: Callable[[], Tokens | None],
        deadline: float,
        on_change: Callable[[Sequence[Progress]], None],
    ) -> list[Progress]:
        """Wait until each model is ready or has failed, or the server itself has ended.

        After `deadline` seconds a model that is not ready counts as failed. `tokens` reads the
        tokens; `on_change` is called after every look. A model that cannot load is given no more
        workers: TorchServe would start them again and again, and requests to it would hang instead
        of being refused.
        """
        import httpx

        began = time.monotonic()
        with httpx.Client(base_url=self.url, trust_env=False, timeout=5.0) as client:
            while self.running() and not all(one.is_settled for one in self.progress):
                for one in [one for one in self.progress if not one.is_settled]:
                    one.seconds = time.monotonic() - began
                    self._look(client, tokens, one)
                    if one.seconds > deadline and not one.is_settled:
                        one.cause = self._late(one, deadline)
                    if one.cause is not None:
                        _retire(client, tokens, one.model)
                on_change(self.progress)
                if not all(one.is_settled for one in self.progress):
                    time.sleep(TICK)
        return self.progress

    def _look(
        self, client: httpx.Client, tokens: Callable[[], Tokens | None], one: Progress
    ) -> None:
        import httpx

        try:
            answer = client.get(
                f"/models/{one.model.name}/{one.model.version}", headers=_header(tokens)
            )
        except httpx.TransportError:
            return  # not listening yet
        if answer.status_code == 404:
            one.cause = self._refusal(one.model)
        elif answer.status_code == 200:
            described: dict[str, Any] = answer.json()[0]
            one.wanted = int(described["minWorkers"])
            workers = described["workers"]
            states = [worker["status"] for worker in workers]
            one.ready = states.count("READY")
            if not one.is_ready:
                one.cause = self._crash(one.model)

    def _crash(self, model: StoredModel) -> str | None:
        """Why a worker cannot load, once its second attempt has failed like its first."""
        thread = rf"\] W-\d+-{re.escape(model.name)}_{re.escape(model.version)}"
        failed = Counter(
            re.findall(rf"({thread}) .*Auto recovery failed again", _text(self.logs / "ts_log.log"))
        )
        if not failed:
            return None
        log = _text(self.logs / "model_log.log")
        if cause := traceback_of(model, log):
            return cause
        if max(failed.values()) < SILENT:
            return None
        said = re.findall(rf"{thread}-std.*MODEL_LOG - (.*)", log)[-3:]
        # What the kernel kills, and what crashes in native code, leaves no traceback.
        return "\n".join(
            ["its worker dies while it loads (out of memory?); its last lines:", *said]
        )

    def _refusal(self, model: StoredModel) -> str:
        """Why TorchServe did not even register an archive."""
        text = _text(self.logs / "ts_log.log")
        found = re.search(rf"Failed to load model: .*{re.escape(model.path.name)}\n(.+)", text)
        return f"TorchServe did not register it: {found[1] if found else 'see ts_log.log'}"

    def _late(self, one: Progress, deadline: float) -> str:
        said = traceback_of(one.model, _text(self.logs / "model_log.log"))
        return f"{one.ready} of {one.wanted or '?'} workers READY after {deadline:g} s" + (
            f"\n{said}" if said else ""
        )


def verdict(one: Progress) -> str:
    """Say how the wait for one model ended."""
    title = f"{one.model.name} {one.model.version}"
    if one.cause is None:
        plural = "" if one.ready == 1 else "s"
        return f"{title}: READY with {one.ready} worker{plural} after {one.seconds:.1f} s"
    cause = one.cause.replace("\n", "\n    ")
    return f"{title}: not served, after {one.seconds:.1f} s:\n    {cause}"


def traceback_of(model: StoredModel, log: str) -> str | None:
    """Return why a model does not load, from a `model_log.log`: the end of its traceback."""
    thread = rf"W-\d+-{re.escape(model.name)}_{re.escape(model.version)}-std(?:out|err) "
    # Every line has a date, a level, a thread and a logger in front; two workers interleave.
    by_thread: dict[str, list[str]] = {}
    for found in re.finditer(rf"\] ({thread})MODEL_LOG - (.*)", log):
        by_thread.setdefault(found[1], []).append(found[2])
    texts = ["\n".join(lines) for lines in by_thread.values()]
    for text in texts:
        if causes := re.findall(LOADING, text, re.MULTILINE | re.DOTALL):
            return _told(causes[-1])
    # A worker that does not even get to loading, or waits in vain for something.
    for text in texts:
        if (at := text.find(TRACEBACK)) >= 0:
            return _told(text[at:])
    return None


def _told(text: str) -> str:
    """A traceback from the archive's own code on, where it gets there."""
    # On any ImportError in a handler TorchServe looks for a handler of its own by the same name,
    # and what it does not find hides the reason: the first of two chained errors is the cause.
    first = re.split(r"\n+During handling of the above exception", text)[0]
    lines = re.sub(r'"[^"\n]*/models/[0-9a-f]{32}/', '"<archive>/', first).splitlines()
    own = next((at for at, line in enumerate(lines) if "<archive>/" in line), 0)
    return last_lines(lines[own:])


def last_lines(lines: Sequence[str]) -> str:
    """Return the end of a text, without empty lines and without the marks under its code."""
    return "\n".join([line for line in lines if line.strip(" ^~")][-SHOWN:])


def _retire(client: httpx.Client, tokens: Callable[[], Tokens | None], model: StoredModel) -> None:
    import httpx

    try:
        client.put(
            f"/models/{model.name}/{model.version}",
            params={"min_worker": 0, "max_worker": 0},
            headers=_header(tokens),
        )
    except httpx.TransportError:
        return  # the failure itself is what is reported


def _header(tokens: Callable[[], Tokens | None]) -> dict[str, str]:
    found = tokens()
    return found.header("management") if found else {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
