"""Temporary folders that end with their process, however it ends."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marwright.files import try_lock
from marwright.recipe.errors import MachineError


@contextmanager
def scratch_folder(what: str, parent: Path | None = None) -> Iterator[Path]:
    """Make an empty folder `marwright-<what>-…`, and remove it in the end.

    What killed processes left of the same name goes first: whoever uses such a folder holds a lock
    on it, and a lock ends with its process. It is made in `parent`, else where temporary files go.
    Raises `MachineError` where there is no such place.
    """
    place = sweep(what, parent)
    with contextlib.ExitStack() as undo:
        lock = None
        # None when somebody who looks for leftovers came between these two lines.
        while lock is None:
            name = undo.enter_context(
                tempfile.TemporaryDirectory(prefix=f"marwright-{what}-", dir=place)
            )
            lock = try_lock(Path(name))
        undo.callback(os.close, lock)
        # Absolute, whatever folder its user works in.
        yield Path(name).resolve()


def sweep(what: str, parent: Path | None = None) -> Path:
    """Remove what is ours and nobody's any more; never what is another user's, or in use.

    Returns the place where it looked. Raises `MachineError` where there is none.
    """
    try:
        place = Path(tempfile.gettempdir() if parent is None else parent)
    except FileNotFoundError as error:
        raise MachineError(f"{error.strerror}: set TMPDIR to a folder to write to") from None
    ours = re.compile(rf"marwright-{re.escape(what)}-[a-z0-9_]{{8}}")
    for path in place.iterdir():
        # What cannot be looked at or removed is for its owner.
        with contextlib.suppress(OSError):
            if not ours.fullmatch(path.name):
                continue
            held = path.lstat()
            if not stat.S_ISDIR(held.st_mode) or held.st_uid != os.geteuid():
                continue
            if (lock := try_lock(path)) is None:
                continue
            try:
                _remove(path)
            finally:
                os.close(lock)
    return place


def _remove(folder: Path) -> None:
    # A handler may have closed a folder even to its owner.
    for name, folders, _ in os.walk(folder):
        for inner in folders:
            path = Path(name, inner)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)
