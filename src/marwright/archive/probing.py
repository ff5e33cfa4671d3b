"""The probe's other end: start it, ask it, and believe nothing that it says beyond its answers.

What comes from there is read with bounds and never unpickled. Whoever asks knows what is right,
how many samples there are, and when time is up.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marwright.archive.names import one_line
from marwright.archive.probe import LENGTH

PROBE = Path(__file__).with_name("probe.py")
SANDBOX = Path(__file__).with_name("sandbox.py")
# Seconds that all of it may take, and what the server gives a worker to come up.
MOST_S = 120.0
# Bytes: of a reply's JSON, of what comes with it, and of the end of what the handler prints.
_MOST_HEADER, _MOST_BLOBS, _TAIL = 1 << 20, 256 << 20, 64 << 10
# Bytes that one file of the handler's may have, at least.
_FILE_BYTES = 1 << 30
# Seconds to sweep up.
_GRACE_S = 10.0
_HINT = " (it was run without a network and could write to its own folder only)"
_DENIED = ("PermissionError", "Read-only file system", "Network is unreachable", "gaierror",
           "name resolution", "Name or service not known", "File too large")  # fmt: skip
# What Python, numpy, torch, onnxruntime and the system say of it.
_NO_MEMORY = re.compile(
    r"MemoryError:?\s*$|MemoryError: Unable to allocate|[Cc]an(no|')t allocate memory|"
    r"Failed to allocate memory|bad_alloc|bad allocation"
)
# Bytes: of memory that is not given away, at least, and that a handler has whatever is left.
_RESERVE, _LEAST_DATA = 512 << 20, 2 << 30
_GROUPS = "/sys/fs/cgroup"


class ProbeError(Exception):
    """The probe cannot go on, and why: its message is a finding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What the probe said: JSON of any shape, and bytes."""

    header: Mapping[str, Any]
    blobs: Sequence[bytes]

    def texts(self, key: str) -> list[str]:
        """Return lines, made fit for a terminal later."""
        value = self.header.get(key, [])
        lines = value if isinstance(value, list) else [value]
        return [str(line)[:2000].rstrip() for line in lines[:100]]


@dataclass(kw_only=True)
class Probe:
    """A running probe. Every method raises `ProbeError` when it can be asked no more."""

    folder: Path
    asked: int
    replies: int
    printed: int
    status: int
    until: float
    # Seconds that all of it may take.
    most: float = MOST_S
    # Bytes of memory that a process of it may take; 0 where nothing bounds that.
    data: int = 0
    # What was kept from the archive's code, and what could not be.
    had: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    _ended: int | None = None
    _failed: str = ""
    _tail: bytes = b""
    _in: bytearray = field(default_factory=bytearray)
    _said: bytes = b""

    def ask(
        self, do: str, doing: str, blobs: Sequence[bytes] = (), *, seconds: float, **arguments: Any
    ) -> Reply:
        """Ask for one thing, and wait for it for so many seconds; `doing` says what it is."""
        token = secrets.token_hex(8)
        left = min(seconds, self.until - time.monotonic())
        header = {**arguments, "do": do, "token": token, "seconds": max(left, 0),
                  "sizes": [len(blob) for blob in blobs]}  # fmt: skip
        data = json.dumps(header).encode()
        message = b"".join([LENGTH.pack(len(data)), data, *blobs])
        over = f"took more than {seconds:.3g} s"
        if left < min(seconds, self.most - 1):
            over = (
                f"was not done when the {self.most:.0f} s were over that running it may take in all"
            )
        reply = self._exchange(message, doing, time.monotonic() + left, over)
        if reply.header.get("token") != token:
            raise ProbeError(f"{doing}: something else than the probe wrote its answer")
        if ends := reply.texts("ends"):
            raise ProbeError(f"{doing}: the handler calls {ends[0]}, which ends its worker")
        return reply

    def _exchange(self, message: bytes, doing: str, until: float, over: str) -> Reply:
        out = memoryview(message)
        with selectors.DefaultSelector() as select:
            for number in (self.replies, self.printed, self.status):
                select.register(number, selectors.EVENT_READ)
            select.register(self.asked, selectors.EVENT_WRITE)
            while True:
                if (reply := self._parsed(doing)) is not None:
                    return reply
                if (left := until - time.monotonic()) <= 0:
                    self._read_printed()
                    raise ProbeError(f"{doing} {over}{self._where()}")
                for key, _ in select.select(min(left, 0.5)):
                    if key.fd == self.asked:
                        out = self._write(out)
                        if not out:
                            select.unregister(self.asked)
                    elif key.fd == self.printed:
                        if not self._read_printed():
                            select.unregister(self.printed)
                    elif key.fd == self.replies:
                        if not self._read_reply():
                            select.unregister(self.replies)
                    elif not self._read_status():
                        select.unregister(self.status)
                if self._failed or (self._ended is not None and not self._read_reply()):
                    if (reply := self._parsed(doing)) is not None:
                        return reply
                    raise ProbeError(self._end(doing))

    def hint(self, error: str) -> str:
        """Return what to think of where an error may come from the sandbox alone."""
        if _NO_MEMORY.search(error):
            gave = f": `verify` gave it {self.data / (1 << 30):.1f} GiB" if self.data else ""
            return f" (it ran out of memory{gave})"
        return _HINT if any(word in error for word in _DENIED) else ""

    def _write(self, out: memoryview) -> memoryview:
        try:
            return out[os.write(self.asked, out[: 1 << 16]) :]
        except BlockingIOError:
            return out
        except OSError:
            # It has ended, or closed it; the status, or the time, will tell.
            return out[:0]

    def _read_printed(self) -> bool:
        try:
            data = os.read(self.printed, 1 << 20)
        except BlockingIOError:
            return True
        self._tail = (self._tail + data)[-_TAIL:]
        return bool(data)

    def _read_reply(self) -> bool:
        try:
            data = os.read(self.replies, 1 << 20)
        except BlockingIOError:
            return True
        self._in += data
        return bool(data)

    def _read_status(self) -> bool:
        data = os.read(self.status, 1 << 16)
        self._said += data
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            said = json.loads(line)
            self.had, self.lacks = said.get("had", self.had), said.get("lacks", self.lacks)
            self._failed = said.get("failed", self._failed)
            self._ended = said.get("ended", self._ended)
        if not data and self._ended is None:
            self._failed = self._failed or "the process that watches over it was ended"
        return bool(data)

    def _parsed(self, doing: str) -> Reply | None:
        """Return the reply when all of it is here."""
        if len(self._in) < LENGTH.size:
            return None
        [size] = LENGTH.unpack(self._in[: LENGTH.size])
        if size > _MOST_HEADER:
            raise ProbeError(f"{doing}: the answer is larger than {_MOST_HEADER >> 20} MiB, or "
                             "something else than the probe wrote it")  # fmt: skip
        start = LENGTH.size + size
        if len(self._in) < start:
            return None
        try:
            header = json.loads(self._in[LENGTH.size : start])
            sizes = header.pop("sizes")
            whole = start + sum(sizes)
            assert all(type(size) is int and size >= 0 for size in sizes)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError, AssertionError):
            raise ProbeError(f"{doing}: something else than the probe wrote its answer") from None
        if whole - start > _MOST_BLOBS:
            raise ProbeError(f"{doing}: the answer is larger than {_MOST_BLOBS >> 20} MiB")
        if len(self._in) < whole:
            return None
        blobs = []
        for size in sizes:
            blobs.append(bytes(self._in[start : start + size]))
            start += size
        del self._in[:whole]
        return Reply(header=header, blobs=blobs)

    def _end(self, doing: str) -> str:
        self._read_printed()
        if self._failed:
            return f"{doing}: it could not be run: {self._failed}"
        # Whatever was printed last, if it was not an exception that ended it.
        lines = self._tail.decode(errors="replace").strip().splitlines()
        last = one_line(lines[-1])[:500] if lines else "no output"
        return f"{doing}: the process {_ending(self._ended or 0)}: {last}{self.hint(last)}"

    def _where(self) -> str:
        """Name the archive's line that was run when the time was up, as the probe printed it."""
        dump = self._tail.rpartition(b"Timeout (")[2].decode(errors="replace")
        for line in dump.splitlines():
            place = line.strip().removeprefix(f'File "{self.folder}/')
            if place != line.strip():
                file, _, rest = place.partition('", line ')
                return f": it was at {one_line(file)}:{one_line(rest.split(' ')[0])}"
        return ""


