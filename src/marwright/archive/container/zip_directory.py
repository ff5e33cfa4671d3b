"""Read a zip file's central directory, entry by entry, and refuse what readers take differently."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from marwright.archive.container.types import Malformed
from marwright.archive.container.zip_end import read_at
from marwright.archive.container.zip_format import (
    CENTRAL,
    CENTRAL_SIGNATURE,
    DEFLATED,
    EXTRA_ZIP64,
    LIMIT_32,
    STORED,
    VERSION_64,
)
from marwright.archive.names import is_plain

_FLAG_ENCRYPTED = 1 << 0
FLAG_DESCRIPTOR = 1 << 3
# Deflate's own two bits, and UTF-8 names: they change nothing of how a member is read.
_FLAGS_KNOWN = FLAG_DESCRIPTOR | 1 << 1 | 1 << 2 | 1 << 11

# zip64; times of NTFS and Unix, owners, Java's mark: nothing that could rename or move a member.
# Each with the most bytes that it has, so that nothing else lies in it.
_EXTRAS_KNOWN = {
    EXTRA_ZIP64: 24, 0x000A: 32, 0x5455: 13, 0x5855: 12, 0x7855: 4, 0x7875: 19, 0xCAFE: 0,
}  # fmt: skip

# Of DOS: read-only, hidden, system and archive; then that of a folder.
_ATTRIBUTES_KNOWN, _ATTRIBUTE_FOLDER = 0x27, 0x10

_TYPE_MASK, _REGULAR, _FOLDER, _LINK = 0o170000, 0o100000, 0o040000, 0o120000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member: sizes in bytes, packed and plain; `header` and `data` are offsets."""

    name: str
    flags: int
    method: int
    time: int
    date: int
    crc: int
    packed: int
    size: int
    attributes: int
    header: int
    data: int = 0

    @property
    def is_folder(self) -> bool:
        """Whether it only makes a folder."""
        return self.name.endswith("/")

    @property
    def mode(self) -> int:
        """Type and permissions, as Unix has them; 0 from other systems."""
        return self.attributes >> 16


def read_directory(
    file: io.FileIO, start: int, end: int, count: int, problems: list[str]
) -> Iterator[Entry]:
    """Yield its entries; what is wrong with one goes to `problems`. Raises `Malformed`."""
    data = read_at(file, start, end - start, "the central directory")
    at = 0
    for number in range(1, count + 1):
        what = f"entry {number} of the central directory"
        if at + CENTRAL.size > len(data):
            raise Malformed(f"{what}: the directory ends before it")
        (
            signature, _, needed, flags, method, time, date, crc, packed, size, name_length,
            extra_length, comment_length, disk, internal, attributes, header,
        ) = CENTRAL.unpack_from(data, at)  # fmt: skip
        if signature != CENTRAL_SIGNATURE:
            raise Malformed(f"{what}: is not one")
        at += CENTRAL.size
        raw = data[at : at + name_length]
        extra = data[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment_length
        if at > len(data):
            raise Malformed(f"{what}: the directory ends before it")
        name = _name(raw, what)
        wide = wide_values(extra, name, [v == LIMIT_32 for v in (size, packed, header)])
        size, packed, header = (
            w if w is not None else v for w, v in zip(wide, (size, packed, header), strict=True)
        )
        entry = Entry(
            name=name, flags=flags, method=method, time=time, date=date, crc=crc, packed=packed,
            size=size, attributes=attributes, header=header,
        )  # fmt: skip
        found = list(_wrong_with(entry, needed, disk, comment_length, internal))
        problems += [f"{name}: {problem}" for problem in found]
        yield entry
    if at != len(data):
        raise Malformed(f"the central directory holds {len(data) - at} bytes behind its entries")


def _name(raw: bytes, what: str) -> str:
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed(f"{raw!r}: {what} has a name that is not ASCII") from None
    # As it stands in the file: some readers stop at a NUL, and the server's does not.
    if not is_plain(name.removesuffix("/")):
        raise Malformed(f"{name!r}: not a plain relative name")
    return name


def _wrong_with(entry: Entry, needed: int, disk: int, comment: int, internal: int) -> Iterator[str]:
    if needed > VERSION_64:
        yield f"needs a reader of zip {needed / 10:.1f}"
    if entry.flags & _FLAG_ENCRYPTED:
        yield "is encrypted"
    elif unknown := entry.flags & ~_FLAGS_KNOWN:
        yield f"has flags that TorchServe does not know: {unknown:#x}"
    if entry.method not in (STORED, DEFLATED):
        yield f"compressed by method {entry.method}, which TorchServe cannot read"
    if entry.method == STORED and entry.flags & FLAG_DESCRIPTOR:
        yield "is stored with a data descriptor, which TorchServe refuses"
    if entry.method == STORED and entry.packed != entry.size:
        yield f"is stored, and of two sizes: {entry.packed} and {entry.size} bytes"
    if entry.mode & _TYPE_MASK == _LINK:
        yield "is a symbolic link"
    elif entry.mode & _TYPE_MASK not in (0, _FOLDER if entry.is_folder else _REGULAR):
        yield f"is neither a file nor a folder: its mode is {entry.mode:o}"
    # Java's own tools deflate folders, to no bytes.
    if entry.is_folder and entry.size:
        yield "is a folder with content"
    known = _ATTRIBUTES_KNOWN | (_ATTRIBUTE_FOLDER if entry.is_folder else 0)
    if odd := entry.attributes & 0xFFFF & ~known:
        yield f"has attributes that it cannot have: {odd:#x}"
    # Only the lowest bit is in use: it says that a member is text.
    if internal > 1:
        yield f"has internal attributes that are not in use: {internal:#x}"
    if disk:
        yield "lies in another file of a split archive"
    if comment:
        yield f"has a comment of {comment} bytes"


def wide_values(extra: bytes, name: str, wanted: list[bool]) -> list[int | None]:
    """Return the wide values that `wanted` asks for; everything in the field must be asked for."""
    wide: list[int | None] = [None] * len(wanted)
    seen = set()
    at = 0
    while at < len(extra):
        if at + 4 > len(extra):
            raise Malformed(f"{name}: its extra field is cut off")
        kind, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        if len(field) != length:
            raise Malformed(f"{name}: its extra field is cut off")
        if kind not in _EXTRAS_KNOWN:
            raise Malformed(f"{name}: has an extra field {kind:#06x}, which may change what it is")
        if kind in seen:
            raise Malformed(f"{name}: has an extra field {kind:#06x} twice")
        if length > _EXTRAS_KNOWN[kind]:
            raise Malformed(f"{name}: has an extra field {kind:#06x} of {length} bytes")
        seen.add(kind)
        if kind == EXTRA_ZIP64:
            if length != 8 * sum(wanted):
                raise Malformed(f"{name}: its zip64 field does not fit the header")
            values = iter(struct.unpack(f"<{length // 8}Q", field))
            wide = [next(values) if want else None for want in wanted]
        at += 4 + length
    if any(wanted) and EXTRA_ZIP64 not in seen:
        raise Malformed(f"{name}: its zip64 field is missing")
    return wide
