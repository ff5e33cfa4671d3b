"""The bytes of pickles as `pickletools.genops` reads them, each looked at once.

genops takes binary arguments as an unpickler does. Of arguments that are lines it refuses what
unpicklers take (`I0x10`), and reads escapes in names that they do not: it gets a line in its
place, and the line itself is kept for the walk.
"""

from __future__ import annotations

import codecs
import pickletools
from typing import IO

from marwright.archive.container.budget import Budget

MOST_BYTES = 256 << 20
_CHUNK = 1 << 16
# Longer arguments are the names of nothing, and are not kept.
LONGEST = 255
_NAMES = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}
_DIGITS = b"0123456789abcdefABCDEFxXoO_"
_REAL = b"0123456789.+-_eEfFiInNaAtTyY"


class Stop(Exception):
    """The walk cannot go on: `cut` where nothing more comes, `blind` where there may be more."""

    def __init__(self, why: str, *, cut: bool = False, blind: bool = False) -> None:
        super().__init__(why)
        self.cut, self.blind = cut, blind


class _Skipped(bytes):
    """A long argument: it has a length, and its bytes were passed over."""

    def __new__(cls, size: int) -> _Skipped:
        skipped = super().__new__(cls)
        skipped._size = size
        return skipped

    _size: int

    def __len__(self) -> int:
        return self._size


class Stream:
    """What genops reads from: `begin` comes before each opcode, `lines` are those of the last."""

    def __init__(self, file: IO[bytes], budget: Budget) -> None:
        self.lines: list[bytes] = []
        self.position = 0
        self._frame = 0
        self._code, self._fresh = b"", False
        self._file, self._budget = file, budget
        self._buffer, self._at = b"", 0

    def begin(self) -> None:
        """Take the next byte for an opcode."""
        self._fresh = True
        if self.lines:
            self.lines = []

    def opcode(self) -> str:
        """Return the name of the last opcode, or nothing where it is none."""
        return _NAMES.get(self._code, "")

    def unknown(self) -> str:
        """Say that the last byte is no opcode."""
        return f"{self._code!r} is no opcode"

    def read(self, size: int) -> bytes:
        """Return so many bytes; of many, only how many there are."""
        at, end = self._at, self._at + size
        if end <= len(self._buffer):
            self._at = end
            data = self._buffer[at:end]
        elif size <= _CHUNK:
            self._buffer = self._buffer[at:]
            self._at = 0
            while len(self._buffer) < size:
                self._buffer += self._chunk()
            self._at = size
            data = self._buffer[:size]
        else:
            data = self._skip(size)
        self._count(size)
        if self._fresh:
            self._code, self._fresh = data, False
        return data

    def readline(self) -> bytes:
        """Keep a line in `lines`, and return one that genops can read in its place."""
        line = self._line()
        self.lines.append(line)
        if (valid := _VALID.get(self._code)) and not valid(line):
            raise ValueError(line[:LONGEST])
        return b"''\n" if self._code == b"S" else b"0\n"

    def at_end(self) -> bool:
        """Whether nothing more comes."""
        if self._at == len(self._buffer):
            self._buffer, self._at = self._more(), 0
        return not self._buffer

    def enter_frame(self, length: int) -> None:
        """Begin a frame of so many bytes."""
        self.leave_frame()
        self._frame = self.position + length

    def leave_frame(self) -> None:
        """Raise `Stop` inside of a frame."""
        # Python's unpickler drops what is left of a frame, or reads on, by how the file is read.
        if self.position < self._frame:
            raise Stop("it leaves a frame unread, where unpicklers differ", blind=True)

    def _more(self) -> bytes:
        self._budget.check()
        return self._file.read(_CHUNK)

    def _chunk(self) -> bytes:
        if not (data := self._more()):
            raise Stop("it ends too early", cut=True)
        return data

    def _count(self, size: int) -> None:
        before, self.position = self.position, self.position + size
        if before < self._frame < self.position:
            raise Stop("it reads beyond a frame, where unpicklers differ", blind=True)
        if self.position > MOST_BYTES:
            raise Stop(f"it goes on for more than {MOST_BYTES >> 20} MiB", blind=True)

    def _skip(self, size: int) -> bytes:
        left = size - (len(self._buffer) - self._at)
        # Beyond the limit it ends anyway.
        most, data = MOST_BYTES + 1 - self.position, b""
        while left > 0 and size - left <= most:
            left -= len(data := self._chunk())
        self._buffer, self._at = (data[left:] if left < 0 else b""), 0
        return _Skipped(size)

    def _line(self) -> bytes:
        # Without its last byte, a newline or not, as in Python's own unpickler.
        start, kept = self._at, b""
        length = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            piece = self._buffer[start:]
            length += len(piece)
            # The end as well, for a quote that must be there.
            kept = (kept + piece) if len(kept) < _CHUNK else kept[:_CHUNK] + piece[-1:]
            self._buffer, self._at, start = self._more(), 0, 0
            if not self._buffer or self.position + length > MOST_BYTES:
                # One of Python's unpicklers takes what is not there for an empty name.
                if not length and self._code not in (b"c", b"i"):
                    raise Stop("it ends too early", cut=True)
                self._count(length)
                return kept[:-1]
        self._count(length + end + 1 - start)
        self._at = end + 1
        return kept + self._buffer[start:end]


def text_of(line: bytes, is_unicode: bool) -> str | None:
    """Return the text that an unpickler makes of the line of UNICODE or STRING, or None."""
    try:
        if is_unicode:
            return line.decode("raw-unicode-escape")
        escaped = codecs.escape_decode(line.strip()[1:-1])[0]
        return bytes(escaped).decode("ascii")
    except ValueError:
        return None


def _is_integer(line: bytes) -> bool:
    # No narrower than what pickle takes, C's numbers that end at a NUL included.
    digits = _unsigned(line).removesuffix(b"L").rstrip()
    return not digits or (digits[:1].isdigit() and not digits.strip(_DIGITS))


def _is_real(line: bytes) -> bool:
    digits = _unsigned(line).lower()
    starts = digits[:1].isdigit() or digits.startswith((b".", b"inf", b"nan"))
    return starts and not digits.strip(_REAL)


def _unsigned(line: bytes) -> bytes:
    number = line.partition(b"\0")[0].strip()
    return number[1:] if number[:1] in (b"+", b"-") else number


def _is_quoted(line: bytes) -> bool:
    text = line.strip()
    return len(text) >= 2 and text[:1] == text[-1:] and text[:1] in (b"'", b'"')


_VALID = {b"I": _is_integer, b"L": _is_integer, b"F": _is_real, b"S": _is_quoted}
