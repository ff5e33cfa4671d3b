"""From samples to arrays: the one implementation that training and serving share.

Training calls `image_array`, `table_array` and `text_array` on its samples, and
`runtime/read.py` on what it reads from requests. Every array is C-contiguous. An edit here
retrains every model, so nothing else is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from marwright.runtime.images.decode import opaque
from marwright.runtime.request import trimmed
from marwright.runtime.spec import PADDING, ImageSpec, TableSpec, TextSpec

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def image_array(image: Image.Image, spec: ImageSpec) -> NDArray[np.float32]:
    """Turn an image into a normalised float32 array `(C, H, W)`."""
    return normalised(image_pixels(image, spec), spec)


def image_pixels(image: Image.Image, spec: ImageSpec) -> NDArray[np.uint8]:
    """Turn an image into pixels uint8 `(C, H, W)`: upright, its channels and its size as wanted."""
    image = upright(image, spec.channels)
    if image.size != (spec.width, spec.height):
        resampling = _RESAMPLING[spec.interpolation]
        size = (spec.width, spec.height)
        if spec.fit == "crop":
            image = ImageOps.fit(image, size, resampling)
        else:
            image = image.resize(size, resampling)
    # A copy, because torch wants memory that it may write to.
    pixels = np.array(image, dtype=np.uint8).reshape(spec.height, spec.width, spec.channels)
    return pixels.transpose(2, 0, 1).copy()


def normalised(pixels: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.float32]:
    """Scale pixels uint8 `(…, C, H, W)` to 0…1 and normalise them; returns float32."""
    values = pixels.astype(np.float32, order="C")
    values /= np.float32(255)
    values -= np.array(spec.mean, dtype=np.float32)[:, None, None]
    values /= np.array(spec.std, dtype=np.float32)[:, None, None]
    return values


def upright(image: Image.Image, channels: int) -> Image.Image:
    """Return an image turned by its EXIF orientation, grey (1 channel) or RGB (3).

    One that Pillow opened and did not yet decode is decoded from its bytes, as in a request; of one
    that is decoded, what Pillow kept of transparency and EXIF counts. Raises `BadRequest`.
    """
    return opaque(image).convert("L" if channels == 1 else "RGB")


def table_array(rows: NDArray[np.float64], spec: TableSpec) -> NDArray[np.float32]:
    """Turn rows float64 `(N, columns)` into float32 `(N, features)`, infinite where it overflows.

    A category is its index, and what is missing is NaN.
    """
    features: list[NDArray[Any]] = []
    with np.errstate(over="ignore"):
        for place, categories in enumerate(spec.categories):
            column = rows[:, place]
            if categories:
                features += [column == index for index in range(len(categories))]
                continue
            missing = np.isnan(column) & spec.optional[place]
            known = np.where(missing, spec.fill[place], column)
            features.append((known - spec.center[place]) / spec.scale[place])
            if spec.optional[place]:
                features.append(missing)
        return np.stack(features, axis=1).astype(np.float32)


def text_array(texts: Sequence[str], spec: TextSpec) -> NDArray[np.int64]:
    """Turn texts into int64 `(N, L)`, L that of the longest and at least 1.

    A number is a byte's value plus 1, and padding stands behind. A text that is too long is cut
    behind its last whole character.
    """
    contents = [text_bytes(text, spec) for text in texts]
    return padded([np.frombuffer(content, dtype=np.uint8) for content in contents])


def text_bytes(text: str, spec: TextSpec) -> bytes:
    """Return what is read of a text: its UTF-8, cut behind the last whole character that fits.

    Blanks around it and a byte order mark in front are no part of it, in training and in requests.
    """
    content = trimmed(text).encode()
    if len(content) <= spec.max_bytes:
        return content
    # Of valid UTF-8, only the end of a cut can be in error.
    return content[: spec.max_bytes].decode(errors="ignore").encode()


def padded(contents: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """Turn bytes uint8 `(length,)` each into the numbers of a batch: int64 `(N, L)`."""
    longest = max([1, *map(len, contents)])
    rows = np.full((len(contents), longest), PADDING, dtype=np.int64)
    for row, content in zip(rows, contents, strict=True):
        row[: len(content)] = content
        row[: len(content)] += 1
    return rows


def batched(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Join samples `(n, …)` of several requests; texts are padded to the longest of them."""
    if parts[0].dtype != np.int64:
        return np.concatenate(parts)
    longest = max(part.shape[1] for part in parts)
    return np.concatenate(
        [
            np.pad(part, ((0, 0), (0, longest - part.shape[1])), constant_values=PADDING)
            for part in parts
        ]
    )
