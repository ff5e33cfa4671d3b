"""`make serve` and `make stop`: a local server over the model store, in the foreground.

The server itself is `marwright.serve.server.Server`, which the end-to-end tests use too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from marwright.pipeline.interrupt import on_signals
from marwright.recipe.errors import ServeError
from marwright.recipe.extras import require
from marwright.serve.examples import curl_line, write_example
from marwright.serve.folders import Home
from marwright.serve.process import end, note_stop
from marwright.serve.readiness import Progress
from marwright.serve.screen import say, waiting
from marwright.serve.server import Server, clear, started, wait_unlocked

# Where `make serve` keeps its server, below the repository's root.
HOME = Path("build", "serve")


def serve(*, root: Path, port: int | None, models: Sequence[str]) -> int:
    """Serve the model store in the foreground until Ctrl-C or SIGTERM, then stop the server.

    Returns the exit status: 0, or that of `ServeError` when some of the models were not served.
    Raises `ServeError` when nothing can be served or the server ends by itself, and `MissingError`
    where TorchServe is not installed.
    """
    require("ts", "httpx")
    server = Server(
        store=root / "model_store",
        home=root / HOME,
        port=port,
        models=models,
        config=root / "config.properties",
    )
    try:
        with on_signals(), server:
            _attend(server, root)
    except KeyboardInterrupt:
        say("stopped")
    except ServeError:
        if not server.was_stopped:
            raise
        say("stopped by `make stop`")
    failed = server.shelf.refused or any(one.cause is not None for one in server.progress)
    return ServeError.exit_code if failed else 0


def stop(root: Path, patience: float = 10.0) -> int:
    """Stop the server that `make serve` started below `root`, and no other; say what was done.

    Waits up to `patience` seconds for one that is just being started. Raises `ServeError` when
    that is not enough.
    """
    home = Home(path=(root / HOME).absolute())
    record = started(home, patience)
    if record is None:
        say("nothing to stop: no server of `make serve` runs here")
        if (root / "key_file.json").exists():
            say("(one that was started as `torchserve --start` is stopped by `torchserve --stop`)")
        return 0
    pid = (record.jvm or record.launcher).pid
    say(f"stopping TorchServe, pid {pid}, port {record.ports.inference}")
    note_stop(home, record)
    gently = end(record)
    clear(home, Path(record.temp))
    wait_unlocked(home)
    say("stopped" if gently else "it did not stop when asked, and was killed")
    return 0


def _attend(server: Server, root: Path) -> None:
    """Look after a started server until it ends, which is an error unless `stop` did it."""
    for line in server.shelf.refused:
        say(f"left out: {line}")
    for line in server.shelf.strangers:
        say(f"not served: {line}")
    logs = _shown(server.home.logs, root)
    say(f"starting TorchServe on {server.url}, logs in {logs}")
    try:
        with waiting() as on_change:
            progress = server.settle(on_change)
        ready = [one for one in progress if one.is_ready]
        if not ready:
            raise ServeError(f"no model could be served; the whole story is in {logs}")
        _explain(server, ready, root)
        server.wait(say)
    except KeyboardInterrupt:
        say("\nstopping TorchServe")
        raise
    raise ServeError(f"TorchServe ended by itself:\n{server.last_words()}")


def _explain(server: Server, ready: Sequence[Progress], root: Path) -> None:
    """Print how each model is called, and how long its token holds."""
    tokens = server.tokens
    token = tokens.inference if tokens else None
    models = {one.model.name: one.model for one in ready}
    for name, model in models.items():
        example = write_example(model, server.home.examples)
        say(f"\n{name}:\n  {curl_line(name, server.url, token, example, root)}")
    say(f"\nCounters: {server.metrics_url}/metrics")
    if tokens is not None:
        until = tokens.inference_expires.astimezone().strftime("%Y-%m-%d %H:%M")
        say(f"The token holds until {until}; see it again with")
        say(f"  cat {_shown(server.home.key_file, root)}")
        say("`make predict MODEL=… INPUT=…` reads it by itself, and renews it when it has run out.")
    say("Ctrl-C, or `make stop` elsewhere, stops the server.")


def _shown(path: Path, root: Path) -> str:
    root = root.absolute()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
