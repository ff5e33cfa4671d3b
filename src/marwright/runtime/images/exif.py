"""The one thing that EXIF says about pixels: how the camera was held (Exif 2.3, section 4.6.4).

Read here, because Pillow reads all tags, each of which may claim all of the file as its value.
"""

from __future__ import annotations

import struct

from PIL import Image

_ORIENTATION = 0x0112
_FORMATS = {1: "B", 3: "H", 4: "I"}
# What turns an image upright that was stored in this orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8; 1 where there is none, and where EXIF is damaged."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(order + "HHI", tiff, at)
            if tag == _ORIENTATION:
                if kind not in _FORMATS or values != 1:
                    return 1
                (found,) = struct.unpack_from(order + _FORMATS[kind], tiff, at + 8)
                return found if found in _UPRIGHT else 1
    except struct.error:
        pass
    return 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image upright."""
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)
