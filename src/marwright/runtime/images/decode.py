"""Decode an image, in a request or among training's files: the one way from bytes to pixels."""

from __future__ import annotations

import struct

from PIL import Image

from marwright.runtime.images import bmp, gif, jpeg, png, webp
from marwright.runtime.images.budget import damaged
from marwright.runtime.images.exif import orientation, turned
from marwright.runtime.images.flat import over_white
from marwright.runtime.images.formats import IMAGE_FORMATS, format_of
from marwright.runtime.request import BadRequest

# Of Pillow's names; cameras add a preview to a JPEG, and Pillow calls it MPO.
_OURS = (*IMAGE_FORMATS, "MPO")
# What Pillow raises on damaged bytes, depending on where they are.
DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError,
           struct.error, Image.DecompressionBombError, Image.DecompressionBombWarning)  # fmt: skip


def open_image(content: bytes | bytearray, near: tuple[int, int] | None = None) -> Image.Image:
    """Decode an image: upright, opaque, L or RGB; what was transparent is white.

    Of an animation it is the first frame. Colour profiles and gamma do not count. With `near` a
    JPEG may be decoded to a smaller size, not below that one. Raises `BadRequest` for anything
    that is not a readable image within the budget of `handlers/images/budget.py`.
    """
    content = bytes(content)
    held = 1
    try:
        match format_of(content):
            case "PNG":
                image, held = png.decode(content)
            case "JPEG":
                image, held = jpeg.decode(content, near)
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
    image = turned(image, held)
    # `opaque` goes by what an image carries along, and would turn this one again.
    image.info = {}
    return image


def opaque(image: Image.Image) -> Image.Image:
    """Return any image of Pillow's upright and opaque, as L or RGB; see `open_image`."""
    file = getattr(image, "fp", None)
    is_lazy = bool(getattr(image, "tile", None)) and image.tell() == 0
    if is_lazy and file is not None and image.format in _OURS:
        file.seek(0)
        return open_image(file.read())
    if not image.info and type(image) is Image.Image:
        return over_white(image)
    # What stands behind the pixels in the file is only known then, transparency for one.
    image.load()
    return turned(over_white(image), orientation(image.info.get("exif", b"")))
