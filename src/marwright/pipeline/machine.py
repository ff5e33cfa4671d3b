"""What a machine refuses, told as that: a full disk, no permission, no memory, no such package."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from marwright.recipe.errors import MachineError, MarwrightError
from marwright.recipe.extras import missing

_AGAIN = "and run the same command again"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY)
_REMEDY = {
    **dict.fromkeys(_FULL, f"free some space {_AGAIN}"),
    **dict.fromkeys(_FORBIDDEN, f"change its owner or permissions {_AGAIN}"),
    **dict.fromkeys(_IN_THE_WAY, f"move away what lies there {_AGAIN}"),
    errno.EFBIG: f"raise the limit of file sizes (`ulimit -f`) {_AGAIN}",
    errno.EMFILE: f"raise the limit of open files (`ulimit -n`) {_AGAIN}",
    errno.ENOENT: "it has gone meanwhile (`make clean`, or another program?), or never was there: "
    "run the same command again",
}
# What libraries say whose own errors carry no number: Rust's, and torch's writer of zip files.
_WORDS = re.compile(
    r"No space left|Disk quota|os error 28|PytorchStreamWriter failed|file write failed"
)
# Bytes. A disk with less room than this is as good as full.
_ROOM = 1 << 20


def machine_error(error: BaseException, *places: Path) -> MarwrightError | None:
    """Return what of the machine stopped us, or None where an error is of another kind.

    `MachineError`, or `MissingError` where an extra of the package is not installed. `places` are
    folders that were written to. An error of ours is only replaced when it came of that, of a full
    disk or of a lack of permission to write: of a missing file it knows more.
    """
    if needed := missing(error):
        return needed
    ours = isinstance(error, MarwrightError)
    for one in _chain(error):
        if isinstance(one, OSError) and (not ours or one.errno in _FULL):
            return MachineError(_sentence(one, places))
        if isinstance(one, MemoryError):
            return MachineError(f"out of memory: close other programs {_AGAIN}")
        if not isinstance(one, MarwrightError) and _WORDS.search(str(one)):
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return MachineError(_sentence(full, places))
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _sentence(error: OSError, places: tuple[Path, ...]) -> str:
    # Libraries raise their own without a number; its type says what it is then.
    what = error.strerror or f"{type(error).__name__}: {error}"
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    if error.errno in _FULL and not where and (full := _full(*places, _temporary())):
        where = f"{full}: "
    # Our own words for a file that somebody named say themselves what to do.
    remedy = _REMEDY.get(error.errno or 0) if what == os.strerror(error.errno or 0) else None
    return f"{where}{what}: {remedy}" if remedy else f"{where}{what}"


def _temporary() -> Path | None:
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        return None


def _full(*places: Path | None) -> Path | None:
    """Return the place whose disk has no room left: a failed write does not say where it was."""
    for place in places:
        if place is not None and place.exists() and shutil.disk_usage(place).free < _ROOM:
            return place
    return None
