"""Read a zip file that was walked: every byte once, then single members, or all into a folder."""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from archive.container.budget import Budget, Exhausted, Metered
from archive.container.limits import most_text
from archive.container.stream import CHUNK, Buffer, fan_out
from archive.container.types import Container, Digests, Unreadable, made_folder
from archive.container.zip_directory import Entry
from archive.container.zip_format import STORED
from archive.container.zip_walk import walk
from recipes.regular import open_regular

# Bytes that the system copies at once.
_PIECE = 64 << 20


class ZipArchive(Container):
    """An open zip file whose structure was walked; `problems` says what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = io.FileIO(open_regular(path))
        self.size = os.fstat(self._file.fileno()).st_size
        self.budget = Budget(self.size)
        self._all, self.problems = walk(self._file, self.size, self.budget)
        self._entries = {entry.name: entry for entry in self._all if not entry.is_folder}
        self.members = {name: entry.size for name, entry in self._entries.items()}
        if not self.problems:
            try:
                self.budget.narrow(sum(self.members.values()))
            except Exhausted as problem:
                self.problems.append(str(problem))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def digests(self) -> Digests:
        """Read the whole file once: its own SHA-256, the members', and their checksums."""
        whole, inside = hashlib.sha256(), _Members(self._all)
        self._file.seek(0)
        if fan_out(Metered(self._file, self.budget), whole.update, inside.update) != self.size:
            inside.problems.append("the file changed while it was read")
        return Digests(sha256=whole.hexdigest(), members=inside.digests, problems=inside.problems)

    def read(self, name: str) -> bytes:
        """Return a small member's bytes. Raises `Unreadable` for a large or damaged one."""
        entry = self._entries[name]
        if entry.size > most_text(name):
            raise Unreadable(f"{name}: is {entry.size} bytes long; that is no text")
        return b"".join(_plain(self._file, entry))

    def unpack(self, folder: Path) -> None:
        """Write all members below a folder; call it when there are no problems."""
        made = set[Path]()
        for entry in self._all:
            if entry.is_folder:
                (folder / entry.name).mkdir(parents=True, exist_ok=True)
        for name, entry in self._entries.items():
            self.budget.check()
            with made_folder(folder / name, made).open("wb") as copy:
                if entry.method == STORED:
                    _copy(self._file, entry, copy, self.budget)
                else:
                    for piece in _plain(self._file, entry):
                        self.budget.check()
                        copy.write(piece)


def _copy(file: io.FileIO, entry: Entry, copy: io.BufferedWriter, budget: Budget) -> None:
    at, left = entry.data, entry.size
    while left:
        # In the kernel: the bytes were checked, and need not come here again.
        budget.check()
        count = os.sendfile(copy.fileno(), file.fileno(), at, min(left, _PIECE))
        if not count:
            raise Unreadable(f"{entry.name}: the file ends in the middle of it")
        at, left = at + count, left - count


def _plain(file: io.FileIO, entry: Entry) -> Iterator[Buffer]:
    """Yield a member's plain bytes; at most as many as its header says."""
    file.seek(entry.data)
    left = entry.packed
    reader = _Member(entry)
    while left:
        chunk = file.read(min(CHUNK, left))
        if not chunk:
            raise Unreadable(f"{entry.name}: the file ends in the middle of it")
        left -= len(chunk)
        yield from reader.plain(chunk)
    if problem := reader.problem():
        raise Unreadable(problem)


class _Members:
    """A sink that finds the members in the stream of the whole file's bytes."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.digests: dict[str, str] = {}
        self.problems: list[str] = []
        self._waiting = iter(sorted(entries, key=lambda entry: entry.data))
        self._at = 0
        self._member: _Member | None = None
        self._next()

    def update(self, chunk: Buffer) -> None:
        """Take the next bytes of the file."""
        chunk, at = memoryview(chunk), self._at
        self._at += len(chunk)
        while self._member is not None and self._member.entry.data <= self._at:
            entry = self._member.entry
            first = max(entry.data - at, 0)
            last = min(entry.data + entry.packed - at, len(chunk))
            for _ in self._member.plain(chunk[first:last]):
                pass
            if entry.data + entry.packed > self._at:
                return
            self._finish(self._member)

    def _finish(self, member: _Member) -> None:
        if problem := member.problem():
            self.problems.append(problem)
        if not member.entry.is_folder:
            self.digests[member.entry.name] = member.sha256()
        self._next()

    def _next(self) -> None:
        entry = next(self._waiting, None)
        self._member = _Member(entry) if entry else None


class _Member:
    """One member on its way from packed to plain bytes, with the checksums of the plain ones."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._sha256, self._crc, self._size = hashlib.sha256(), 0, 0
        self._inflate = None if entry.method == STORED else zlib.decompressobj(-zlib.MAX_WBITS)
        self._damage = ""

    def plain(self, packed: Buffer) -> Iterator[Buffer]:
        """Take packed bytes, yield plain ones: never many more than went in, nor than announced."""
        if self._inflate is None:
            self._take(packed)
            yield packed
            return
        data: Buffer = packed
        out = b"all"
        # A full chunk may leave plain bytes inside of zlib, also when no packed ones are left.
        while (data or len(out) == CHUNK) and not self._damage:
            try:
                out = self._inflate.decompress(data, CHUNK)
            except zlib.error as error:
                self._damage = f"its compressed bytes are damaged: {error}"
                return
            self._take(out)
            yield out
            data = self._inflate.unconsumed_tail
            if self._size > self.entry.size:
                self._damage = f"unpacks to more than the {self.entry.size} bytes announced"
            elif self._inflate.unused_data:
                self._damage = "has bytes behind the end of its compressed data"

    def sha256(self) -> str:
        """Return the SHA-256 of the plain bytes so far, in hexadecimal."""
        return self._sha256.hexdigest()

    def problem(self) -> str:
        """Return what was wrong with the member, once all of it was seen."""
        entry = self.entry
        if not self._damage and self._inflate is not None and not self._inflate.eof:
            self._damage = "its compressed data do not end"
        if not self._damage and self._size != entry.size:
            self._damage = f"unpacks to {self._size} bytes, announced are {entry.size}"
        if not self._damage and self._crc != entry.crc:
            self._damage = f"its CRC-32 is {self._crc:08x}, recorded is {entry.crc:08x}"
        return f"{entry.name}: {self._damage}" if self._damage else ""

    def _take(self, plain: Buffer) -> None:
        self._crc = zlib.crc32(plain, self._crc)
        self._size += len(plain)
        self._sha256.update(plain)