def _ending(status: int) -> str:
    """Say how a process ended that nobody asked to."""
    if status >= 0:
        return f"ended with {status}, as by os._exit" if status == 0 else f"ended with {status}"
    with suppress(ValueError):
        name = signal.Signals(-status).name
        out_of_memory = ", as by a system that has no memory left" if name == "SIGKILL" else ""
        return f"was ended by {name}{out_of_memory}"
    return f"was ended by signal {-status}"


def most_data() -> int:
    """Return how many bytes of memory an archive's code may take: what is left, but a reserve.

    Where less is left than an ordinary model takes, the system has to end that code before anything
    else. 0 where nothing bounds it.
    """
    free = sum(
        int(line.split()[1]) << 10 for line in _lines("/proc/meminfo")
        if line.startswith(("MemAvailable:", "SwapFree:"))
    )  # fmt: skip
    if not free:
        return 0
    left = [
        free,
        # Of a container.
        *(int(line) for name in ("memory.max", "memory/memory.limit_in_bytes")
          for line in _lines(f"{_GROUPS}/{name}") if line.isdecimal()),
    ]  # fmt: skip
    least = min(left)
    return max(_LEAST_DATA, least - max(_RESERVE, least // 8))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


@contextmanager
def running(folder: Path, temporary: Path, size: int, *, most: float = MOST_S) -> Iterator[Probe]:
    """Start the probe in an unpacked archive of so many bytes, for `most` seconds at most; ends it
    and all that it started.
    """
    asked, replies, printed, status = (os.pipe() for _ in range(4))
    ends = [asked[1], replies[0], printed[0], status[0]]
    theirs = [asked[0], replies[1], printed[1], status[1]]
    # Weights that are mapped count, and take none.
    data = bound + size if (bound := most_data()) else 0
    # As TorchServe starts its worker, but for `-P`: this file's own folder is not the worker's.
    command = [
        sys.executable, "-IS", str(SANDBOX), str(status[1]), f"{asked[0]},{replies[1]}",
        str(max(_FILE_BYTES, 4 * size)), str(data), f"{folder}:{temporary}", "--",
        sys.executable, "-P", str(PROBE), str(asked[0]), str(replies[1]), str(folder),
    ]  # fmt: skip
    process = None
    try:
        for number in (asked[1], replies[0], printed[0]):
            os.set_blocking(number, False)
        process = subprocess.Popen(
            command, env=environment(folder, temporary), cwd=folder, stdin=subprocess.PIPE,
            stdout=printed[1], stderr=printed[1], start_new_session=True,
            pass_fds=(asked[0], replies[1], status[1]),
        )  # fmt: skip
        for number in theirs:
            os.close(number)
        theirs = []
        yield Probe(
            folder=folder, asked=ends[0], replies=ends[1], printed=ends[2], status=ends[3],
            until=time.monotonic() + most, most=most, data=data,
        )  # fmt: skip
    finally:
        if process is not None:
            _stop(process)
        for number in (*ends, *theirs):
            os.close(number)


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def environment(folder: Path, temporary: Path) -> dict[str, str]:
    """Return a worker's environment, with nothing of ours that could change what is imported."""
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
    own = {name: os.environ[name] for name in kept if name in os.environ}
    return own | {
        # The empty entry behind it is TorchServe's too.
        "PYTHONPATH": f"{folder}:",
        "TMPDIR": str(temporary),
        "TEMP": str(temporary),
        "LOG_LOCATION": str(temporary),
        "METRICS_LOCATION": str(temporary),
        "TS_DECODE_INPUT_REQUEST": "true",
        "TS_IPEX_ENABLE": "false",
        "TS_IPEX_GPU_ENABLE": "false",
    }
