"""Walk a .tar.gz block by block, and refuse what Python's reader and TorchServe's read differently.

TorchServe's stops at the end of the first gzip stream, takes a name that ends in a slash for a
folder, whatever its header says, and reads a name's prefix in three ways. So every byte that is no
member's must be one that both know.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from marwright.archive.container.budget import Budget
from marwright.archive.container.limits import size_problems
from marwright.archive.container.stream import CHUNK
from marwright.archive.container.types import Malformed
from marwright.archive.names import is_plain

# Enough for every name that is_plain; nothing else in an extended header is of use here.
_MAX_EXTENDED = 1 << 16
# What a header's octal size can say.
_MAX_OCTAL = 8 << 30
# Octal as everybody reads it, or binary and positive, as GNU writes the sizes beyond octal.
_NUMBER = re.compile(rb" *[0-7]+[ \0]*|\x80.{11}", re.DOTALL)
_POSIX = b"ustar\x0000"
# What an extended header may say, and how. Times and owners change nothing of what a member is.
_PAX_KNOWN = {
    **dict.fromkeys(("path", "uname", "gname", "comment"), re.compile(r"[^\0]+")),
    **dict.fromkeys(("size", "uid", "gid"), re.compile(r"[0-9]{1,18}")),
    **dict.fromkeys(("mtime", "atime", "ctime"), re.compile(r"-?[0-9]{1,18}(\.[0-9]*)?")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member, a file of `size` bytes or a folder, as which it ends in `/`."""

    name: str
    size: int

    @property
    def is_folder(self) -> bool:
        """Whether it only makes a folder."""
        return self.name.endswith("/")


class Body:
    """The bytes of a member, to be read while its turn lasts."""

    def __init__(self, plain: io.BufferedReader[_Gunzip], entry: Entry) -> None:
        self._plain = plain
        self._name = entry.name
        self._left = entry.size

    def readinto(self, buffer: memoryview, /) -> int:
        """Read into the buffer; returns how many bytes, 0 at the end."""
        count = self._plain.readinto(buffer[: self._left])
        if not count and self._left and len(buffer):
            raise Malformed(f"{self._name}: the archive ends in the middle of it")
        self._left -= count
        return count

    def skip(self) -> None:
        """Pass over what was not read."""
        buffer = memoryview(bytearray(min(CHUNK, self._left)))
        while self._left:
            self.readinto(buffer)


def walk(packed: BinaryIO, size: int, budget: Budget) -> Iterator[tuple[Entry, Body]]:
    """Yield each member of a file of `size` bytes with its bytes; all of it is read.

    Raises `Malformed`.
    """
    plain = io.BufferedReader(_Gunzip(packed, size, budget), CHUNK)
    while (block := _take(plain, tarfile.BLOCKSIZE)).strip(b"\0"):
        entry = _entry(plain, block)
        body = Body(plain, entry)
        yield entry, body
        body.skip()
        _pad(plain, entry.size)
    while chunk := plain.read(CHUNK):
        if chunk.strip(b"\0"):
            raise Malformed("bytes behind the end of the archive")


def _entry(plain: io.BufferedReader[_Gunzip], block: bytes) -> Entry:
    """Read a member's header, and the one before it that has what finds no place there."""
    info, more = _header(block), {}
    if info.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        if info.size > _MAX_EXTENDED:
            raise Malformed(f"an extended header of {info.size} bytes")
        data = _take(plain, info.size)
        _pad(plain, info.size)
        is_pax = info.type == tarfile.XHDTYPE
        more = _pax(data) if is_pax else {"path": _text(data.removesuffix(b"\0"))}
        block = _take(plain, tarfile.BLOCKSIZE)
        info = _header(block)
        if block[156:157] == tarfile.AREGTYPE:
            # Whether it is a folder lies in the name: in this one's, or in the one before?
            raise Malformed(f"{info.name!r}: an old header behind an extended one")
    name, is_folder = more.get("path", info.name), info.type == tarfile.DIRTYPE
    if is_folder:
        name = name.removesuffix("/")
    if not is_plain(name):
        raise Malformed(f"{name!r}: not a plain relative name")
    if info.type in (tarfile.LNKTYPE, tarfile.SYMTYPE):
        raise Malformed(f"{name}: is a link")
    if not is_folder and info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise Malformed(f"{name}: is neither a file nor a folder")
    size = int(more.get("size", info.size))
    if size != info.size and size < _MAX_OCTAL:
        raise Malformed(f"{name}: is of two sizes: {info.size} and {size} bytes")
    if is_folder and size:
        raise Malformed(f"{name}: is a folder with content")
    return Entry(name=name + "/" * is_folder, size=size)


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise Malformed(f"a header is damaged: {error}") from None
    name, prefix, rest = info.name, block[345:500], block[500:]
    if not _NUMBER.fullmatch(block[124:136]):
        raise Malformed(f"{name!r}: its size is not a number")
    # Older formats have other things at the prefix's place, and a newer one at its end.
    if rest.strip(b"\0") or (block[257:265] != _POSIX and prefix.strip(b"\0")):
        raise Malformed(f"{name!r}: its header is not in the format of POSIX")
    return info


def _pax(data: bytes) -> dict[str, str]:
    """Return the values of an extended header: records of `<length> <key>=<value>` and newline."""
    values: dict[str, str] = {}
    while data:
        digits, space, _ = data.partition(b" ")
        length = int(digits) if space and re.fullmatch(rb"[1-9]\d{0,4}", digits) else 0
        record, data = data[:length], data[length:]
        key, equals, value = _text(record[len(digits) + 1 : -1]).partition("=")
        if len(record) < length or not equals or not record.endswith(b"\n"):
            raise Malformed("an extended header is damaged")
        if key not in _PAX_KNOWN or key in values:
            raise Malformed(f"an extended header says {key!r}, which may change what a member is")
        if not _PAX_KNOWN[key].fullmatch(value):
            raise Malformed(f"an extended header says that {key} is {value!r}")
        values[key] = value
    return values


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _take(plain: io.BufferedReader[_Gunzip], size: int) -> bytes:
    data = plain.read(size)
    if len(data) != size:
        raise Malformed("the archive ends before its end record")
    return data


def _pad(plain: io.BufferedReader[_Gunzip], size: int) -> None:
    if _take(plain, -size % tarfile.BLOCKSIZE).strip(b"\0"):
        raise Malformed("bytes behind the end of a member")


class _Gunzip(io.RawIOBase):
    """The plain bytes of a file that is one gzip stream and nothing more, and no bomb."""

    def __init__(self, packed: BinaryIO, size: int, budget: Budget) -> None:
        self._packed = packed
        self._budget = budget
        self._packed_size = size
        self._size = 0
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        while not self._inflate.eof:
            data = self._inflate.unconsumed_tail or self._packed.read(CHUNK)
            try:
                plain = self._inflate.decompress(data, len(buffer))
            except zlib.error as error:
                raise Malformed(f"not a .tar.gz, or damaged: {error}") from None
            if plain:
                return self._give(plain, buffer)
            if not data:
                raise Malformed("the gzip stream is cut off")
        if self._inflate.unused_data or self._packed.read(1):
            raise Malformed("bytes behind the end of the gzip stream")
        return 0

    def _give(self, plain: bytes, buffer: memoryview) -> int:
        self._budget.check()
        buffer[: len(plain)] = plain
        self._size += len(plain)
        for problem in size_problems([self._size], self._packed_size):
            raise Malformed(problem)
        return len(plain)
