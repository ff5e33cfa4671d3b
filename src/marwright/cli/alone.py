"""Locks for what two runs at once would spoil."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marwright.recipe.errors import MarwrightError


@contextmanager
def alone(place: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder, which is made. A kill releases it.

    Raises `MarwrightError` when another process has it: `what` says which run that is.
    """
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MarwrightError(f"{what} is at work here; wait for it to end") from None
        yield


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
