"""A real TorchServe of our own: started, waited for, called and stopped, and no other touched."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from marwright.recipe.errors import ServeError
from marwright.serve.folders import Home, private, require_room
from marwright.serve.loaded import Loaded, StoreWatch
from marwright.serve.ports import LOOPBACK, Ports, require_free
from marwright.serve.process import (
    Birth,
    Record,
    end,
    find_jvm,
    launch,
    read_record,
    was_stopped,
)
from marwright.serve.readiness import Progress, Watch, last_lines, verdict
from marwright.serve.settings import read_settings, write_settings
from marwright.serve.stored import Shelf, look_through
from marwright.serve.tokens import Tokens, read_tokens
from marwright.serve.workers import WorkerWatch

if TYPE_CHECKING:
    import httpx

# Of the working folder.
CONFIG = Path("config.properties")
# Seconds until a model that is not READY counts as failed. TorchServe gives a worker 120.
DEADLINE = 180.0
# Seconds between two looks at what a running server serves from.
LOOK = 1.0
_BUSY = "another server is being started or stopped here now"


class Server:
    """One TorchServe over the archives of `store`, with everything that it writes under `home`.

    A context manager: it is started on entry, and its JVM and workers are gone on exit. `port` is
    the first of five; without it the ports of `config` hold. `models` narrows the store down.

        with Server(store=store, home=tmp_path, port=free_ports()) as server:
            server.wait_ready()
            answer = server.predict("digits", content=png, headers={"Content-Type": "image/png"})
    """

    def __init__(
        self,
        *,
        store: Path,
        home: Path,
        port: int | None = None,
        models: Sequence[str] = (),
        config: Path = CONFIG,
    ) -> None:
        self.store = store.absolute()
        self.home = Home(path=home.absolute())
        self._settings = read_settings(config)
        self.ports = Ports.configured(self._settings) if port is None else Ports.following(port)
        self._names = tuple(models)
        self._open = contextlib.ExitStack()
        self._launcher: subprocess.Popen[bytes] | None = None
        self._record: Record | None = None
        self.shelf = Shelf(models=(), refused=())
        self.progress: list[Progress] = []

    @property
    def url(self) -> str:
        """Where predictions are asked for, e.g. http://127.0.0.1:8080."""
        return f"http://{LOOPBACK}:{self.ports.inference}"

    @property
    def management_url(self) -> str:
        """Where models are described."""
        return f"http://{LOOPBACK}:{self.ports.management}"

    @property
    def metrics_url(self) -> str:
        """Where counters are read."""
        return f"http://{LOOPBACK}:{self.ports.metrics}"

    @property
    def running(self) -> bool:
        """Whether the server's process lives; it may still be loading models."""
        return self._launcher is not None and self._launcher.poll() is None

    @property
    def pid(self) -> int | None:
        """The JVM's process id, once it has been started."""
        return self._record.jvm.pid if self._record and self._record.jvm else None

    @property
    def tokens(self) -> Tokens | None:
        """The server's tokens, or None when the configuration turns them off."""
        if self._settings.get("disable_token_authorization", "").lower() == "true":
            return None
        return read_tokens(self.home.key_file)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server's processes and return at once, before any model is loaded.

        Raises `ServeError` when there is nothing to serve, a port is in use, another server runs
        in this home, or there is no Java.
        """
        self.shelf = look_through(self.store, self._names)
        with contextlib.ExitStack() as undo:
            undo.enter_context(_alone(self.home))
            require_free(self.ports)
            temp = self.home.prepare()
            undo.callback(clear, self.home, temp)
            settings = {**self._settings, **self.ports.settings(), "model_store": str(self.store)}
            write_settings(self.home.settings, settings)
            require_room(temp, [model.path for model in self.shelf.models])
            # Before the server reads them: what is published meanwhile is told as newer.
            loaded = tuple(Loaded.of(one) for one in self.shelf.models if one.path.is_file())
            archives = [model.path.name for model in self.shelf.models]
            launcher = launch(self.home, temp=temp, store=self.store, archives=archives)
            self._launcher = launcher
            undo.callback(launcher.wait)
            undo.callback(self._end)
            self._record = Record(
                launcher=Birth.of(launcher.pid),
                jvm=None,
                ports=self.ports,
                archives=loaded,
                temp=str(temp),
            )
            self._record.write(self.home.record)
            self._record = replace(self._record, jvm=find_jvm(temp, launcher))
            self._record.write(self.home.record)
            self._open = undo.pop_all()

    def settle(
        self,
        on_change: Callable[[Sequence[Progress]], None] = lambda _: None,
        deadline: float = DEADLINE,
    ) -> list[Progress]:
        """Wait until every model is READY with all its workers, or cannot become so.

        `deadline` is in seconds. Raises `ServeError` with the end of its log when the server
        itself ends meanwhile.
        """
        watch = Watch(
            url=self.management_url,
            logs=self.home.logs,
            models=self.shelf.models,
            running=lambda: self.running,
        )
        self.progress = watch.settle(self._known_tokens, deadline, on_change)
        if not self.running:
            raise ServeError(f"TorchServe ended while it started:\n{self.last_words()}")
        return self.progress

    def wait_ready(self, deadline: float = DEADLINE) -> None:
        """Wait until every model is READY. Raises `ServeError` naming the others, and why."""
        failed = [verdict(one) for one in self.settle(deadline=deadline) if not one.is_ready]
        if failed or self.shelf.refused:
            raise ServeError("\n".join([*failed, *self.shelf.refused]))

    def predict(self, model: str, **request: Any) -> httpx.Response:
        """POST a request to a model; takes what `httpx.post` does (`content`, `json`, `files`)."""
        import httpx

        tokens = self.tokens
        headers = tokens.header("inference") if tokens else {}
        headers |= request.pop("headers", None) or {}
        request.setdefault("timeout", 120.0)
        url = f"{self.url}/predictions/{model}"
        return httpx.post(url, headers=headers, trust_env=False, **request)

    def wait(self, tell: Callable[[str], None] = lambda _: None) -> None:
        """Wait until the server's processes end, and meanwhile `tell` what a person should know.

        That is an archive that was published while its server runs an older one, and a worker
        that died.
        """
        store = StoreWatch(self._record.archives if self._record else ())
        workers = WorkerWatch(self.home.logs / "ts_log.log")
        while self.running:
            for line in (*store.look(), *workers.look()):
                tell(line)
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert self._launcher is not None
                self._launcher.wait(LOOK)

    def stop(self) -> None:
        """Stop the JVM and its workers, and remove the tokens. Do nothing a second time."""
        self._open.close()

    @property
    def was_stopped(self) -> bool:
        """Whether `make stop` ended this run, rather than a fault."""
        return was_stopped(self.home, self._record)

    def last_words(self) -> str:
        """Return what the logs say of the end of a server, and where they are."""
        lines = []
        for path in (self.home.console, self.home.logs / "ts_log.log"):
            if path.exists():
                lines += path.read_text(encoding="utf-8", errors="replace").splitlines()
        told = [line for line in lines if re.search(r"Exception|[Ee]rror\b", line)]
        # That there is no GPU, or no tool for one, is said in the words of an error.
        told = [line for line in told if not re.search(r"\w+-smi ", line)]
        words = last_lines(told) or "without an error: killed from outside, or out of memory"
        return f"{words}\nThe whole of it is in {self.home.logs}"

    def _end(self) -> None:
        if self._record is not None:
            end(self._record)

    def _known_tokens(self) -> Tokens | None:
        # The server writes the file in its first second; until then its answers are refusals.
        try:
            return self.tokens
        except ServeError:
            return None


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Hold the home's lock. Raises `ServeError` when a server runs in it already."""
    private(home.path)
    with home.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = False
        except BlockingIOError:
            held = True
        record = read_record(home)
        if record is not None:
            raise ServeError(
                f"{home.path}: a server runs already: pid {(record.jvm or record.launcher).pid}, "
                f"port {record.ports.inference}; `make stop` stops it"
            )
        if held:
            raise ServeError(f"{home.path}: {_BUSY}")
        yield


def started(home: Home, patience: float = 10.0) -> Record | None:
    """Return the record of a home's server, also of one that is just being started.

    Raises `ServeError` when whoever holds the lock has written none after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while (record := read_record(home)) is None and _is_locked(home):
        if time.monotonic() > deadline:
            raise ServeError(f"{home.path}: {_BUSY}; try again")
        time.sleep(0.05)
    return record


def wait_unlocked(home: Home, patience: float = 10.0) -> None:
    """Wait, at most `patience` seconds, until whoever ran a server in this home has let go."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and _is_locked(home):
        time.sleep(0.05)


def _is_locked(home: Home) -> bool:
    try:
        with home.lock.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def clear(home: Home, temp: Path) -> None:
    """Remove what only a running server needs: tokens, the record, extracted archives."""
    home.key_file.unlink(missing_ok=True)
    home.record.unlink(missing_ok=True)
    shutil.rmtree(temp, ignore_errors=True)
