"""Walk a zip file's structure, header by header, before anything of it is unpacked.

TorchServe reads the local headers one after another and never looks at the central directory;
other tools do the opposite. So the two must agree in everything, and every byte of the file must
belong to exactly one record that both know.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import replace

from marwright.archive.container.budget import Budget
from marwright.archive.container.limits import size_problems
from marwright.archive.container.types import Malformed
from marwright.archive.container.zip_directory import (
    FLAG_DESCRIPTOR,
    Entry,
    read_directory,
    wide_values,
)
from marwright.archive.container.zip_end import find_directory, read_at
from marwright.archive.container.zip_format import (
    DESCRIPTOR_SIGNATURE,
    LIMIT_32,
    LOCAL,
    LOCAL_SIGNATURE,
    VERSION_64,
)
from marwright.archive.names import collisions


def walk(file: io.FileIO, size: int, budget: Budget) -> tuple[list[Entry], list[str]]:
    """Return the members in the order of the file, and what is wrong with the structure.

    With any problem, nothing of the file may be unpacked.
    """
    problems: list[str] = []
    try:
        start, count, end = find_directory(file, size, budget)
        listed = list(read_directory(file, start, end, count, problems))
        problems += size_problems((entry.size for entry in listed), size)
        listed.sort(key=lambda entry: entry.header)
        entries = list(_follow(file, listed, start, problems, budget))
    except Malformed as problem:
        return [], [*problems, str(problem)]
    return entries, [*problems, *collisions([entry.name for entry in entries])]


def _follow(
    file: io.FileIO, listed: list[Entry], end: int, problems: list[str], budget: Budget
) -> Iterator[Entry]:
    """Compare each local header with the directory; they must follow each other without a gap."""
    at = 0
    for number, entry in enumerate(listed):
        budget.check()
        if entry.header != at:
            what = "overlaps what is before it" if entry.header < at else (
                f"begins {entry.header - at} bytes after what is before it: something is hidden "
                "there"
            )  # fmt: skip
            raise Malformed(f"{entry.name}: {what}")
        following = listed[number + 1].header if number + 1 < len(listed) else end
        data = _check_local(file, entry, problems)
        at = data + entry.packed
        if entry.flags & FLAG_DESCRIPTOR:
            at += _check_descriptor(file, entry, at, following - at)
        yield replace(entry, data=data)
    if at != end:
        raise Malformed(
            f"{abs(end - at)} bytes between the last member and the central directory: a member "
            "is hidden there"
            if at < end
            else "the last member reaches into the central directory"
        )


def _check_local(file: io.FileIO, entry: Entry, problems: list[str]) -> int:
    """Return where the member's bytes begin."""
    name = entry.name
    fields = LOCAL.unpack(read_at(file, entry.header, LOCAL.size, f"{name}: its local header"))
    (
        signature, needed, flags, method, time, date, crc, packed, size, name_length, extra_length,
    ) = fields  # fmt: skip
    if signature != LOCAL_SIGNATURE:
        raise Malformed(f"{name}: there is no local header where the directory says")
    rest = read_at(file, entry.header + LOCAL.size, name_length + extra_length, f"{name}: its name")
    if rest[:name_length] != name.encode("ascii"):
        raise Malformed(f"{name}: its local header calls it {rest[:name_length]!r}")
    if needed > VERSION_64:
        problems.append(f"{name}: its local header needs a reader of zip {needed / 10:.1f}")
    large = [size == LIMIT_32, packed == LIMIT_32]
    if any(large) and not all(large):
        raise Malformed(
            f"{name}: its local header has one size in a zip64 field; both belong there"
        )
    wide = wide_values(rest[name_length:], name, large)
    size, packed = (w if w is not None else v for w, v in zip(wide, (size, packed), strict=True))
    if entry.flags & FLAG_DESCRIPTOR and any(large) and not _is_large(entry):
        problems.append(
            f"{name}: has a data descriptor, and a zip64 field that it does not need: Java's "
            "versions differ in how they read that"
        )
    found = {"flags": flags, "method": method, "time": time, "date": date}
    # Behind a descriptor's flag they may be zero: the descriptor says them then.
    if not entry.flags & FLAG_DESCRIPTOR or any((crc, packed, size)):
        found |= {"crc": crc, "packed": packed, "size": size}
    for field, value in found.items():
        if value != getattr(entry, field):
            problems.append(
                f"{name}: its local header and the central directory disagree on {_WORDS[field]}"
            )
    return int(entry.header + LOCAL.size + name_length + extra_length)


_WORDS = {
    "flags": "its flags",
    "method": "how it is compressed",
    "time": "its time",
    "date": "its date",
    "crc": "its CRC-32",
    "packed": "its compressed size",
    "size": "its size",
}


def _is_large(entry: Entry) -> bool:
    return max(entry.size, entry.packed) > LIMIT_32


def _check_descriptor(file: io.FileIO, entry: Entry, at: int, room: int) -> int:
    """Return the length of the data descriptor behind a member; its signature may be missing.

    Its sizes are wide for a large member and for no other: Java's reader goes by the size, and
    after an empty member with wide ones it takes the rest of the archive for not there.
    """
    form = "<I2Q" if _is_large(entry) else "<3I"
    bare = struct.pack(form, entry.crc, entry.packed, entry.size)
    forms = (bare, DESCRIPTOR_SIGNATURE + bare)
    fits = room in map(len, forms)
    if not fits or read_at(file, at, room, f"{entry.name}: its descriptor") not in forms:
        raise Malformed(f"{entry.name}: what follows it is not its data descriptor")
    return room
