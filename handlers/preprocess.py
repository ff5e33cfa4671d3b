"""From samples to tensors: the one implementation that training and serving share.

Training calls `image_tensor` and `table_tensor` on its samples, and `handlers/read.py` on what it
reads from requests. An edit here retrains every model, so nothing else is here.
"""

from __future__ import annotations

import struct

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

from handlers.spec import ImageSpec, TableSpec

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# What turns an image upright that was stored in this orientation (Exif 2.3, section 4.6.4).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def image_tensor(image: Image.Image, spec: ImageSpec) -> torch.Tensor:
    """Turn an image into a normalised float32 tensor `(C, H, W)`."""
    image = _as_channels(_upright(image), spec.channels)
    if image.size != (spec.width, spec.height):
        resampling = _RESAMPLING[spec.interpolation]
        size = (spec.width, spec.height)
        if spec.fit == "crop":
            image = ImageOps.fit(image, size, resampling)
        else:
            image = image.resize(size, resampling)
    # A copy, because torch wants memory that it may write to.
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).reshape(
        spec.height, spec.width, spec.channels
    )
    scaled = pixels.permute(2, 0, 1) / 255.0
    mean = torch.tensor(spec.mean, dtype=torch.float32)[:, None, None]
    std = torch.tensor(spec.std, dtype=torch.float32)[:, None, None]
    return ((scaled - mean) / std).contiguous()


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image by its EXIF orientation; damaged EXIF says nothing, as in any viewer.

    Not `ImageOps.exif_transpose`, which fails on damaged EXIF, and on some that it cannot rewrite.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, TypeError, LookupError, OSError, struct.error):
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _as_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Sixteen bits a pixel: Pillow's own conversion clips at 255 instead of scaling.
        image = Image.fromarray(np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        # What is transparent shows the page behind it, and pages are white.
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("L" if channels == 1 else "RGB")


def table_tensor(rows: np.ndarray, spec: TableSpec) -> torch.Tensor:
    """Standardise float64 rows `(N, F)`; returns float32 `(N, F)`, infinite where it overflows."""
    mean, std = np.array(spec.mean), np.array(spec.std)
    with np.errstate(over="ignore"):
        return torch.from_numpy(((rows - mean) / std).astype(np.float32))
