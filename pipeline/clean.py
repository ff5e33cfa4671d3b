"""`make clean`: removes what was built, unless something is at work on it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.layout import Layout
from pipeline.serve import HOME
from pipeline.serving.folders import Home, shell_server, short_folder
from pipeline.serving.process import read_record
from recipes.errors import MarwrightError

PLACES = ("build", "model_store", "dist")


def clean(layout: Layout) -> int:
    """Remove build/, model_store/ and dist/; returns 0.

    Raises `MarwrightError` when a build, a server or another command works on them.
    """
    with project_lock(layout.root, alone=True):
        _require_no_server(layout)
        print("clean: removing build/, model_store/ and dist/")
        for name in PLACES:
            path = layout.root / name
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.exists():
                shutil.rmtree(path)
    return 0


@contextmanager
def project_lock(root: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold the lock of a project's folder: together with others who work in it, or `alone`.

    It is on the folder itself, so that no file of it is left, or could be removed. Raises
    `MarwrightError` when somebody is at work and `alone` is asked for.
    """
    descriptor = os.open(root, os.O_RDONLY)
    try:
        _lock(descriptor, root, alone=alone)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, root: Path, *, alone: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except BlockingIOError:
        busy = ", ".join(_built_now(root / "build"))
        what = f"{busy} is being built" if busy else "another command is at work"
        raise MarwrightError(
            f"nothing was removed: {what} in {root}; wait for it to end, or stop it"
        ) from None
    except OSError:
        # Some network file systems lock no folders: there, nobody is warned.
        return


def _built_now(build: Path) -> Iterator[str]:
    for path in sorted(build.glob("*/.lock")):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield path.parent.name


def _require_no_server(layout: Layout) -> None:
    # One whose `make serve` was killed lives on, and reads what it has extracted there.
    home = Home(path=(layout.root / HOME).absolute())
    if (record := read_record(home)) is not None:
        raise MarwrightError(
            f"nothing was removed: a server runs, port {record.ports.inference}: `make stop`, then "
            "`make clean`"
        )
    shell = home.path / "shell" / "tmp"
    if shell.parent.exists() and (pid := shell_server(short_folder(shell))) is not None:
        raise MarwrightError(
            f"nothing was removed: the server of `torchserve --start` runs, pid {pid}: "
            "`torchserve --stop`, then `make clean`"
        )
