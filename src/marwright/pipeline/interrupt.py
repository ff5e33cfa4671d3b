"""What Ctrl-C, SIGTERM and a closed terminal do: one line, and an end at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

_HOW = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "told to end",
    signal.SIGHUP: "its terminal was closed",
}


class Ended(KeyboardInterrupt):
    """A signal that ends us like Ctrl-C: what is half done is cleared away on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def end_at_once(number: int = signal.SIGINT) -> NoReturn:
    """End the program. Running steps end as soon as our end of their standard input is gone."""
    # A second Ctrl-C would end us in the middle of this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    how = _HOW.get(signal.Signals(number), "ended")
    # Whoever closed the terminal does not read it.
    with suppress(OSError):
        print(f"\nmarwright: {how}; what was complete stays", file=sys.stderr, flush=True)
        sys.stdout.flush()
    os._exit(128 + number)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise Ended(number)


@contextmanager
def on_signals(end: Callable[[int, FrameType | None], object] = _end) -> Iterator[None]:
    """Call `end` for SIGTERM and SIGHUP, and for Ctrl-C too where it is not the default.

    The default raises `Ended`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread set handlers
        return
    numbers = (signal.SIGTERM, signal.SIGHUP, *((signal.SIGINT,) if end is not _end else ()))
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # `nohup` stays what it is
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ending_at_once(before: Callable[[], object]) -> Iterator[None]:
    """Let an interrupt end the program from wherever it is, after calling `before`.

    KeyboardInterrupt would not do: where it is raised inside a callback it is lost, and the build
    goes on.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        before()
        end_at_once(number)

    with on_signals(end):
        yield
