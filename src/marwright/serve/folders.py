"""The folders of one server, all under its home and readable by its owner alone.

`python -m marwright.serve.folders FOLDER` makes a temporary folder for a server, without
what a dead one left in it, and prints it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marwright.recipe.errors import ServeError

# Bytes. A Unix socket's path holds 107 on Linux and 103 on macOS; a worker's socket is called
# `.ts.sock.65535` at the most, and the temporary folder stands in front of it.
LONGEST = 103 - len("/.ts.sock.65535")
# Bytes of a file system's block, on most.
_BLOCK = 4096
# TorchServe's own.
PID_FILE = ".model_server.pid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """Where one server keeps everything that it writes. Two servers need two homes.

    What one run leaves never decides another. `lock` is a lock, not a file: it ends with its
    holder. `record` is written by `Server.start`, removed at its end, and believed only while a
    process that it names lives, known by its number and the time of its start. `stopping` is
    written by `make stop`, names the run that it ended, and means nothing to any other.
    `key_file` is TorchServe's, and is read only beside a record that is believed.
    """

    path: Path

    @property
    def logs(self) -> Path:
        """The logs of the present or last run; those of the run before are in `logs.before`."""
        return self.path / "logs"

    @property
    def examples(self) -> Path:
        """A request body for each model, taken from its archive."""
        return self.path / "examples"

    @property
    def key_file(self) -> Path:
        """The tokens, written by TorchServe into the folder that it runs in."""
        return self.path / "key_file.json"

    @property
    def settings(self) -> Path:
        """The configuration that the server runs on."""
        return self.path / "config.properties"

    @property
    def console(self) -> Path:
        """What the launcher and the JVM print, which is little unless they fail to start."""
        return self.logs / "console.log"

    @property
    def record(self) -> Path:
        """Which process is the server, on which ports."""
        return self.path / "server.json"

    @property
    def stopping(self) -> Path:
        """Which run `make stop` ended, so that its end is not taken for a crash."""
        return self.path / "stopping"

    @property
    def lock(self) -> Path:
        """Held for as long as somebody runs a server in this home."""
        return self.path / "lock"

    def prepare(self) -> Path:
        """Make the folders ready for a start, and return the temporary one.

        Clears what a killed server left there: extracted archives, sockets and old keys.
        """
        shutil.rmtree(self.path / "logs.before", ignore_errors=True)
        if self.logs.exists():
            self.logs.rename(self.path / "logs.before")
        for folder in (self.logs, self.examples):
            shutil.rmtree(folder, ignore_errors=True)
            private(folder)
        for left in (self.key_file, self.record, self.stopping):
            left.unlink(missing_ok=True)
        temp = short_folder(self.path / "tmp")
        shutil.rmtree(temp)
        return private(temp)


def private(folder: Path) -> Path:
    """Make a folder that only its owner may enter, and its parents as they come."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def short_folder(wanted: Path) -> Path:
    """Make `wanted`, or a stand-in below /tmp when its name is too long for a worker's socket.

    The stand-in is the same for the same `wanted`, so that `torchserve --stop` finds what
    `torchserve --start` left. Raises `ServeError` when somebody else holds it.
    """
    wanted = wanted.absolute()
    if len(os.fsencode(wanted)) <= LONGEST:
        return private(wanted)
    mark = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
    folder = private(Path(f"/tmp/marwright-{os.getuid()}-{mark}"))
    held = folder.lstat()
    # Anybody can make a folder in /tmp under this name before we do.
    if not stat.S_ISDIR(held.st_mode) or held.st_uid != os.getuid() or held.st_mode & 0o077:
        raise ServeError(f"{folder}: belongs to somebody else or is open to others; remove it")
    return folder


def require_room(temp: Path, archives: Sequence[Path]) -> None:
    """Raise `ServeError` when the disk of a server's temporary folder cannot hold its archives.

    TorchServe unpacks each there as it starts, and would only log which ones did not fit.
    """
    needed = sum(_unpacked(path) for path in archives)
    free = shutil.disk_usage(temp).free
    if needed > free:
        raise ServeError(
            f"{temp}: the archives unpack to {_mib(needed)} there, and its disk has "
            f"{_mib(free)} left: free some space, or serve fewer (`make serve MODEL=a,b`)"
        )


def _unpacked(path: Path) -> int:
    try:
        with zipfile.ZipFile(path) as archive:
            # A file takes whole blocks.
            return sum(-(-member.file_size // _BLOCK) * _BLOCK for member in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return 0  # what cannot be read is told by others


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def shell_server(temp: Path) -> int | None:
    """Return the number of the TorchServe that works in a temporary folder, while it lives.

    Its file alone does not say: the number may be another process's by now, and even another
    server's, which `torchserve --stop` would then end.
    """
    import psutil

    try:
        pid = int((temp / PID_FILE).read_text(encoding="ascii"))
        words = psutil.Process(pid).cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    return pid if f"-Djava.io.tmpdir={temp}" in words else None


def clear_dead(temp: Path) -> None:
    """Remove what a server that was killed left in its temporary folder, unless one lives there."""
    if shell_server(temp) is None:
        (temp / PID_FILE).unlink(missing_ok=True)
        shutil.rmtree(temp / "models", ignore_errors=True)
        for socket in temp.glob(".ts.sock.*"):
            socket.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        folder = short_folder(Path(sys.argv[1]))
        clear_dead(folder)
        sys.stdout.write(f"{folder}\n")
    except ServeError as error:
        sys.exit(str(error))
