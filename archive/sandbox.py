"""Start a program that can write to its own folders alone, and that leaves nothing running.

    python -IS sandbox.py STATUS_FD KEPT_FDS FILE_BYTES DATA_BYTES FOLDER:FOLDER -- COMMAND…

Runs COMMAND without a network and without capabilities as far as this system allows it, and ends
it with all that it started: when it ends, or when standard input does. Lines of JSON go to
STATUS_FD, which COMMAND does not get: what was kept from it, then how it ended. It gets KEPT_FDS,
numbers with commas between, and no process of it more than DATA_BYTES of memory, unless 0.
Nothing here imports the project, or anything but Python's own library.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_LINUX = sys.platform == "linux"
_LIBC = ctypes.CDLL(None, use_errno=True)
# <sched.h>, <sys/mount.h>, <sys/prctl.h>; the numbers of system calls that are the same everywhere.
_NEWNS, _NEWIPC, _NEWUSER = 0x20000, 0x8000000, 0x10000000
_NEWPID, _NEWNET = 0x20000000, 0x40000000
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_PDEATHSIG, _SECCOMP, _SUBREAPER, _NO_NEW_PRIVS = 1, 22, 36, 38
_MOUNT_SETATTR, _CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 442, 444, 445, 446
_AT_RECURSIVE, _RDONLY = 0x8000, 1
# <linux/landlock.h>: everything that changes a file or a folder, by the version that brought it.
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_WRITES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
_NEWER = {2: 1 << 13, 3: _TRUNCATE}
# Signals and abstract sockets of processes outside.
_SCOPED = 0b11
# CAP_DAC_READ_SEARCH: what root may read by it, it must go on reading.
_KEPT_CAPABILITY = 1 << 2
# Whatever a program may need to open for writing, and cannot change.
_DEVICES = ("null", "zero", "full", "random", "urandom", "nvidia*", "kfd", "dri/*", "accel*")
# For each machine: audit's name of it, and socket(); io_uring, which makes sockets too, is 425.
_SECCOMP_ARCH = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_SWEEP_S = 5.0


def _call(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _prctl(option: int, value: int) -> None:
    # Elsewhere there is nothing to give up, and the lines that are said tell so.
    if _LINUX:
        _call(_LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def _works(attempt: Callable[[], None]) -> bool:
    """Whether something works, tried in a process of its own, because half of it may stay."""
    if (child := os.fork()) == 0:
        try:
            attempt()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _unshare(flags: int) -> None:
    user, group = os.getuid(), os.getgid()
    _call(_LIBC.unshare(flags))
    if flags & _NEWUSER:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _namespaces() -> int:
    """Leave as many of this system's namespaces as it lets us; returns which."""
    if not _LINUX:
        return 0
    most = _NEWNET | _NEWPID | _NEWNS | _NEWIPC
    for flags in (most, most | _NEWUSER, _NEWNET, _NEWNET | _NEWUSER):
        if _works(lambda flags=flags: _unshare(flags)):  # type: ignore[misc]
            _unshare(flags)
            return flags
    return 0


def _raise_loopback() -> None:
    # A handler may talk to itself.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 1)
        fcntl.ioctl(sock, 0x8914, request)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    texts = [text.encode() for text in (source, target, kind)]
    _call(_LIBC.mount(*texts, ctypes.c_ulong(flags), options.encode() or None))


