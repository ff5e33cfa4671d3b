"""What Ctrl-C does: one line, and an end at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

EXIT_CODE = 130


def end_at_once() -> NoReturn:
    """End the program. Running steps end as soon as our end of their standard input is gone."""
    print("\nmarwright: interrupted; what was complete stays", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(EXIT_CODE)


@contextmanager
def ending_at_once(before: Callable[[], object]) -> Iterator[None]:
    """Let an interrupt end the program from wherever it is, after calling `before`.

    KeyboardInterrupt would not do: where it is raised inside a callback it is lost, and the build
    goes on.
    """
    import signal

    def end(*_: object) -> None:
        before()
        end_at_once()

    old = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)
