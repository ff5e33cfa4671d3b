"""What a person sees of a server: the wait, then how to call it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from marwright.serve.readiness import Progress, verdict

# Seconds between two lines about the same wait, where nothing can be overwritten.
PACE = 3.0


def say(line: str = "") -> None:
    """Print one line at once, also into a pipe."""
    # A terminal that was closed must not keep us from stopping the server.
    with contextlib.suppress(OSError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


@contextmanager
def waiting() -> Iterator[Callable[[Sequence[Progress]], None]]:
    """Show a wait: one moving line on a terminal, plain lines elsewhere, and how it ended."""
    told: set[str] = set()

    def tell_settled(progress: Sequence[Progress]) -> None:
        for one in progress:
            if one.is_settled and one.model.path.name not in told:
                told.add(one.model.path.name)
                say(verdict(one))

    if not sys.stdout.isatty():
        began = last = time.monotonic()

        def plainly(progress: Sequence[Progress]) -> None:
            nonlocal last
            tell_settled(progress)
            now = time.monotonic()
            if now - last >= PACE and (text := pending(progress)):
                last = now
                say(f"{text}, {now - began:.0f} s")

        yield plainly
        return

    from rich.console import Console

    with Console().status("starting TorchServe") as status:
        began = time.monotonic()

        def movingly(progress: Sequence[Progress]) -> None:
            tell_settled(progress)
            if text := pending(progress):
                status.update(f"{text}, {time.monotonic() - began:.0f} s")

        yield movingly


def pending(progress: Sequence[Progress]) -> str:
    """Say what is still waited for, in a line; empty when nothing is."""
    left = [
        f"{one.model.name} ({one.ready} of {one.wanted or '?'} workers)"
        for one in progress
        if not one.is_settled
    ]
    return f"waiting for {', '.join(left)}" if left else ""
