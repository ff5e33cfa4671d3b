"""Read bytes once and do several things with them, on all cores and in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

# Small enough for a core's cache, large enough to make the hand-over between threads cheap.
CHUNK = 1 << 20
# How far the file may be read ahead of the slowest sink: what evens out their pace.
_BUFFERS = 4

Buffer = bytes | memoryview
Sink = Callable[[Buffer], object]


class Source(Protocol):
    """A binary file that fills a buffer of the caller's."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read into the buffer; returns how many bytes, 0 at the end."""


def fan_out(source: Source, *sinks: Sink, here: Sink | None = None, size_hint: int = CHUNK) -> int:
    """Give every chunk of a file to all sinks, side by side; returns how many bytes there were.

    `size_hint` is how many there should be: a small file then needs a small buffer only.
    Each sink runs in a thread of its own, but for `here`, which takes turns with the reading. An
    error of a sink is raised here, and ends it all.
    """
    first = bytearray(min(CHUNK, size_hint + 1))
    size = _fill(source, first)
    if size < len(first):
        # Threads would cost more than they save.
        for sink in (*sinks, *([here] if here else [])):
            sink(memoryview(first)[:size])
        return size
    buffers = [first, *(bytearray(CHUNK) for _ in range(_BUFFERS - 1))]
    threads = [_Apart(sink) for sink in sinks]
    total, turn = 0, 0
    try:
        while size:
            chunk = memoryview(buffers[turn % _BUFFERS])[:size]
            for thread in threads:
                thread.give(chunk)
            if here is not None:
                here(chunk)
            total, turn = total + size, turn + 1
            if turn >= _BUFFERS:
                # The oldest buffer comes round again.
                for thread in threads:
                    thread.wait()
            size = _fill(source, buffers[turn % _BUFFERS])
    finally:
        for thread in threads:
            thread.end()
    for thread in threads:
        thread.raise_error()
    return total


class _Apart:
    """A sink in a thread of its own; chunks are given to it in order."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._error: BaseException | None = None
        self._given: SimpleQueue[Buffer | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def give(self, chunk: Buffer) -> None:
        """Hand over a chunk, which must stay as it is until a `wait` for it is over."""
        self._given.put(chunk)

    def wait(self) -> None:
        """Wait until one more chunk was dealt with. Raises the sink's error."""
        self._done.get()
        self.raise_error()

    def end(self) -> None:
        """Wait until all chunks were dealt with, and end the thread."""
        self._given.put(None)
        self._thread.join()

    def raise_error(self) -> None:
        """Raise what the sink raised, if it did."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (chunk := self._given.get()) is not None:
            try:
                if self._error is None:
                    self._sink(chunk)
            # Raised where it is waited for.
            except BaseException as error:  # noqa: BLE001
                self._error = error
            self._done.put(None)


def _fill(source: Source, buffer: bytearray) -> int:
    """Read until the buffer is full or the file ends; returns how many bytes it holds."""
    view, size = memoryview(buffer), 0
    while size < len(buffer):
        count = source.readinto(view[size:])
        if not count:
            break
        size += count
    return size
