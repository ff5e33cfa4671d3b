"""Small images, and specs that leave their pixels as they are."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from marwright.runtime.spec import ImageSpec


def image_spec(channels: int = 3, size: tuple[int, int] = (4, 4), **values: Any) -> ImageSpec:
    """A spec that leaves pixels from 0 to 1 as they are; `size` is (width, height)."""
    plain: dict[str, Any] = {
        "fit": "stretch",
        "interpolation": "nearest",
        "mean": (0.0,) * channels,
        "std": (1.0,) * channels,
    }
    return ImageSpec(channels=channels, width=size[0], height=size[1], **plain | values)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int = 12, height: int = 8, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)
