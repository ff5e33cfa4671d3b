"""GIF (89a): the first frame, on a white screen."""

from __future__ import annotations

import io
import struct

from PIL import Image

from marwright.runtime.images.budget import damaged, require_parts, require_size, require_work

_WHITE = b"\xff\xff\xff"
_PER_PIXEL = 7.0
_PER_FILE_BYTE = 8.0


def decode(content: bytes) -> Image.Image:
    """Return a GIF's first frame on its screen, as RGB. Raises `BadRequest`."""
    try:
        return _decoded(content)
    except (struct.error, IndexError):
        raise damaged("it ends in its header") from None


def _decoded(content: bytes) -> Image.Image:
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    require_size(max(width, 1), max(height, 1))
    table, at = _table(content, 13, flags)
    at, transparent = _first_frame(content, at)
    x, y, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", content, at + 1)
    own, at = _table(content, at + 10, flags)
    # A frame that reaches beyond the screen widens it, as in other viewers.
    size = max(width, x + frame_width), max(height, y + frame_height)
    require_size(frame_width, frame_height)
    require_size(*size)
    pixels = size[0] * size[1]
    require_work(
        pixels,
        pixels * _PER_PIXEL + len(content) * _PER_FILE_BYTE,
        f"{size[0]}×{size[1]} pixels of GIF",
    )
    colours = bytearray((own or table or _ramp()).ljust(768, b"\0"))
    if transparent is not None:
        colours[3 * transparent : 3 * transparent + 3] = _WHITE
    # One frame, its colours and nothing else: no transparency, extensions or later frames.
    head = struct.pack("<6sHHBBB", b"GIF89a", frame_width, frame_height, 0xF7, 0, 0)
    place = struct.pack("<cHHHHB", b",", 0, 0, frame_width, frame_height, flags & 0x40)
    frame = Image.open(io.BytesIO(head + colours + place + content[at:]), formats=("GIF",))
    frame.load()
    if (x, y, *size) == (0, 0, *frame.size):
        return frame.convert("RGB")
    screen = Image.new("RGB", size, (255, 255, 255))
    screen.paste(frame.convert("RGB"), (x, y))
    return screen


def _table(content: bytes, at: int, flags: int) -> tuple[bytes, int]:
    """Return a colour table, if there is one, and where it ends."""
    end = at + (3 << ((flags & 7) + 1)) if flags & 0x80 else at
    return content[at:end], end


def _ramp() -> bytes:
    """Return what stands for a colour table where there is none: greys."""
    return bytes(value for value in range(256) for _ in range(3))


def _first_frame(content: bytes, at: int) -> tuple[int, int | None]:
    """Return where the first frame is described, and its transparent colour."""
    transparent, parts = None, 0
    while content[at] != 0x2C:
        parts += 1
        require_parts(parts, "blocks")
        if content[at] == 0x3B:
            raise damaged("it has no frame")
        if content[at] != 0x21:
            at += 1
            continue
        if content[at + 1] == 0xF9 and content[at + 2] >= 4:
            transparent = content[at + 6] if content[at + 3] & 1 else None
        at += 2
        while content[at]:
            parts += 1
            require_parts(parts, "blocks")
            at += 1 + content[at]
        at += 1
    return at, transparent
