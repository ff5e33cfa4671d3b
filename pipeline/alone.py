"""Locks for what two runs at once would spoil."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recipes.errors import MarwrightError


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
