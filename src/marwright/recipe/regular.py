"""Files that somebody names or sends, opened only if they are files: a FIFO would wait for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

# In bytes, of what a person writes: a recipe, a module, requirements.
MOST_TEXT = 4 << 20
_KINDS = {
    stat.S_IFIFO: "is a FIFO",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFDIR: "is a folder",
}


def not_regular(path: Path | str) -> str:
    """Say what something is that is no file; nothing for a file."""
    return _problem(os.stat(path).st_mode)  # noqa: PTH116


def open_regular(path: Path | str) -> int:
    """Return a descriptor of a file for reading.

    Raises `OSError`: `EINVAL`, saying what it is, for anything that is no regular file, which is
    then neither read nor waited for.
    """
    # Before it is opened, because that alone may move a tape or be seen at a socket's other end.
    _check(path, os.stat(path).st_mode)  # noqa: PTH116
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # It may be another by now.
        _check(path, os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_regular(path: Path | str, most: int | None = None) -> bytes:
    """Return a file's bytes. Raises `OSError` for what is no file, or has more than `most`."""
    with os.fdopen(open_regular(path), "rb") as file:
        if most is None:
            return file.read()
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"has more than {most} bytes: name a smaller file", str(path))
    return data


def _check(path: Path | str, mode: int) -> None:
    if problem := _problem(mode):
        # Python itself has another class for a folder, which callers may know.
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, f"{problem}: name a file", str(path))


def _problem(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    return f"{_KINDS.get(stat.S_IFMT(mode), 'is something else')}, not a file"
