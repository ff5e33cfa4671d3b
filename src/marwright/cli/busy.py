"""A sign of life while something takes seconds that cannot be counted beforehand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show a spinner on a terminal's standard error; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    # Not a str, which would be read as markup; and what is printed meanwhile stays where it goes.
    spinner = Spinner("dots", Text(what))
    with Live(spinner, console=Console(stderr=True), transient=True, redirect_stdout=False):
        yield
