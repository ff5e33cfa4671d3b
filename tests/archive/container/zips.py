"""Zips built by hand: honest, but for the fields that are given other values."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Field = int | bytes
Fields = Mapping[str, Field]

# Field by field in the order of the specification, with struct's letters for their widths.
_LOCAL = {
    "signature": "4s", "needed": "H", "flags": "H", "method": "H", "time": "H", "date": "H",
    "crc": "I", "packed": "I", "size": "I", "name_length": "H", "extra_length": "H",
}  # fmt: skip
_CENTRAL = {
    "signature": "4s", "made": "H", "needed": "H", "flags": "H", "method": "H", "time": "H",
    "date": "H", "crc": "I", "packed": "I", "size": "I", "name_length": "H", "extra_length": "H",
    "comment_length": "H", "disk": "H", "internal": "H", "attributes": "I", "offset": "I",
}  # fmt: skip
_END64 = {
    "signature": "4s", "rest": "Q", "made": "H", "needed": "H", "disk": "I", "start_disk": "I",
    "here": "Q", "count": "Q", "length": "Q", "start": "Q",
}  # fmt: skip
_LOCATOR = {"signature": "4s", "disk": "I", "offset": "Q", "disks": "I"}
_END = {
    "signature": "4s", "disk": "H", "start_disk": "H", "here": "H", "count": "H", "length": "I",
    "start": "I", "comment_length": "H",
}  # fmt: skip

MODE = 0o100644 << 16


def deflate(content: bytes) -> bytes:
    """Return a raw deflate stream."""
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(content) + squeeze.flush()


def extra(kind: int, content: bytes) -> bytes:
    """Return an extra field."""
    return struct.pack("<2H", kind, len(content)) + content


def zip64(*values: int) -> bytes:
    """Return the extra field of wide values."""
    return extra(1, struct.pack(f"<{len(values)}Q", *values))


@dataclass(frozen=True)
class Member:
    """One member. `both`, `local` and `central` override fields of its headers.

    `packed` are its bytes in the archive, which `content` gives when they are not given. With
    `descriptor` (struct's letters for its numbers, `4s` in front for the signature) its sums
    stand behind it. `before` is put in front of its local header, and what is not `here` or not
    `listed` is left out of one of the two places.
    """

    name: str
    content: bytes = b"weights"
    deflated: bool = False
    packed: bytes | None = None
    descriptor: str = ""
    both: Fields = field(default_factory=dict)
    local: Fields = field(default_factory=dict)
    central: Fields = field(default_factory=dict)
    before: bytes = b""
    here: bool = True
    listed: bool = True

    def data(self) -> bytes:
        """Return its bytes in the archive."""
        if self.packed is not None:
            return self.packed
        return deflate(self.content) if self.deflated else self.content

    def sums(self) -> dict[str, Field]:
        """Return its checksum and sizes."""
        packed = self.data()
        crc = zlib.crc32(self.content)
        return {"crc": crc, "packed": len(packed), "size": len(self.content)}


Pieces = list[tuple[str, bytes]]


def pieces(
    *members: Member,
    gap: bytes = b"",
    inside: bytes = b"",
    end64: Fields | None = None,
    locator: Fields | None = None,
    end: Fields | None = None,
    behind: bytes = b"",
) -> Pieces:
    """Return what a zip consists of, each with what it is.

    `gap` stands before the central directory, `inside` at its end, `behind` after everything;
    with `end64` or `locator` there are zip64 records.
    """
    made: Pieces = []
    central: Pieces = []
    for member in members:
        made.append(("hidden", member.before))
        offset = size_of(made)
        if member.here:
            made += _local(member)
        if member.listed:
            central += _central(member, offset)
    made.append(("hidden", gap))
    start = size_of(made)
    made += [*central, ("hidden", inside)]
    count = sum(member.listed for member in members)
    facts = {"disk": 0, "start_disk": 0, "here": count, "count": count, "start": start}
    facts["length"] = size_of(made) - start
    after = size_of(made)
    if end64 is not None or locator is not None:
        values = {"signature": b"PK\6\6", "rest": 44, "made": 0x032D, "needed": 45, **facts}
        made += _record("zip64 end", _END64, {**values, **(end64 or {})})
        values = {"signature": b"PK\6\7", "disk": 0, "offset": after, "disks": 1}
        made += _record("locator", _LOCATOR, {**values, **(locator or {})})
    values = {"signature": b"PK\5\6", "comment_length": 0, **facts}
    made += _record("end", _END, {**values, **(end or {})})
    return [*made, ("hidden", behind)]


def zip_of(
    *members: Member,
    gap: bytes = b"",
    inside: bytes = b"",
    end64: Fields | None = None,
    locator: Fields | None = None,
    end: Fields | None = None,
    behind: bytes = b"",
) -> bytes:
    """Return the zip that `pieces` describes."""
    made = pieces(
        *members, gap=gap, inside=inside, end64=end64, locator=locator, end=end, behind=behind
    )
    return b"".join(data for _, data in made)


def one(name: str = "a.txt", content: bytes = b"alpha", **changes: Any) -> bytes:
    """Return a zip of one member."""
    return zip_of(Member(name, content, **changes))


def size_of(made: Pieces) -> int:
    """Return how many bytes pieces have together."""
    return sum(len(data) for _, data in made)


def _record(kind: str, letters: Mapping[str, str], values: Fields) -> Pieces:
    return [
        (f"{kind} {key}", struct.pack(f"<{form}", values[key])) for key, form in letters.items()
    ]


def _common(member: Member) -> dict[str, Field]:
    return {
        "needed": 20, "flags": 8 if member.descriptor else 0, "method": 8 if member.deflated else 0,
        "time": 0, "date": 33, "name": member.name.encode(), "extra": b"", **member.sums(),
    }  # fmt: skip


def _local(member: Member) -> Pieces:
    zero = {"crc": 0, "packed": 0, "size": 0} if member.descriptor else {}
    values = {"signature": b"PK\3\4", **_common(member), **zero, **member.both, **member.local}
    made = _with_lengths("local", _LOCAL, values, ("name", "extra"))
    made.append(("data", member.data()))
    if member.descriptor:
        signature = (b"PK\7\x08",) if "s" in member.descriptor else ()
        sums = (*signature, *member.sums().values())
        made.append(("descriptor", struct.pack(f"<{member.descriptor}", *sums)))
    return made


def _central(member: Member, offset: int) -> Pieces:
    fixed = {"made": 0x0314, "disk": 0, "internal": 0, "attributes": MODE, "comment": b""}
    values = {"signature": b"PK\1\2", **_common(member), **fixed, "offset": offset}
    values = {**values, **member.both, **member.central}
    return _with_lengths("central", _CENTRAL, values, ("name", "extra", "comment"))


def _with_lengths(
    kind: str, letters: Mapping[str, str], values: Fields, texts: tuple[str, ...]
) -> Pieces:
    contents = {key: bytes(values[key]) for key in texts}
    lengths = {f"{key}_length": len(content) for key, content in contents.items()}
    made = _record(kind, letters, {**lengths, **values})
    return [*made, *((f"{kind} {key}", content) for key, content in contents.items())]
