"""Standard output and error that hold whatever the terminal, the pipe or the disk behind them is.

What an encoding cannot show is shown in ASCII; a reader that has gone, or a disk that is full,
does not end the work: it is told once, at the end.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import Any

from marwright.recipe.errors import MachineError

_ASCII = {
    "≤": "<=", "≥": ">=", "≈": "~", "±": "+-", "×": "x", "−": "-", "–": "-", "—": "-", "·": "-",
    "•": "*", "…": "...", "→": "->", "←": "<-", "⁻": "-", "²": "2", "µ": "u", "°": " deg", "“": '"',
    "”": '"', "’": "'", "‘": "'", "│": "|", "─": "-", "━": "-", "╸": "-", "╺": "-", "█": "#",
    "α": "alpha", "✓": "ok", "✗": "x",
}  # fmt: skip
# The dots of a spinner.
_BRAILLE = range(0x2800, 0x2900)
# Nobody reads any more: `… | head` has seen enough, or the terminal was closed.
_NOBODY = (errno.EPIPE, errno.EIO)


class _Output(io.FileIO):
    """A file that takes everything; what went wrong first is kept in `lost`."""

    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write as a file does, or into nothing once that has failed."""
        if self.lost is None:
            try:
                return super().write(data)
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes


def readable(error: UnicodeError) -> tuple[str, int]:
    """Stand in for characters that an encoding does not have, as `codecs` asks error handlers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_in_ascii, error.object[error.start : error.end])), error.end


def _in_ascii(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{number - 0xDC00:02x}"
    if number in _BRAILLE:
        return "*"
    return _ASCII.get(char) or char.encode("ascii", "backslashreplace").decode()


def settle() -> None:
    """Put such streams in the place of `sys.stdout` and `sys.stderr`."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # Closed. A file that is opened later would get its number, and what is printed.
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    codecs.register_error("readable", readable)
    sys.stdout = _stream(1, sys.stdout, line_buffering=os.isatty(1))
    sys.stderr = _stream(2, sys.stderr, line_buffering=True)


def _stream(number: int, old: io.TextIOBase | Any, *, line_buffering: bool) -> io.TextIOWrapper:
    if old is not None:
        old.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(number, "wb", closefd=False)),
        encoding=getattr(old, "encoding", None) or "utf-8",
        errors="readable",
        line_buffering=line_buffering,
    )


def end(code: int) -> int:
    """Flush; returns the exit code, which is an error's where what was printed is not all there."""
    sys.stdout.flush()
    lost = getattr(getattr(sys.stdout.buffer, "raw", None), "lost", None)
    if lost is None or lost.errno in _NOBODY:
        return code
    print(f"marwright: standard output: {lost.strerror}: not all is in it", file=sys.stderr)
    return code or MachineError.exit_code
