"""Decode an image, in a request or among training's files: the one way from bytes to pixels."""

from __future__ import annotations

import struct

from PIL import Image

from handlers.images import bmp, gif, jpeg, png, webp
from handlers.images.budget import damaged
from handlers.images.exif import orientation, turned
from handlers.images.flat import over_white
from handlers.request import BadRequest

# What a person may send. Pillow knows many more formats; each is code that a stranger's bytes
# could reach.
MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "GIF": "image/gif",
}
IMAGE_FORMATS = tuple(MEDIA_TYPES)
# Of Pillow's names; cameras add a preview to a JPEG, and Pillow calls it MPO.
_OURS = (*IMAGE_FORMATS, "MPO")
# What Pillow raises on damaged bytes, depending on where they are.
DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError,
           struct.error, Image.DecompressionBombError, Image.DecompressionBombWarning)  # fmt: skip
# Of the shortest header.
_SHORTEST = 26


def format_of(content: bytes) -> str:
    """Return a file's format by its first bytes, "" if it is none of `IMAGE_FORMATS`."""
    if len(content) < _SHORTEST:
        return ""
    if content[:8] == png.SIGNATURE:
        return "PNG" if content[12:16] == b"IHDR" else ""
    if content[:3] == jpeg.SIGNATURE:
        return "JPEG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[:2] == bmp.SIGNATURE:
        return "BMP"
    return "GIF" if content[:6] in gif.SIGNATURES else ""


def open_image(
    content: bytes | bytearray, draft: tuple[str, tuple[int, int]] | None = None
) -> Image.Image:
    """Decode an image: upright, opaque, L or RGB; what was transparent is white.

    Of an animation it is the first frame. Colour profiles and gamma do not count. `draft` lets a
    JPEG be decoded faster, near a size. Raises `BadRequest` for anything that is not a readable
    image within the budget of `handlers/images/budget.py`.
    """
    content = bytes(content)
    held = 1
    try:
        match format_of(content):
            case "PNG":
                image, held = png.decode(content)
            case "JPEG":
                image, held = jpeg.decode(content, draft)
            case "WEBP":
                image, held = webp.decode(content)
            case "BMP":
                image = bmp.decode(content)
            case "GIF":
                image = gif.decode(content)
            case _:
                known = ", ".join(IMAGE_FORMATS)
                raise BadRequest(f"not an image of a known format ({known})")
    except DAMAGED as error:
        raise damaged(str(error)) from None
    return turned(image, held)


def opaque(image: Image.Image) -> Image.Image:
    """Return any image of Pillow's upright and opaque, as L or RGB; see `open_image`."""
    file = getattr(image, "fp", None)
    if image.format in _OURS and getattr(image, "tile", None) and file is not None:
        file.seek(0)
        return open_image(file.read())
    if not image.info and type(image) is Image.Image:
        return over_white(image)
    # What stands behind the pixels in the file is only known then, transparency for one.
    image.load()
    return turned(over_white(image), orientation(image.info.get("exif", b"")))
