"""Files that are complete or absent, and their digests."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import io
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from marwright.recipe.regular import open_regular

_LIBC = ctypes.CDLL(None, use_errno=True)
# Bytes; a third less time for 512 MiB and an `fsync` than without.
_FLOW = 8 << 20
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.tmp")
_CANNOT_EXCHANGE = "this file system cannot exchange folders: remove the old one first"


def sha256_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal, in bounded memory."""
    with os.fdopen(open_regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Make a file's bytes durable, or a folder's names: a rename lives in the folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Flowing(io.FileIO):
    """A file whose bytes leave for the disk while more of them come, so that its sync is short."""

    _waiting = 0

    def write(self, data: Any, /) -> int:
        """Write as a file does."""
        count = super().write(data)
        self._waiting += count
        if self._waiting >= _FLOW:
            start_writing(self.fileno())
            self._waiting = 0
        return count


def start_writing(descriptor: int) -> None:
    """Let the system write to the disk what it holds of a file, and do not wait for it (Linux)."""
    sync_file_range, write = getattr(_LIBC, "sync_file_range", None), 2
    if sync_file_range is not None:
        # From the start to the end. Not there on every file system, and then `fsync` does it all.
        sync_file_range(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), write)


@contextmanager
def replacing(target: Path, *, force: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `target` that takes its place when the block ends well.

    Synced before the rename; a failure or a kill leaves the old file as it was. Without `force`
    something that is there by then stays, and `FileExistsError` is raised.
    """
    with _beside(target, Path.touch) as temporary:
        # Without truncating it: ext4 would flush a truncated file when it is closed.
        with io.BufferedWriter(_Flowing(temporary, "r+")) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            temporary.replace(target)
        else:
            _link(temporary, target)
        sync(target.parent)


@contextmanager
def replacing_folder(target: Path, *, force: bool = True) -> Iterator[Path]:
    """Make a temporary folder beside `target` that takes its place when the block ends well.

    What is written into it is to be synced by the block; its folders are synced here. Without
    `force` something that is there by then stays, and `FileExistsError` is raised.
    """
    with _beside(target, Path.mkdir) as temporary:
        yield temporary
        for folder in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
            sync(folder)
        while not _rename(temporary, target):
            if not force:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
            if _exchange(temporary, target):
                break
            # It came and went between the two: somebody else writes it too.
        # The old one now stands under the temporary name, and is removed as such.
        sync(target.parent)


@contextmanager
def _beside(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Make something empty beside `target`; what is left under its name is removed in the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.tmp")
    for stale in (path for path in target.parent.iterdir() if ours.fullmatch(path.name)):
        # Who writes holds a lock, and it ends with its process: this one was killed.
        # Somebody else's is for them to remove.
        with suppress(PermissionError):
            if (lock := try_lock(stale)) is not None:
                _remove(stale)
                os.close(lock)
    lock = None
    while lock is None:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
        make(temporary)
        # None when somebody who looks for leftovers came between these two lines.
        lock = try_lock(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)
        os.close(lock)


def is_being_written(path: Path) -> bool:
    """Whether this is the unfinished file or folder of a writer that lives."""
    if not _TEMPORARY.fullmatch(path.name) or path.is_symlink():
        return False
    if not (path.is_file() or path.is_dir()):
        return False
    if (lock := try_lock(path)) is None:
        return True
    os.close(lock)
    return False


def try_lock(path: Path) -> int | None:
    """Lock a file or folder; None when another process has it, or removed it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return descriptor
    os.close(descriptor)
    return None


def _remove(path: Path) -> None:
    while path.is_dir() and not path.is_symlink():
        # Who looks for leftovers may be at it too.
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step, as Linux can since 3.15; False without `other`."""
    exchange, here = 2, -100
    renameat2 = getattr(_LIBC, "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, _CANNOT_EXCHANGE, str(other))
    if not renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange):
        return True
    error = ctypes.get_errno()
    if error == errno.ENOENT and one.exists():
        return False
    cannot = error in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
    raise OSError(error, _CANNOT_EXCHANGE if cannot else os.strerror(error), str(other))


def _link(file: Path, target: Path) -> None:
    """Give a file a name that nothing has; a rename would replace what came meanwhile."""
    try:
        target.hardlink_to(file)
    except OSError as error:
        # Some file systems have no links.
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) or target.exists():
            raise
        file.rename(target)


def _rename(folder: Path, target: Path) -> bool:
    """Rename a folder to a new name; False when something is there already."""
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        return False
    return True


def write_bytes(target: Path, data: bytes) -> None:
    """Write a whole file, atomically."""
    with replacing(target) as file:
        file.write(data)
