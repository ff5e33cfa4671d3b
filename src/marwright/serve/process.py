"""The processes of one server: started as one session, known again later, stopped together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marwright.archive.types import to_json
from marwright.files import write_bytes
from marwright.recipe.errors import ServeError
from marwright.serve.folders import PID_FILE, Home
from marwright.serve.java import find_java
from marwright.serve.loaded import Loaded
from marwright.serve.ports import Ports

if TYPE_CHECKING:
    import psutil

# Seconds. TorchServe takes 2.4 to stop with nothing to do, netty's quiet period.
GRACE = 20.0
# Seconds. Workers that are told end at once.
LEFT = 1.0
# Seconds between two looks at a process.
TICK = 0.05
LOG_CONFIG = Path(__file__).with_name("log4j2.xml")


@dataclass(frozen=True, kw_only=True, slots=True)
class Birth:
    """A process that cannot be taken for a later one with the same number.

    `created` is in seconds since the epoch.
    """

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Birth:
        """Take down a living process. Raises `psutil.NoSuchProcess`."""
        import psutil

        return cls(pid=pid, created=psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """Return the process while it lives; a stranger that has its number now is not it."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            # A clock that is set while a server runs moves every creation time by a little.
            return process if abs(process.create_time() - self.created) < 2 else None
        except psutil.Error:
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is written down of a running server, for `make stop` and `make predict`."""

    launcher: Birth
    jvm: Birth | None
    ports: Ports
    archives: tuple[Loaded, ...]
    temp: str

    def alive(self) -> bool:
        """Whether the launcher or the server itself still runs."""
        return any(birth and birth.process() for birth in (self.launcher, self.jvm))

    def write(self, path: Path) -> None:
        """Write the record whole or not at all."""
        write_bytes(path, to_json(self))


def read_record(home: Home) -> Record | None:
    """Read the record of the server in a home, or None when there is none that is alive."""
    try:
        raw: dict[str, Any] = json.loads(home.record.read_text(encoding="utf-8"))
        launcher = Birth(**raw["launcher"])
        jvm = Birth(**raw["jvm"]) if raw["jvm"] else None
        if not any(birth and birth.process() for birth in (launcher, jvm)):
            # Whatever else it says: one of another version may say it in another way.
            return None
        return Record(
            launcher=launcher,
            jvm=jvm,
            ports=Ports(**raw["ports"]),
            archives=tuple(Loaded.read(one) for one in raw["archives"]),
            temp=raw["temp"],
        )
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ServeError(
            f"{home.record}: not a record of a server ({error!r}); look with `ps`, remove it"
        ) from None


def note_stop(home: Home, record: Record) -> None:
    """Write down that this run is ended on purpose."""
    write_bytes(home.stopping, json.dumps(asdict(record.launcher)).encode())


def was_stopped(home: Home, record: Record | None) -> bool:
    """Whether `make stop` ended this run, and not another that left its mark here."""
    if record is None:
        return False
    try:
        return bool(json.loads(home.stopping.read_bytes()) == asdict(record.launcher))
    except (OSError, ValueError):
        return False


def launch(
    home: Home, *, temp: Path, store: Path, archives: Sequence[str]
) -> subprocess.Popen[bytes]:
    """Start TorchServe on `home.settings` in a session of its own, working in `home`.

    Its environment is ours without what would change its configuration or put our modules in
    front of an archive's. Raises `ServeError` when there is no Java.
    """
    java = find_java()
    environ = {
        key: value
        for key, value in os.environ.items()
        # A worker would put PYTHONPATH before the archive's own folder, and PYTHONWARNINGS=error
        # would stop it.
        if not key.startswith(("TS_", "PYTHON"))
    }
    environ |= {
        "JAVA_HOME": str(java.home),
        "TS_CONFIG_FILE": str(home.settings),
        "TMPDIR": str(temp),
        "TEMP": str(temp),
        "LOG_LOCATION": str(home.logs),
        "METRICS_LOCATION": str(home.logs),
        "LOG4J_CONFIGURATION_FILE": str(LOG_CONFIG),
    }
    command = [sys.executable, "-m", "ts.model_server", "--start", "--foreground"]
    # Snapshots would be written at each start and never read, for we always name a file.
    command += ["--ncs", "--model-store", str(store), "--models", *archives]
    with home.console.open("wb") as console:
        return subprocess.Popen(
            command,
            cwd=home.path,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on
            umask=0o077,
        )


def find_jvm(temp: Path, launcher: subprocess.Popen[bytes], patience: float = 30.0) -> Birth | None:
    """Wait for the launcher to start the JVM; None when the launcher ends before."""
    import psutil

    pid_file = temp / PID_FILE
    deadline = time.monotonic() + patience
    while launcher.poll() is None and time.monotonic() < deadline:
        try:
            return Birth.of(int(pid_file.read_text(encoding="ascii")))
        except (FileNotFoundError, ValueError):
            time.sleep(TICK)  # not there yet, or not yet written
        except psutil.NoSuchProcess:
            break
    return None


def end(record: Record, grace: float = GRACE) -> bool:
    """Stop every process of a server: ask the JVM, wait up to `grace` seconds, then kill.

    Returns whether the JVM went without being killed. Processes are found by the session that they
    were started in: all of it while the recorded launcher or JVM is still there, else only those
    that work in the server's own temporary folder.
    """
    session = record.launcher.pid
    if not record.alive():
        # A worker that is busy in native code does not notice that its server has died.
        for process in _members(session):
            if any(record.temp in word for word in _command(process)):
                _tell(process, signal.SIGKILL)
        return True
    jvm = record.jvm.process() if record.jvm else None
    # The JVM stops its workers and clears its folder; one that is only just starting has neither.
    for process in [jvm] if jvm else _members(session):
        _tell(process, signal.SIGTERM)
    try:
        gently = _until(lambda: not record.alive(), grace)
        # A worker that TorchServe was starting anew in this moment outlives it, and serves nobody.
        _until(lambda: not _members(session), LEFT)
    except KeyboardInterrupt:
        gently = False  # a second Ctrl-C: no more grace
    for process in _members(session):
        _tell(process, signal.SIGKILL)
    _until(lambda: not _members(session), grace)
    return gently


def _until(done: Callable[[], bool], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(TICK)
    return True


def _members(session: int) -> list[psutil.Process]:
    """The living processes of a session. Its number is not given anew while one is left."""
    import psutil

    members = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) != session:
                continue
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (OSError, psutil.Error):
            continue  # gone meanwhile, or not ours to ask about
    return members


def _command(process: psutil.Process) -> list[str]:
    import psutil

    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _tell(process: psutil.Process, number: signal.Signals) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
