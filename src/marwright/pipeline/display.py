"""What a person sees while models are built: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# In a log file, a line of progress now and then shows that it lives.
_PLAIN_INTERVAL_S = 5.0
# Why a step runs, in so many reasons at most, unless all are asked for.
_REASONS = 2
# quiet: nothing but errors; verbose: every reason of a step.
Volume = Literal["quiet", "plain", "verbose"]


class Display:
    """Shows the steps that run; safe to use from several threads."""

    def __init__(self, volume: Volume = "plain") -> None:
        self.volume = volume
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.bars: Progress | None = None
        if self.console.is_terminal and volume != "quiet":
            self.bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("·"),
                TimeRemainingColumn(),
                TextColumn("left ·"),
                TextColumn("{task.fields[text]}", markup=False),
                console=self.console,
                transient=True,
            )

    def __enter__(self) -> Self:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bars, and give the terminal its cursor back."""
        if self.bars:
            self.bars.stop()

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        if self.volume != "quiet":
            self.console.print(line, markup=False)

    @contextmanager
    def step(self, model: str, step: str, reasons: Sequence[str]) -> Iterator[ShownStep]:
        """Show a step while it runs, and a line once it is done."""
        shown = ShownStep(self, model, step, reasons)
        try:
            yield shown
        finally:
            shown.close()


class ShownStep:
    """One running step: a bar, or a line every few seconds."""

    def __init__(self, display: Display, model: str, step: str, reasons: Sequence[str]) -> None:
        self._display = display
        self._name = f"{model:<12} {step:<8}"
        self._started = self._last_line = time.monotonic()
        # When the first part was done: it took what comes once, as compiling does, with it.
        self._first: tuple[int, float] | None = None
        self._task: TaskID | None = None
        self._lock = threading.Lock()
        most = len(reasons) if display.volume == "verbose" else _REASONS
        more = len(reasons) - most
        why = "; ".join(reasons[:most]) + (f"; and {more} more" * (more > 0))
        if display.bars:
            self._task = display.bars.add_task(self._name, total=None, text=why)
        else:
            display.say(f"{self._name} starts ({why})")

    def progress(self, done: int, total: int, text: str) -> None:
        """Show how far the step is."""
        if self._display.bars and self._task is not None:
            self._display.bars.update(self._task, completed=done, total=total, text=text)
            return
        with self._lock:
            now = time.monotonic()
            left = self._left(done, total, now)
            if now - self._last_line < _PLAIN_INTERVAL_S:
                return
            self._last_line = now
        self._display.say(f"{self._name} {done}/{total} · {text}{left}")

    def _left(self, done: int, total: int, now: float) -> str:
        """Say how long it takes at most, from the parts that were done since the first one."""
        if self._first is None or done < self._first[0]:
            self._first = (done, now) if done else None
            return ""
        parts, seconds = done - self._first[0], now - self._first[1]
        return f" · at most {seconds * (total - done) / parts:.0f} s left" if parts else ""

    def done(self, note: str) -> None:
        """Say what came out."""
        seconds = time.monotonic() - self._started
        self._display.say(f"{self._name} {seconds:6.1f} s  {note}")

    def close(self) -> None:
        """Remove the bar."""
        if self._display.bars and self._task is not None:
            self._display.bars.remove_task(self._task)
