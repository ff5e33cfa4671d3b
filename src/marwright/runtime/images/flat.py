"""Images of any mode, as Pillow has them: grey or RGB, with white where they are transparent."""

from __future__ import annotations

import numpy as np
from PIL import Image

from marwright.runtime.request import BadRequest

_OPAQUE = ("L", "RGB")


def over_white(image: Image.Image) -> Image.Image:
    """Return a decoded image as L or RGB; what is transparent shows the page, and pages are white.

    Of sixteen bits the upper eight are taken. Raises `BadRequest` for floats, whose range nobody
    knows.
    """
    key = image.info.get("transparency")
    if image.mode == "F":
        raise BadRequest("the image's pixels are floats; send 8 or 16 bits a channel")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _reduced(image, key)
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.mode == "LA":
        white = Image.new("L", image.size, 255)
        white.paste(image.getchannel("L"), mask=image.getchannel("A"))
        return white
    if "A" in image.getbands() or key is not None:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode in _OPAQUE:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _reduced(image: Image.Image, key: object) -> Image.Image:
    values = np.asarray(image)
    flat = np.clip(values >> 8, 0, 255).astype(np.uint8)
    if isinstance(key, int):
        flat[values == key] = 255
    return Image.fromarray(flat)
