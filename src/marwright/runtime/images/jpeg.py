"""JPEG (ITU-T T.81): baseline and progressive, grey, colour and CMYK.

Pillow is given the segments that make the pixels only: its own parser reads every tag of EXIF, and
joins what is spread over many segments again and again.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass, field

from PIL import Image

from marwright.runtime.images.budget import damaged, require_parts, require_size, require_work
from marwright.runtime.images.exif import orientation
from marwright.runtime.request import BadRequest

# Start of frame: baseline, extended and progressive, in Huffman codes. Others hardly exist.
_FRAMES = (0xC0, 0xC1, 0xC2)
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_HUFFMAN, _SCAN, _QUANTISERS, _RESTARTS, _END = 0xC4, 0xDA, 0xDB, 0xDD, 0xD9
_JFIF, _EXIF, _ADOBE = 0xE0, 0xE1, 0xEE
# Without a length behind them.
_BARE = (0x00, 0x01, *range(0xD0, 0xD9))
_NONE = -1
# What ends a scan: neither a stuffed 0xFF, nor a restart, nor filling.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# Encoders make ten, by hand one makes some more.
_MOST_SCANS = 500
# Of tables in front of the first scan, which Pillow reads in Python.
_MOST_TABLES = 65_536
_MOST_JUNK = 1 << 20
# A block of 64 values: computed once, and visited by each scan that refines it.
_PER_BLOCK = 150.0
_PER_VISIT = 45.0
_PER_SCAN = 10_000.0
_PER_FILE_BYTE = 10.0
_PER_CMYK_PIXEL = 5.0


@dataclass(slots=True)
class _File:
    """What of a file makes its pixels."""

    width: int = 0
    height: int = 0
    # Blocks of each component by its number.
    blocks: dict[int, int] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    tables: int = 0
    scans: int = 0
    visits: int = 0
    orientation: int = 0


def decode(content: bytes, near: tuple[int, int] | None = None) -> tuple[Image.Image, int]:
    """Return a JPEG as grey or RGB and its EXIF orientation. Raises `BadRequest`.

    With `near` it may be decoded to a smaller size, not below that one.
    """
    try:
        file = _parsed(content)
    except (struct.error, IndexError):
        raise damaged("it ends in its header") from None
    _require_cheap(file, len(content))
    image = Image.open(io.BytesIO(b"".join(file.parts)), formats=("JPEG",))
    if near is not None:
        image.draft(None, near)
    image.load()
    return image if image.mode in ("L", "RGB") else image.convert("RGB"), file.orientation


def _parsed(content: bytes) -> _File:
    file, at, parts = _File(), 2, 0
    while at < len(content):
        parts += 1
        require_parts(parts, "segments")
        at, marker = _next_marker(content, at)
        if marker in (_END, _NONE):
            break
        if marker in _BARE:
            continue
        (length,) = struct.unpack_from(">H", content, at)
        body = content[at + 2 : at + length]
        end = at + length
        _take(file, marker, body)
        if marker == _SCAN:
            found = _MARKER.search(content, end)
            stop = found.start() if found else len(content)
            file.parts.append(content[end:stop])
            end = stop
        at = max(end, at + 2)
    if not file.scans:
        raise damaged("it has no pixels")
    file.parts.append(b"\xff\xd9" if at < len(content) or content.endswith(b"\xff\xd9") else b"")
    return file


def _next_marker(content: bytes, at: int) -> tuple[int, int]:
    """Return the next marker and the place behind it; (the end, `_NONE`) if there is none."""
    start = content.find(b"\xff", at)
    if start < 0:
        return len(content), _NONE
    after = start
    while after < len(content) and content[after] == 0xFF:
        after += 1
    if after - at > _MOST_JUNK:
        raise damaged("a megabyte of it is no JPEG")
    return (after + 1, content[after]) if after < len(content) else (after, _NONE)


def _take(file: _File, marker: int, body: bytes) -> None:
    """Keep a segment that makes pixels, and count what it costs."""
    if marker in _OTHER_FRAMES:
        raise BadRequest("the JPEG is neither baseline nor progressive: save it as one of them")
    if marker in _FRAMES:
        _frame(file, body)
    elif marker == _SCAN:
        _scan(file, body)
    elif marker in (_HUFFMAN, _QUANTISERS) and not file.scans:
        file.tables += len(body)
        if file.tables > _MOST_TABLES:
            raise damaged("its tables are too many")
    elif marker == _EXIF:
        if not file.orientation and body[:6] == b"Exif\0\0":
            file.orientation = orientation(body)
        return
    # JFIF and Adobe's marker say what the components are.
    elif marker not in (_HUFFMAN, _QUANTISERS, _RESTARTS) and not (
        (marker == _JFIF and body[:4] == b"JFIF") or (marker == _ADOBE and body[:5] == b"Adobe")
    ):
        return
    file.parts.append(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)


def _frame(file: _File, body: bytes) -> None:
    if file.blocks:
        raise damaged("it has two frames")
    depth, file.height, file.width, count = struct.unpack_from(">BHHB", body)
    if depth != 8 or count not in (1, 3, 4):
        raise BadRequest(
            f"the JPEG has {count} components of {depth} bits; 1, 3 or 4 of 8 are read"
        )
    require_size(file.width, file.height)
    samplings = {body[6 + 3 * i]: divmod(body[7 + 3 * i], 16) for i in range(count)}
    across = max(h for h, _ in samplings.values())
    down = max(v for _, v in samplings.values())
    for number, (h, v) in samplings.items():
        wide = -(-file.width * h // (8 * max(across, 1)))
        high = -(-file.height * v // (8 * max(down, 1)))
        # At least a block, and as many of a component as fill the last unit.
        file.blocks[number] = (wide + h) * (high + v)


def _scan(file: _File, body: bytes) -> None:
    if not file.blocks:
        raise damaged("it has no frame")
    file.scans += 1
    file.visits += sum(file.blocks.get(body[1 + 2 * i], 0) for i in range(body[0]))


def _require_cheap(file: _File, size: int) -> None:
    pixels, blocks = file.width * file.height, sum(file.blocks.values())
    work = blocks * _PER_BLOCK + file.visits * _PER_VISIT
    work += file.scans * _PER_SCAN + size * _PER_FILE_BYTE
    work += pixels * _PER_CMYK_PIXEL if len(file.blocks) == 4 else 0.0
    what = f"{file.width}×{file.height} pixels of JPEG in {file.scans} scans"
    if file.scans > _MOST_SCANS:
        raise BadRequest(
            f"the image takes too long to decode: {file.scans} scans; at most {_MOST_SCANS} are "
            "accepted",
            413,
        )
    require_work(pixels, work, what)
