"""`make predict`: sends one input to the running server and prints the answer as it came."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from marwright.archive.store import list_store
from marwright.cli.body import read_body
from marwright.recipe.errors import ServeError
from marwright.recipe.suggest import suggestion
from marwright.serve.folders import Home, shell_server, short_folder
from marwright.serve.foreground import HOME
from marwright.serve.loaded import Loaded, outdated
from marwright.serve.ports import LOOPBACK, Ports
from marwright.serve.process import Birth, read_record
from marwright.serve.settings import read_settings
from marwright.serve.tokens import Tokens, fresh_tokens

if TYPE_CHECKING:
    import httpx

# Seconds. What an archive may take (`responseTimeout`, 120 unless it says otherwise), and a little.
PATIENCE = 130.0
# Seconds. Linux tells when a process began by a time of its own start that is whole seconds.
_OFF = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """Where a running server listens, and the file with its tokens, if it wants any."""

    url: str
    management_url: str
    key_file: Path | None
    logs: Path
    archives: tuple[Loaded, ...] = ()
    store: Path | None = None
    # Of `torchserve --start`, which leaves no record of what it took: since when it runs.
    since: float | None = None

    def later(self, model: str) -> str:
        """Say of a model that is not loaded that the store has it."""
        stored = [] if self.store is None else list_store(self.store).models
        if not any(one.name == model for one in stored):
            return ""
        return "; the store has it: start the server again to serve it"

    def older(self, model: str) -> Iterator[str]:
        """Say where the store holds another archive of a model than the server has loaded."""
        yield from outdated(self.archives, model)
        if self.store is None or self.since is None:
            return
        for one in list_store(self.store).models:
            if one.name == model and one.path.stat().st_mtime > self.since + _OFF:
                yield (
                    f"{one.name} {one.version}: {one.path.name} was published after the server was "
                    "started, which has an older one: `torchserve --stop`, and start it again"
                )


def predict(*, root: Path, model: str, input: str, port: int | None) -> int:
    """Send `input` to a model of the server that runs in `root`, and print the answer.

    `input` is a file, `-` for standard input, or JSON itself (it begins with [ or {). The server
    is the one of `make serve`, or one that was started as `torchserve --start` after
    `source env.sh`. That the store holds another archive by now is noted on standard
    error. Returns 0. Raises `ServeError` when there is no server, the model is not
    loaded or not ready, or the answer is not a 2xx.
    """
    body = read_body(input)
    server = find_running(root, port)
    tokens = fresh_tokens(server.key_file, server.management_url) if server.key_file else None
    _require_ready(server, tokens, model)
    for line in server.older(model):
        print(f"note: {line}", file=sys.stderr)
    answer = _ask(
        "POST",
        f"{server.url}/predictions/{_quoted(model)}",
        content=body.content,
        headers={
            "Content-Type": body.content_type,
            **(tokens.header("inference") if tokens else {}),
        },
        timeout=PATIENCE,
    )
    if not answer.is_success:
        raise ServeError(f"{model} answered {answer.status_code}: {_message(answer)}")
    sys.stdout.flush()
    sys.stdout.buffer.write(answer.content.rstrip(b"\n") + b"\n")
    sys.stdout.buffer.flush()
    return 0


def find_running(root: Path, port: int | None) -> Running:
    """Find the server that runs for the project in `root`, on the given port if there is one.

    Raises `ServeError` when there is none.
    """
    home = Home(path=(root / HOME).absolute())
    record = read_record(home)
    if record is not None and port in (None, record.ports.inference):
        settings = read_settings(home.settings)
        running = _running(record.ports, settings, home.key_file, home.logs)
        return replace(running, archives=record.archives, store=root / "model_store")
    settings = read_settings(root / "config.properties")
    ports = Ports.configured(settings)
    key_file = root / "key_file.json"
    if key_file.exists() and port in (None, ports.inference):
        running = _running(ports, settings, key_file, home.path / "shell" / "logs")
        return replace(running, store=_store_of_shell(root, settings), since=_since(home))
    if record is not None:
        raise ServeError(
            f"no server of ours on port {port}: the one of `make serve` is on "
            f"{record.ports.inference}"
        )
    raise ServeError("no server runs here; start one with `make serve` in another terminal")


def _store_of_shell(root: Path, settings: dict[str, str]) -> Path:
    return root / settings.get("model_store", "model_store")


def _since(home: Home) -> float | None:
    """Return when the server of `torchserve --start` was started, in seconds since the epoch."""
    temp = home.path / "shell" / "tmp"
    if not temp.parent.exists():
        return None
    pid = shell_server(short_folder(temp))
    return None if pid is None else Birth.of(pid).created


def _running(ports: Ports, settings: dict[str, str], key_file: Path, logs: Path) -> Running:
    open_to_all = settings.get("disable_token_authorization", "").lower() == "true"
    return Running(
        url=f"http://{LOOPBACK}:{ports.inference}",
        management_url=f"http://{LOOPBACK}:{ports.management}",
        key_file=None if open_to_all else key_file,
        logs=logs,
    )


def _require_ready(server: Running, tokens: Tokens | None, model: str) -> None:
    """Refuse what TorchServe would let hang: a request to a model without a working worker."""
    header = tokens.header("management") if tokens else {}
    answer = _ask("GET", f"{server.management_url}/models/{_quoted(model)}", headers=header)
    if answer.status_code == 404:
        listed = _ask("GET", f"{server.management_url}/models?limit=1000", headers=header).json()
        loaded = [one["modelName"] for one in listed["models"]]
        raise ServeError(f"{model} is not loaded{suggestion(model, loaded)}{server.later(model)}")
    if answer.status_code != 200:  # the key file of another run, or not our server
        raise ServeError(
            f"{server.management_url} refuses the token of {server.key_file}: {_message(answer)}"
        )
    states = [worker["status"] for worker in answer.json()[0]["workers"]]
    if "READY" not in states:
        raise ServeError(
            f"{model} has no READY worker: it is still loading, or cannot load; "
            f"see {server.logs / 'model_log.log'}"
        )


def _quoted(model: str) -> str:
    """Return a name, and a version behind a slash, as a part of an address."""
    return quote(model, errors="surrogateescape")


def _ask(method: str, url: str, **request: Any) -> httpx.Response:
    import httpx

    try:
        # No proxy of the environment stands between us and the loopback interface.
        return httpx.request(method, url, trust_env=False, **request)
    except httpx.TimeoutException:
        raise ServeError(f"{url}: no answer in time; look at the server's logs") from None
    except httpx.TransportError as error:
        raise ServeError(
            f"{url}: no server answers ({error}); it is starting or gone: `make serve`"
        ) from None


def _message(answer: httpx.Response) -> str:
    """The words of an error, of TorchServe (`message`) or of our handlers (`error`)."""
    try:
        told = answer.json()
    except ValueError:
        return answer.text.strip() or answer.reason_phrase
    if isinstance(told, dict):
        return str(told.get("message") or told.get("error") or answer.text.strip())
    return answer.text.strip()