def _set_read_only(path: str, *, recursive: bool, value: bool) -> None:
    attributes = struct.pack("4Q", _RDONLY * value, _RDONLY * (not value), 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    number = ctypes.c_long(_MOUNT_SETATTR)
    _call(_LIBC.syscall(number, -100, path.encode(), flags, attributes, len(attributes)))


def _mounts(folders: list[str]) -> None:
    """See all but the folders read-only, a /proc of our own, and no sockets under /run."""
    here = str(Path.cwd())
    _mount("none", "/", "", _REC | _PRIVATE)
    for folder in folders:
        _mount(folder, folder, "", _BIND)
    _set_read_only("/", recursive=True, value=True)
    for folder in folders:
        _set_read_only(folder, recursive=False, value=False)
    _mount("tmpfs", "/dev/shm", "tmpfs", _NOSUID | _NODEV, "mode=1777")
    inside = (*folders, sys.prefix, sys.base_prefix, os.path.realpath(sys.executable))
    if not any(path.startswith(("/run/", "/var/run/")) for path in inside):
        _mount("tmpfs", "/run", "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m")
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    # By its path, because where we stand is still the mount of before.
    os.chdir(here)


def _landlock(folders: list[str]) -> int:
    """Deny every change of a file but below the folders; returns the version of the rules.

    Raises `OSError` where this system has none.
    """
    version = _call(_LIBC.syscall(ctypes.c_long(_CREATE_RULESET), None, 0, 1))
    handled = _WRITES | sum(bit for since, bit in _NEWER.items() if version >= since)
    fields = [handled, 0, _SCOPED][: 1 if version < 4 else 2 if version < 6 else 3]
    attributes = struct.pack(f"{len(fields)}Q", *fields)
    number = ctypes.c_long(_CREATE_RULESET)
    ruleset = _call(_LIBC.syscall(number, attributes, len(attributes), 0))
    devices = [str(path) for name in _DEVICES for path in Path("/dev").glob(name)]
    rules = [(path, handled) for path in folders]
    rules += [(path, handled & (_WRITE_FILE | _TRUNCATE)) for path in devices]
    for path, rights in rules:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", rights, opened)
        _call(_LIBC.syscall(ctypes.c_long(_ADD_RULE), ruleset, 1, rule, 0))
        os.close(opened)
    _call(_LIBC.syscall(ctypes.c_long(_RESTRICT_SELF), ruleset, 0))
    os.close(ruleset)
    return version


def _no_sockets() -> None:
    """Let no socket be made but those of this machine's own files."""
    audit, call = _SECCOMP_ARCH.get(platform.machine(), (0, 0))
    if not audit:
        raise OSError(0, "unknown machine")
    refuse, allow = 0x50000 | 101, 0x7FFF0000  # ENETUNREACH
    load, equal, above, end = 0x20, 0x15, 0x35, 0x06
    # Loads the machine, the call's number, and what kind of socket; jumps over so many lines.
    lines = [
        (load, 0, 0, 4), (equal, 0, 7, audit),
        (load, 0, 0, 0), (above, 5, 0, 0x40000000), (equal, 4, 0, 425), (equal, 0, 2, call),
        (load, 0, 0, 16), (equal, 0, 1, socket.AF_UNIX),
        (end, 0, 0, allow), (end, 0, 0, refuse),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
    _call(_LIBC.prctl(_SECCOMP, ctypes.c_ulong(2), program, 0, 0))


def _drop_capabilities() -> None:
    kept = _KEPT_CAPABILITY if os.getuid() == 0 else 0
    header, data = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", kept, kept, 0, 0, 0, 0)
    _call(_LIBC.capset(header, data))


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _confine(given: _Given, seen: _Seen) -> None:
    """Give up all that the program does not need, and note what of it this system knows."""
    _prctl(_NO_NEW_PRIVS, 1)
    with suppress(OSError):
        # The first to go when memory runs out.
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not _LINUX:
        return
    _limit(resource.RLIMIT_FSIZE, given.file_bytes)
    # Of what is mapped for itself alone: the address space of torch is several times as large.
    if given.data_bytes:
        _limit(resource.RLIMIT_DATA, given.data_bytes)
    with suppress(OSError):
        own = ["/dev/shm"] if seen.mounts else []
        seen.landlock = _landlock([*given.folders, *own])
    if not seen.namespaces & _NEWNET:
        with suppress(OSError):
            _no_sockets()
            seen.seccomp = True
    with suppress(OSError):
        _drop_capabilities()


@dataclass
class _Given:
    status: int
    kept: list[int]
    file_bytes: int
    data_bytes: int
    folders: list[str]
    command: list[str]


@dataclass
class _Seen:
    """What this system had."""

    namespaces: int = 0
    mounts: bool = False
    landlock: int = 0
    seccomp: bool = False

    def lines(self) -> tuple[list[str], list[str]]:
        """Return what is kept from the program, and what is not."""
        by = [f"Landlock ABI {self.landlock}"] * bool(self.landlock) + ["mounts"] * self.mounts
        net = ["network namespace"] * bool(self.namespaces & _NEWNET) + ["seccomp"] * self.seccomp
        had, lacks = list[str](), list[str]()
        for text, means in (("no writes outside its own folder", by), ("no network", net)):
            (had if means else lacks).append(f"{text} ({', '.join(means)})" if means else text)
        return had, lacks


def _say(given: _Given, **what: object) -> None:
    os.write(given.status, json.dumps(what).encode() + b"\n")


def _become(given: _Given, seen: _Seen) -> NoReturn:
    """Become the program. Never returns."""
    try:
        _prctl(_PDEATHSIG, signal.SIGKILL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        _confine(given, seen)
        had, lacks = seen.lines()
        _say(given, had=had, lacks=lacks)
        for number in given.kept:
            os.set_inheritable(number, True)
        os.execv(given.command[0], given.command)
    except BaseException as error:  # noqa: BLE001
        _say(given, failed=f"{type(error).__name__}: {error}")
    os._exit(127)


def _first_of_namespace(given: _Given, seen: _Seen) -> NoReturn:
    """Be the process whose end ends all others of its namespace. Never returns."""
    try:
        _prctl(_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            _mounts(given.folders)
            seen.mounts = True
        if (program := os.fork()) == 0:
            _become(given, seen)
        while (found := os.wait())[0] != program:
            pass
        _say(given, ended=os.waitstatus_to_exitcode(found[1]))
    finally:
        os._exit(0)


def _children() -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_bytes().rpartition(b")")[2].split()
            if int(fields[1]) == os.getpid():
                yield int(path.parent.name)


def _sweep() -> None:
    """End every process that is below this one: those of the ended come to it, one by one."""
    until = time.monotonic() + _SWEEP_S
    with suppress(ChildProcessError):
        while time.monotonic() < until:
            for child in _children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(0.002)


def main() -> None:
    """Run the command and wait for its end, or for that of whoever started this."""
    at = sys.argv.index("--")
    status, kept, size, data, folders = sys.argv[1:at]
    given = _Given(
        status=int(status),
        kept=[int(number) for number in kept.split(",")],
        file_bytes=int(size),
        data_bytes=int(data),
        folders=folders.split(":"),
        command=sys.argv[at + 1 :],
    )
    os.set_inheritable(given.status, False)
    _prctl(_PDEATHSIG, signal.SIGKILL)
    _prctl(_SUBREAPER, 1)
    seen = _Seen(namespaces=_namespaces())
    if seen.namespaces & _NEWNET:
        with suppress(OSError):
            _raise_loopback()
    if (child := os.fork()) == 0:
        if seen.namespaces & _NEWPID:
            _first_of_namespace(given, seen)
        _become(given, seen)
    for number in given.kept:
        os.close(number)
    while True:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            if not seen.namespaces & _NEWPID:
                _say(given, ended=os.waitstatus_to_exitcode(code))
            break
        if select.select([0], [], [], 0.02)[0]:
            os.kill(child, signal.SIGKILL)
            break
    _sweep()


if __name__ == "__main__":
    main()
