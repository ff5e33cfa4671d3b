"""WebP: the image, or an animation's first frame, laid over white."""

from __future__ import annotations

import io
import struct

from PIL import Image

from marwright.runtime.images.budget import (
    PER_TRANSPARENT_PIXEL,
    damaged,
    require_size,
    require_work,
)
from marwright.runtime.images.exif import orientation
from marwright.runtime.images.flat import over_white

_ALPHA, _ANIMATED = 0x10, 0x02
_PER_PIXEL = 8.0
_PER_ALPHA = 14.0
_PER_BYTE, _PER_LOSSLESS_BYTE = 32.0, 12.0


def decode(content: bytes) -> tuple[Image.Image, int]:
    """Return a WebP as RGB and its EXIF orientation. Raises `BadRequest`."""
    kind = content[12:16]
    try:
        width, height = _size(kind, content)
    except struct.error:
        raise damaged("it ends in its header") from None
    require_size(width, height)
    extended = kind == b"VP8X"
    pixels = width * height
    lossless = kind == b"VP8L"
    work = pixels * _PER_PIXEL + len(content) * (_PER_LOSSLESS_BYTE if lossless else _PER_BYTE)
    # Alpha has a plane of its own in the extended format, and a bit of the header in the other.
    if extended and content[20] & (_ALPHA | _ANIMATED):
        work += pixels * (PER_TRANSPARENT_PIXEL + _PER_ALPHA)
    elif lossless and content[24] & 0x10:
        work += pixels * PER_TRANSPARENT_PIXEL
    require_work(pixels, work, f"{width}×{height} pixels of WebP in {len(content)} bytes")
    if extended and content[20] & _ANIMATED:
        # What its first frame leaves free is transparent, whatever the file says.
        content = content[:20] + bytes([content[20] | _ALPHA]) + content[21:]
    image = Image.open(io.BytesIO(content), formats=("WEBP",))
    if image.size != (width, height):
        raise damaged("its sizes disagree")
    exif = image.info.get("exif", b"")
    image.load()
    return over_white(image), orientation(exif)


def _size(kind: bytes, content: bytes) -> tuple[int, int]:
    """Return width and height from the first chunk."""
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", content, 24)
        return 1 + low_w + (high_w << 16), 1 + low_h + (high_h << 16)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise damaged("its first chunk is unknown")
