"""Tar archives built by hand, header by header, with what no tool would write."""

from __future__ import annotations

import gzip
import struct

POSIX = b"ustar\x0000"
GNU = b"ustar  \0"
END = bytes(1024)


def header(
    name: bytes,
    size: int | bytes = 0,
    kind: bytes = b"0",
    *,
    magic: bytes = POSIX,
    prefix: bytes = b"",
    rest: bytes = b"",
) -> bytes:
    """Return a header: name, size (its field, if bytes) and type, prefix, and what is behind it."""
    digits = size if isinstance(size, bytes) else b"%011o\0" % size
    owner, changed = b"0000000\0", b"00000000000\0"
    fields = (
        name, b"0000644\0", owner, owner, digits, changed, b" " * 8, kind, b"", magic, b"", b"",
        b"", b"", prefix, rest,
    )  # fmt: skip
    block = struct.pack("<100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12s", *fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(content: bytes) -> bytes:
    """Return content up to the next block."""
    return content + bytes(-len(content) % 512)


def member(name: bytes, content: bytes = b"weights", kind: bytes = b"0", **how: bytes) -> bytes:
    """Return a header and its content; `how` is for the header."""
    return header(name, len(content), kind, **how) + padded(content)  # type: ignore[arg-type]


def pax(*records: tuple[bytes, bytes], raw: bytes = b"", kind: bytes = b"x") -> bytes:
    """Return an extended header with these records, and raw bytes behind them."""
    content = b""
    for key, value in records:
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest)
        while length != len(str(length)) + len(rest):
            length = len(str(length)) + len(rest)
        content += str(length).encode() + rest
    return member(b"PaxHeader", content + raw, kind)


def long_name(name: bytes) -> bytes:
    """Return GNU's header for a long name."""
    return member(b"././@LongLink", name, b"L", magic=GNU)


def packed(*parts: bytes, end: bytes = END) -> bytes:
    """Return a gzip stream of parts and the end record."""
    return gzip.compress(b"".join(parts) + end, mtime=0)
